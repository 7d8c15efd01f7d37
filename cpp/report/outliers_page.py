"""How odd images are, as the content of a page: the score, what would go, the oddest by part. Knows no files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpp.curation.outliers import PARTS
from cpp.report.cards import Picture
from cpp.report.charts import Series, chart
from cpp.report.html import percent
from cpp.report.section_page import CurationPage, Group, Part, Shown, Table

BARS = 1000  # of the histogram that is counted; drawn are sums of them
DRAWN = 40
THRESHOLDS = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
SHOWN = {"outlier": 24, **dict.fromkeys(PARTS, 12)}  # images of each kind, at most
TITLES = {
    "outlier": "Oddest by the score",
    "margin": "Least margin",
    "density": "Least density",
    "residual": "Largest residual",
    "caption": "Caption that fits least",
}
ABOUT = {
    "outlier": "Of all that is known of them together.",
    "margin": "As close to a second cluster as to their own.",
    "density": "Their nearest images are far away, among a sample of the whole set.",
    "residual": "Outside the directions of their cluster: they take the most bits in it.",
    "caption": "Least similar to their text.",
}


def page(
    run: str,
    counts: NDArray[np.int64],
    threshold: float | None,
    oddest: Sequence[Mapping[str, Any]],
    others: Mapping[str, str],
) -> CurationPage:
    """The page. `counts` `[BARS]` are images by score; `oddest` rows with `kind` and the parts' ranks."""
    n = int(counts.sum())
    edges = np.arange(DRAWN + 1) / DRAWN
    bars = counts.reshape(DRAWN, -1).sum(axis=1)
    above = [int(counts[round(t * BARS) :].sum()) for t in THRESHOLDS]
    marks = [threshold] if threshold is not None else []
    rows = [(f"{t:g}", f"{m:,}", percent(m / max(n, 1))) for t, m in zip(THRESHOLDS, above, strict=True)]
    known = [kind for kind in SHOWN if any(row["kind"] == kind for row in oddest)]
    return CurationPage(
        "Outliers",
        run,
        [
            "A score of 0.99 would be that of one image in a hundred if the parts had nothing to do with each other. "
            f"It is made of {len(known) - 1 if known else 0} parts, each a rank among all images, by Fisher's method.",
            f"Images above {threshold:g} leave."
            if threshold is not None
            else "None leaves: curate.outliers.threshold is null.",
        ],
        [
            Part(
                "How odd they are",
                charts=[
                    chart(
                        [Series(edges.tolist(), bars.tolist(), bars=True)],
                        x_name="score",
                        y_name="images, logarithmic",
                        description=f"{n:,} images by score. Dependent parts make high scores more frequent.",
                        marks=marks,
                        logarithmic=True,
                    )
                ],
                tables=[Table(("a threshold of", "would take out", "of all"), rows)],
            ),
            Part("The oddest images", groups=[_group(kind, oddest) for kind in known]),
        ],
        {"images": f"{n:,}", **_gone(threshold, counts)},
        others,
    )


def _gone(threshold: float | None, counts: NDArray[np.int64]) -> dict[str, str]:
    return (
        {} if threshold is None else {f"above {threshold:g}, about": f"{int(counts[int(threshold * BARS) :].sum()):,}"}
    )


def _group(kind: str, oddest: Sequence[Mapping[str, Any]]) -> Group:
    mine = [row for row in oddest if row["kind"] == kind]
    return Group(TITLES[kind], [Shown(_picture(row), _said(row)) for row in mine], ABOUT[kind])


def _picture(row: Mapping[str, Any]) -> Picture:
    return Picture(row["key"], row["image_shard"], row.get("caption_text"), large=row.get("large"))


def _said(row: Mapping[str, Any]) -> str:
    odd = [f"{part} {percent(row[part])}" for part in PARTS if row[part] is not None and row[part] > 0.9]
    return " · ".join([f"{row['name']}: {row['outlier']:.3f}", *odd])
