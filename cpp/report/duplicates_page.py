"""The page about near-duplicates: thresholds, pairs and groups. This module knows no files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cpp.files.quantities import format_percent
from cpp.report.charts import Series, chart
from cpp.report.section_page import Group, picture, render

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
) -> str:
    """The page from the counts, the columns of the curve, and the rows of each pair and group that is shown."""
    dropped, n = counts["dropped"], max(counts["rows"], 1)
    thresholds = curve["threshold"]
    listed = np.unique(np.linspace(0, len(thresholds) - 1, LISTED).round().astype(int))[::-1]
    shares = [d / n for d in curve["dropped"]]
    least, most = (f"{format_percent(shares[i])} with a threshold of {thresholds[i]:g}" for i in (-1, 0))
    effect = chart(
        [Series(thresholds, [100 * share for share in shares])],
        x_name="threshold",
        y_name="% dropped",
        description=f"The dropped share is {most} and {least}. The dashed line marks the threshold in use.",
        marks=[search.threshold],
    )
    return render(
        "duplicates.html",
        search.run,
        {
            "pairs": [_pair(rows) for rows in examples if rows[0]["what"] == "pair"],
            "groups": [_group(rows) for rows in examples if rows[0]["what"] == "group"],
        },
        others=others,
        search=search,
        counts=counts,
        dropped=sum(dropped.values()),
        curve=effect,
        rows=[(f"{thresholds[i]:g}", curve["dropped"][i], shares[i], curve["groups"][i]) for i in listed],
        kinds=[(reason, dropped[kind], dropped[kind] / n) for kind, reason in KINDS.items()],
    )


def _pair(rows: Sequence[Mapping[str, Any]]) -> Group:
    return Group(f"cosine {rows[0]['similarity']:.4f}", [(picture(row), row["key"]) for row in rows])


def _group(rows: Sequence[Mapping[str, Any]]) -> Group:
    """A group of duplicates; its first row is the image that is kept."""
    pictures = [(picture(row), f"{row['key']}, {'dropped' if i else 'kept'}") for i, row in enumerate(rows)]
    size = rows[0]["size"]
    return Group(f"{size:,} images", pictures, f"{len(rows)} of them are shown." if len(rows) < size else "")
