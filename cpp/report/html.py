"""The page of a run: one HTML file with everything in it, and pages beside it where there are many clusters.

Knows how to show, not where things come from. Names, keys, captions and settings are untrusted and escaped.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup

LISTED = 5_000  # more clusters than that are not all on the page, but on the pages
ON_A_PAGE = 50  # clusters of a page beside the page
BYTES = 24_000_000  # of the page, at most
BASE64 = 4 / 3


def beside(cluster: int) -> str:
    """Where the page with a cluster is, from the page."""
    return f"pages/clusters-{cluster // ON_A_PAGE:05d}.html"


def script_json(value: Any) -> str:
    """JSON that may stand in a `<script>`, whatever is in it."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def fill(template: str, **values: Any) -> str:
    """A template of `cpp/page` with the page's style and script, and only that script allowed."""
    script, style = source("report.js"), source("report.css")
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    found = _templates().get_template(template)
    return found.render(**values, script=Markup(script), style=Markup(style), allowed=allowed)  # noqa: S704 (ours)


def source(name: str) -> str:
    """The text of a file of `cpp/page`."""
    text, _, _ = _loader().get_source(_templates(), name)
    return text


@cache
def _loader() -> jinja2.PackageLoader:
    return jinja2.PackageLoader("cpp.report", "templates")


@cache
def _templates() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=_loader(), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    made.filters |= {"count": "{:,}".format, "percent": percent, "seconds": seconds, "length": len}
    made.globals |= {"beside": beside, "on_a_page": ON_A_PAGE, "listed": LISTED}
    return made


def percent(share: float) -> str:
    """A share in words: two digits, never a rounded 0 % or 100 %."""
    if share in (0.0, 1.0):
        return f"{share:.0%}".replace("%", "\u202f%")
    if share < 0.001 or share > 0.999:
        return "< 0.1\u202f%" if share < 0.5 else "> 99.9\u202f%"
    return f"{100 * share:.{1 if share < 0.1 or share > 0.99 else 0}f}\u202f%"


def seconds(value: float) -> str:
    """A time in words: `0.2 s`, `14 s`, `3 min 20 s`, `2 h 5 min`."""
    if value < 10:
        return f"{value:.1f}\u202fs"
    whole = round(value)
    if whole < 60:
        return f"{whole}\u202fs"
    if whole < 3600:
        return f"{whole // 60}\u202fmin {whole % 60}\u202fs"
    return f"{whole // 3600}\u202fh {whole % 3600 // 60}\u202fmin"
