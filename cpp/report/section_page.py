"""Pages about one part of a run: duplicates, outliers, balance and appended images, each with a template of its name.

This module knows no files. Titles, keys, captions and cells are untrusted, and the templates escape them. A table cell
is a text, an integer (shown with commas), a share (shown as a percentage) or None (shown as a dash).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from cpp.report import html
from cpp.report.cards import Picture

PAGES = {"duplicates_page.html": "Duplicates", "outliers_page.html": "Outliers", "balance_page.html": "Balance"}


class Group(NamedTuple):
    """Pictures that belong together, such as copies of one image, each with the text below it."""

    title: str
    pictures: Sequence[tuple[Picture, str]]
    note: str = ""


def picture(row: Mapping[str, Any]) -> Picture:
    """The picture of a row with `key`, `image_shard` and, if it has one, the thumbnail `large`."""
    return Picture(row["key"], row["image_shard"], large=row.get("large"))


def render(template: str, run: str, groups: Mapping[str, Sequence[Group]], **values: Any) -> str:
    """The HTML of a page, smaller than 25 MB: pictures that do not fit are left out, their texts stay.

    `run` is the title of the run; `groups` and `values` are those of the template.
    """
    room: float = html.ROOM

    def fitted(picture: Picture) -> Picture:
        nonlocal room
        room -= html.base64_size(picture.large) + 2 * len(picture.alt) + 200
        return replace(picture, data=picture.large if room > 0 else None)

    shown = {
        name: [group._replace(pictures=[(fitted(p), text) for p, text in group.pictures]) for group in of_name]
        for name, of_name in groups.items()
    }
    return html.fill(template, run=run, **({"home": "report.html", "others": {}} | shown | values))
