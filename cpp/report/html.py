"""Jinja templates filled in, each page with its style and script. This module knows no run.

Values are untrusted: the templates escape them, and a content security policy allows the script of the page only.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup

from cpp.files.quantities import format_duration, percent

LISTED = 5_000  # clusters on the main page, at most; the other pages have all of them
ON_A_PAGE = 50  # clusters on each of the other pages
BYTES = 24_000_000  # of a page, at most
BASE64 = 4 / 3


def page_of(cluster: int) -> str:
    """The path, from the main page, of the page that has all pictures of a cluster."""
    return f"pages/clusters-{cluster // ON_A_PAGE:05d}.html"


def script_json(value: Any) -> str:
    """JSON that is safe in a `<script>`, whatever its strings contain."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def fill(template: str, **values: Any) -> str:
    """A template of `cpp/report/templates` with the style and the script of the pages."""
    script, style = source("report.js"), source("report.css")
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = _templates().get_template(template)
    return page.render(**values, script=Markup(script), style=Markup(style), allowed=allowed)  # noqa: S704 (our files)


def source(name: str) -> str:
    """The text of a file of `cpp/report/templates`."""
    text, _, _ = _loader().get_source(_templates(), name)
    return text


def fixed(value: float | None, digits: int) -> str | None:
    """A number with so many decimals; None stays None."""
    return None if value is None else f"{value:.{digits}f}"


@cache
def _loader() -> jinja2.PackageLoader:
    return jinja2.PackageLoader("cpp.report", "templates")


@cache
def _templates() -> jinja2.Environment:
    templates = jinja2.Environment(
        loader=_loader(), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    templates.filters |= {
        "count": "{:,}".format,
        "percent": percent,
        "duration": format_duration,
        "length": len,
        "fixed": fixed,
    }
    templates.globals |= {"page_of": page_of, "on_a_page": ON_A_PAGE, "listed": LISTED}
    return templates
