"""Jinja templates filled in, each page with its style and script. This module knows no run.

Values are untrusted: the templates escape them, and a content security policy allows the script of the page only.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup
from PIL import Image

from cpp.files.quantities import format_duration, format_percent

LISTED = 5_000  # clusters on the main page, at most; the other pages have all of them
ON_A_PAGE = 50  # clusters on each of the other pages
SCRIPTS = (
    "report.js",
    "list.js",
    "viewer.js",
    "files.js",
    "decisions.js",
    "undo_redo.js",
    "leaving.js",
    "decided.js",
    "selection.js",
    "bar.js",
    "workbench.js",
    "map_names.js",
    "map_moves.js",
    "map.js",
)  # the files of the pages' one script, in the order in which they run
LONG = 1.8  # a picture is shown whole, not cropped to a square, if the ratio of its sides is larger


def page_of(cluster: int) -> str:
    """The path, from the main page, of the page that has all pictures of a cluster."""
    return f"pages/clusters-{cluster // ON_A_PAGE:05d}.html"


def fill(template: str, scripts: Sequence[str] = SCRIPTS, /, **values: Any) -> str:
    """A template of `cpp/report/templates` with the style and the script of the pages.

    A table cell is a text, an integer (shown with commas), a share (shown as a percentage) or None (shown as a dash).
    """
    folder = resources.files("cpp.report") / "templates"
    script = "\n".join((folder / name).read_text(encoding="utf-8") for name in scripts)
    style = (folder / "report.css").read_text(encoding="utf-8")
    allowed = base64_text(hashlib.sha256(script.encode()).digest())
    page = _environment().get_template(template)
    return page.render(**values, script=Markup(script), style=Markup(style), allowed=allowed)  # noqa: S704 (our files)


def base64_text(data: bytes) -> str:
    """Bytes as a page contains them."""
    return base64.b64encode(data).decode()


def is_long(data: bytes) -> bool:
    """Whether a picture, as WebP, is too long to be recognized when it is cropped to a square."""
    with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
        return max(image.size) > LONG * min(image.size)


def fixed(value: float | None, digits: int) -> str | None:
    """A number with `digits` decimals; None stays None."""
    return None if value is None else f"{value:.{digits}f}"


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cpp.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    numbers = {"count": "{:,}".format, "percent": format_percent, "duration": format_duration, "fixed": fixed}
    environment.filters |= {**numbers, "base64": base64_text}
    environment.tests["long"] = is_long
    environment.globals |= {"page_of": page_of, "on_a_page": ON_A_PAGE, "listed": LISTED}
    return environment
