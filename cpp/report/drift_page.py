"""The page about appended images: how well they fit and which clusters they are in.

This module knows no files.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpp.clustering.drift import Profile
from cpp.naming.titles import title
from cpp.report.charts import Chart, Series, chart
from cpp.report.html import fixed
from cpp.report.section_page import render

LISTED = 50  # clusters, at most
BARS = 60  # of a histogram


def page(run: str, growth: Mapping[str, Any], old: Profile, new: Profile, clusters: Sequence[Mapping[str, Any]]) -> str:
    """The page from the content of `growth.json`, the two profiles and the rows of `growth_by_cluster.parquet`."""
    fitted, appended = (growth[name]["score_quantiles"] or {} for name in ("fitted", "appended"))
    return render(
        "drift.html",
        run,
        {},
        home="../report.html",
        growth=growth,
        histograms=[_histogram("score", old.score, new.score, -1.0), _histogram("margin", old.margin, new.margin, 0.0)],
        quantiles=[[f"{float(q):.0%} score below", fixed(fitted[q], 3), fixed(appended.get(q), 3)] for q in fitted],
        listed=LISTED,
        rows=[_row(row) for row in sorted(clusters, key=lambda row: (-row["appended"], row["cluster"]))[:LISTED]],
    )


def _histogram(name: str, old: NDArray[np.int64], new: NDArray[np.int64], start: float) -> Chart:
    """Both histograms in percent, from the least to the largest value in either; the first bin begins at `start`."""
    filled = np.flatnonzero(old + new)
    first, last = (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (0, 1)
    width = -(-(last - first) // BARS)
    cuts = np.arange(first, last, width)
    edges = [start + 2 * float(cut) / len(old) for cut in [*cuts, cuts[-1] + width]]
    fitted, appended = (100 * np.add.reduceat(n[:last], cuts) / max(int(n.sum()), 1) for n in (old, new))
    middles = [(a + b) / 2 for a, b in itertools.pairwise(edges)]
    return chart(
        [Series(edges, fitted.tolist(), bars=True), Series(middles, appended.tolist())],
        x_name=name,
        y_name="% of images",
        description=f"{name.capitalize()}s: the bars show the fitted images, the line the appended ones.",
    )


def _row(row: Mapping[str, Any]) -> list[str | int | float | None]:
    return [
        f"{row['cluster']} {title(row['name'], row['guess'], '')}".strip(),
        row["fitted"],
        row["appended"],
        fixed(row["fitted_score"], 3),
        fixed(row["score"], 3),
        row["fitted_small_margin"],
        row["small_margin"],
    ]
