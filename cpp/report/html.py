"""Jinja templates filled in, each page with its style and script. This module knows no run.

Values are untrusted: the templates escape them, and a content security policy allows the script of the page only.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from cpp.files.quantities import format_duration, format_percent

LISTED = 5_000  # clusters on the main page, at most; the other pages have all of them
ON_A_PAGE = 50  # clusters on each of the other pages
ROOM = 23_000_000  # bytes of the pictures and texts on a page, so that the whole page has less than 25 MB


def page_of(cluster: int) -> str:
    """The path, from the main page, of the page that has all pictures of a cluster."""
    return f"pages/clusters-{cluster // ON_A_PAGE:05d}.html"


def base64_size(data: bytes | None) -> float:
    """The bytes that a picture takes on a page."""
    return 4 / 3 * len(data or b"")


def script_json(value: Any) -> str:
    """JSON that is safe in a `<script>`, whatever its strings contain."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def fill(template: str, **values: Any) -> str:
    """A template of `cpp/report/templates` with the style and the script of the pages."""
    script, style = source("report.js"), source("report.css")
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = _environment().get_template(template)
    return page.render(**values, script=Markup(script), style=Markup(style), allowed=allowed)  # noqa: S704 (our files)


def source(name: str) -> str:
    """The text of a file of `cpp/report/templates`."""
    return (resources.files("cpp.report") / "templates" / name).read_text(encoding="utf-8")


def fixed(value: float | None, digits: int) -> str | None:
    """A number with `digits` decimals; None stays None."""
    return None if value is None else f"{value:.{digits}f}"


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(source),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    numbers = {"count": "{:,}".format, "percent": format_percent, "duration": format_duration, "fixed": fixed}
    environment.filters |= numbers
    environment.globals |= {"page_of": page_of, "on_a_page": ON_A_PAGE, "listed": LISTED}
    return environment
