"""The content of the page about near-duplicates: thresholds, pairs and groups. This module knows no files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cpp.files.quantities import percent
from cpp.report import charts
from cpp.report.charts import Series
from cpp.report.section_page import Group, Part, SectionPage, Shown, Table

KEPT = {
    "centroid": "the one closest to the centre of its cluster",
    "farthest": "the one farthest from the centre of its cluster",
    "resolution": "the one with the most pixels",
    "first": "the first one in the input",
    "caption": "the one that matches its caption best",
}
KINDS = {"bytes": "the same file", "vector": "exactly the same vector", "near": "a similar vector"}
LISTED = 9  # thresholds in the table


class Search(NamedTuple):
    """The settings of the search."""

    run: str
    threshold: float
    keep: str
    neighbours: bool
    bytes: bool


def page(
    search: Search,
    counts: Mapping[str, Any],
    curve: Mapping[str, Sequence[float]],
    examples: Sequence[Sequence[Mapping[str, Any]]],
    others: Mapping[str, str],
) -> SectionPage:
    """The page from the counts, the columns of the curve, and the rows of each pair and group that is shown."""
    rows, dropped = counts["rows"], counts["dropped"]
    total = sum(dropped.values())
    kinds = [(reason, dropped[kind], dropped[kind] / max(rows, 1)) for kind, reason in KINDS.items()]
    pairs = [
        Group(f"cosine {pair[0]['similarity']:.4f}", [Shown.of_row(row, row["key"]) for row in pair])
        for pair in examples
        if pair[0]["what"] == "pair"
    ]
    groups = [_group(group) for group in examples if group[0]["what"] == "group"]
    parts = [
        _thresholds(search, rows, curve),
        Part("Duplicates by kind", tables=[Table(("another image has", "would be dropped", "of all"), kinds)]),
        Part("Pairs", ["A random sample of near pairs from each band of similarity, the most similar first."],
             groups=pairs),
        Part("The largest groups", [
            f"A group is connected by pairs with a cosine of at least {search.threshold:g}, so two of its images may "
            "be less similar than that. If a group contains different images, raise curate.duplicates.threshold."
        ], groups=groups),
    ]  # fmt: skip
    return SectionPage(
        "Duplicates",
        search.run,
        [
            f"{total:,} of {rows:,} images ({percent(total / rows if rows else 0.0)}) would be dropped. They are in "
            f"{counts['groups']:,} groups of duplicates; of each group, {KEPT[search.keep]} is kept.",
            guarantee(search),
        ],
        [part for part in parts if part.groups or part.tables or part.charts],
        {"images": rows, "would be dropped": total, "groups": counts["groups"], "in the largest": counts["largest"]},
        others,
    )


def guarantee(search: Search) -> str:
    """Sentences on what was compared, and so which duplicates cannot have been missed."""
    across = (
        "and in two clusters if the second-nearest cluster of one image is the cluster of the other"
        if search.neighbours
        else "but not across clusters (curate.duplicates.neighbours)"
    )
    exact = (
        "Files were also compared if they could be read."
        if search.bytes
        else "Files were not compared (curate.duplicates.bytes)."
    )
    return (
        f"The search compares all pairs of images within each cluster, however large, {across}: every such pair "
        f"with a cosine of at least {search.threshold:g} is found. Cosines are those of the float16 vectors, accurate "
        f"to about a millionth. {exact}"
    )


def _thresholds(search: Search, rows: int, curve: Mapping[str, Sequence[float]]) -> Part:
    """How many images would be dropped at each threshold, as a chart and a table."""
    thresholds, dropped, groups = (curve[name] for name in ("threshold", "dropped", "groups"))
    shares = [n / max(rows, 1) for n in dropped]
    chart = charts.chart(
        [Series(thresholds, [100 * share for share in shares])],
        x_name="threshold",
        y_name="% dropped",
        description=f"{percent(shares[0])} would be dropped with a threshold of {thresholds[0]:g}, "
        f"{percent(shares[-1])} with {thresholds[-1]:g}. The dashed line marks the threshold {search.threshold:g}.",
        marks=[search.threshold],
    )
    listed = np.unique(np.linspace(0, len(thresholds) - 1, LISTED).round().astype(int))[::-1]
    lines = [(f"{thresholds[i]:g}", dropped[i], shares[i], groups[i]) for i in listed]
    table = Table(("threshold", "would be dropped", "of all", "groups"), lines)
    return Part("Images that would be dropped", charts=[chart], tables=[table])


def _group(rows: Sequence[Mapping[str, Any]]) -> Group:
    """A group of duplicates; its first row is the image that is kept."""
    shown = [Shown.of_row(row, f"{row['key']}, {'dropped' if i else 'kept'}") for i, row in enumerate(rows)]
    size = rows[0]["size"]
    return Group(f"{size:,} images", shown, f"{len(rows)} of them are shown." if len(rows) < size else "")
