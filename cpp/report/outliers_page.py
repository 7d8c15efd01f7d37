"""The page about outliers: the scores, the effect of thresholds, the most unusual images.

This module knows no files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpp.curation.outliers import PARTS
from cpp.files.quantities import format_percent
from cpp.report.charts import Chart, Series, chart
from cpp.report.section_page import Group, picture, render

BINS = 1000  # of the histogram that is counted
BARS = 40  # of the histogram that is drawn
THRESHOLDS = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
SHOWN = {"outlier": 24, **dict.fromkeys(PARTS, 12)}  # images of each kind, at most
KINDS = {  # title and explanation
    "outlier": ("Highest scores", "The score combines all parts."),
    "margin": ("Smallest margin", "These images are almost as close to a second cluster as to their own."),
    "density": ("Lowest density", "In a sample of the whole set, even the nearest images are far away."),
    "residual": (
        "Largest residual",
        "These images lie outside the directions of their cluster and take the most bits.",
    ),
    "caption": ("Worst match of the caption", "These images are least similar to their text."),
}


def page(
    run: str,
    counts: NDArray[np.int64],
    threshold: float | None,
    examples: Sequence[Mapping[str, Any]],
    others: Mapping[str, str],
) -> str:
    """The page. `counts` `[BINS]` are images by score; `examples` rows with their `kind` and the rank in each part."""
    n = int(counts.sum())
    kinds = [kind for kind in SHOWN if any(row["kind"] == kind for row in examples)]
    return render(
        "outliers.html",
        run,
        {"examples": [_group(kind, examples) for kind in kinds]},
        others=others,
        images=n,
        threshold=threshold,
        above=None if threshold is None else _above(counts, threshold),
        parts=max(len(kinds) - 1, 0),
        histogram=_histogram(counts, threshold),
        rows=[(f"{t:g}", above := _above(counts, t), above / max(n, 1)) for t in THRESHOLDS],
    )


def _above(counts: NDArray[np.int64], threshold: float) -> int:
    return int(counts[int(round(threshold * BINS, 9)) :].sum())


def _histogram(counts: NDArray[np.int64], threshold: float | None) -> Chart:
    bars = counts.reshape(BARS, -1).sum(axis=1)
    return chart(
        [Series((np.arange(BARS + 1) / BARS).tolist(), bars.tolist(), bars=True)],
        x_name="score",
        y_name="images, logarithmic",
        description=f"{int(counts.sum()):,} images by score. Dependent parts make high scores more frequent.",
        marks=[] if threshold is None else [threshold],
        logarithmic=True,
    )


def _group(kind: str, examples: Sequence[Mapping[str, Any]]) -> Group:
    title, explanation = KINDS[kind]
    return Group(title, [(picture(row), _text(row)) for row in examples if row["kind"] == kind], explanation)


def _text(row: Mapping[str, Any]) -> str:
    """The cluster, the score and the parts in which the image is unusual."""
    parts = [f"{part} {format_percent(row[part])}" for part in PARTS if row[part] is not None and row[part] > 0.9]
    return " · ".join([f"{row['name']}: {row['outlier']:.3f}", *parts])
