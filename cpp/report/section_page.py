"""A page about one part of a run: sentences, charts, tables and groups of pictures in one HTML file.

The modules `duplicates_page`, `outliers_page`, `balance_page` and `drift_page` give the content. This module knows no
files. Titles, keys, captions and cells are untrusted, and the template escapes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from cpp.report import html
from cpp.report.cards import Picture
from cpp.report.charts import Chart

PAGES = {"duplicates_page.html": "Duplicates", "outliers_page.html": "Outliers", "balance_page.html": "Balance"}
Cell = str | int | float | None  # the template shows an integer with commas, a float as a percentage and None as a dash


class Shown(NamedTuple):
    """A picture with the text below it."""

    picture: Picture
    text: str

    @classmethod
    def of_row(cls, row: Mapping[str, Any], text: str) -> Shown:
        """The picture of a row with `key`, `image_shard` and the thumbnail `large`, if it has one."""
        return cls(Picture(row["key"], row["image_shard"], large=row.get("large")), text)


class Group(NamedTuple):
    """Pictures that belong together, such as copies of one image."""

    title: str
    shown: Sequence[Shown]
    note: str = ""


class Table(NamedTuple):
    """Rows of cells; the first cell of a row is its heading."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Part:
    """A section of a page."""

    title: str
    sentences: Sequence[str] = ()
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    groups: Sequence[Group] = ()


@dataclass(frozen=True)
class SectionPage:
    """The content of a page. `run` is the title of the run, `tiles` has its main numbers by name.

    `others` are the pages of `PAGES` that the run has, and `home` is the path of the main page.
    """

    title: str
    run: str
    sentences: Sequence[str]
    parts: Sequence[Part]
    tiles: Mapping[str, Cell] = field(default_factory=dict)
    others: Mapping[str, str] = field(default_factory=dict)
    home: str = "report.html"


def render(page: SectionPage) -> str:
    """The HTML of the page, smaller than `html.BYTES`: pictures that do not fit are left out, their texts stay."""
    room: float = html.BYTES - 1_000_000

    def fitted(shown: Shown) -> Shown:
        nonlocal room
        picture = shown.picture
        room -= html.BASE64 * len(picture.large or b"") + 2 * len(picture.alt) + 200
        return shown._replace(picture=replace(picture, data=picture.large if room > 0 else None))

    parts = [
        replace(part, groups=[group._replace(shown=[*map(fitted, group.shown)]) for group in part.groups])
        for part in page.parts
    ]
    return html.fill("section.html", page=replace(page, parts=parts))
