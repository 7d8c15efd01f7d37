"""What the search for duplicates found, as the content of a page. Knows no files and no HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cpp.report import charts
from cpp.report.cards import Picture
from cpp.report.charts import Series
from cpp.report.html import percent
from cpp.report.section_page import CurationPage, Group, Part, Shown, Table

KEPT = {
    "centroid": "the one closest to the centre of its cluster",
    "farthest": "the one farthest from the centre of its cluster",
    "resolution": "the one of the most pixels",
    "first": "the first of the input",
    "caption": "the one whose caption matches best",
}
KIND = {"bytes": "the same file", "vector": "exactly the same vector", "near": "a vector near another"}
LINES = 9  # of the table of thresholds


class How(NamedTuple):
    """What was asked."""

    run: str
    threshold: float
    keep: str
    neighbours: bool
    bytes: bool


def page(
    how: How,
    counts: Mapping[str, Any],
    curve: Mapping[str, Sequence[float]],
    shown: Sequence[Sequence[Mapping[str, Any]]],
    others: Mapping[str, str],
) -> CurationPage:
    """From the counts, the columns of the curve, and for each pair and group that is shown its rows.

    `others` are the pages beside it."""
    rows, gone = counts["rows"], sum(counts["dropped"].values())
    pairs = [_pair(some) for some in shown if some[0]["what"] == "pair"]
    groups = [_group(some) for some in shown if some[0]["what"] == "group"]
    parts = [
        _curve(how, rows, curve),
        Part("What went", tables=[_kinds(counts, rows)]),
        Part(
            "Pairs",
            ["Some near pairs of each band of similarity, drawn by chance, the most alike first."],
            groups=pairs,
        ),
        Part("The largest groups", [_connected(how)], groups=groups),
    ]
    return CurationPage(
        title="Duplicates",
        run=how.run,
        sentences=[
            f"Of {rows:,} images {gone:,} ({percent(gone / rows if rows else 0.0)}) would go: they are in "
            f"{counts['groups']:,} groups of duplicates, and of each group {KEPT[how.keep]} stays.",
            guarantee(how),
        ],
        parts=[part for part in parts if part.groups or part.tables or part.charts],
        tiles={
            "images": f"{rows:,}",
            "would go": f"{gone:,}",
            "groups": f"{counts['groups']:,}",
            "in the largest": f"{counts['largest']:,}",
        },
        others=others,
    )


def guarantee(how: How) -> str:
    """What was compared, and so what cannot have been missed."""
    across = (
        "and every pair of two clusters where the second cluster of one is the cluster of the other"
        if how.neighbours
        else "and no pair of two clusters (curate.duplicates.neighbours)"
    )
    exact = (
        "Files were compared as well where they could be read."
        if how.bytes
        else "Files were not compared (curate.duplicates.bytes)."
    )
    return (
        f"Every pair of images in one cluster whose vectors have a cosine of at least {how.threshold:g} was found, "
        f"however large the cluster, {across}. Cosines are those of the float16 vectors, right to "
        f"about a millionth. {exact}"
    )


def _connected(how: How) -> str:
    return (
        f"A group is what pairs of at least {how.threshold:g} connect, so two of its images may be less alike than "
        "that. Where a group holds images that are not the same, raise curate.duplicates.threshold."
    )


def _curve(how: How, rows: int, curve: Mapping[str, Sequence[float]]) -> Part:
    thresholds, dropped, groups = (curve[name] for name in ("threshold", "dropped", "groups"))
    chart = charts.chart(
        [Series(thresholds, [100 * n / max(rows, 1) for n in dropped])],
        x_name="threshold",
        y_name="% that would go",
        description=f"How much would go at each threshold: {percent(dropped[0] / max(rows, 1))} at {thresholds[0]:g}, "
        f"{percent(dropped[-1] / max(rows, 1))} at {thresholds[-1]:g}. The line is at {how.threshold:g}.",
        marks=[how.threshold],
    )
    some = np.unique(np.linspace(0, len(thresholds) - 1, LINES).round().astype(int))[::-1]
    lines = [
        (f"{thresholds[i]:g}", f"{dropped[i]:,}", percent(dropped[i] / max(rows, 1)), f"{groups[i]:,}") for i in some
    ]
    return Part(
        "How much would go", charts=[chart], tables=[Table(("threshold", "would go", "of all", "groups"), lines)]
    )


def _kinds(counts: Mapping[str, Any], rows: int) -> Table:
    lines = [
        (what, f"{counts['dropped'][kind]:,}", percent(counts["dropped"][kind] / max(rows, 1)))
        for kind, what in KIND.items()
    ]
    return Table(("because another image has", "would go", "of all"), lines)


def _pair(rows: Sequence[Mapping[str, Any]]) -> Group:
    return Group(f"cosine {rows[0]['similarity']:.4f}", [Shown(_picture(row), row["key"]) for row in rows])


def _group(rows: Sequence[Mapping[str, Any]]) -> Group:
    said = ["kept", *["goes"] * (len(rows) - 1)]
    shown = [Shown(_picture(row), f"{row['key']}, {word}") for row, word in zip(rows, said, strict=True)]
    more = f"{len(rows)} of them are shown." if len(rows) < rows[0]["size"] else ""
    return Group(f"{rows[0]['size']:,} images", shown, more)


def _picture(row: Mapping[str, Any]) -> Picture:
    return Picture(row["key"], row["image_shard"], large=row["large"])
