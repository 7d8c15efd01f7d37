"""A page of what curation found: sentences, drawings, tables and groups of pictures, in one HTML file of its own.

Knows how to show, not what. Titles, keys, captions and cells are untrusted and escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from cpp.report import html
from cpp.report.cards import Picture
from cpp.report.charts import Chart

PAGES = {
    "duplicates_page.html": "Duplicates",
    "outliers_page.html": "Outliers",
    "balance_page.html": "Balance",
}  # files beside the page of the run, and what they are called


class Shown(NamedTuple):
    """A picture, its `large` one if there is one, and what stands below it."""

    picture: Picture
    says: str


class Group(NamedTuple):
    """Pictures that belong together, such as copies of one image."""

    title: str
    shown: Sequence[Shown]
    about: str = ""


class Table(NamedTuple):
    """Rows of cells; the first of a row names it, the others are numbers as they are to be read."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Part:
    """A section of a page. What it has none of is left out."""

    title: str
    sentences: Sequence[str] = ()
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    groups: Sequence[Group] = ()


@dataclass(frozen=True)
class CurationPage:
    """All that a page says. `run` is the title of the run, `tiles` numbers with their names, `others` as in `PAGES`;
    `home` is where the page of the run is from here."""

    title: str
    run: str
    sentences: Sequence[str]
    parts: Sequence[Part]
    tiles: Mapping[str, str] = field(default_factory=dict)
    others: Mapping[str, str] = field(default_factory=dict)
    home: str = "report.html"


def render(page: CurationPage) -> str:
    """The HTML of the page, under `report.BYTES`: pictures beyond that are left out, their captions stay."""
    room: float = html.BYTES - 1_000_000
    parts = []
    for part in page.parts:
        groups = []
        for group in part.groups:
            shown = []
            for one in group.shown:
                room -= html.BASE64 * len(one.picture.large or b"") + 2 * len(one.picture.about) + 200
                shown.append(one._replace(picture=replace(one.picture, data=one.picture.large if room > 0 else None)))
            groups.append(group._replace(shown=shown))
        parts.append(replace(part, groups=groups))
    return html.fill("curation.html", page=replace(page, parts=parts))
