"""The content of the page about appended images: how well they fit and which clusters they are in.

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
from cpp.report.section_page import Cell, Part, SectionPage, Table

LISTED = 50  # clusters, at most
BARS = 60  # of a histogram
EXPLANATION = [
    "Appended images were encoded, projected and assigned with the head, the groups and the names of the run, which "
    "did not change. The sizes and examples on the main page are those of the fitted images.",
    "Bits per image: the growth of the coding length with images that the clusters have not seen, either a held-out "
    "fifth of the fitted images or as many appended ones. The bits saved are the difference to a single cluster of all "
    "images. Appended images cost more even if they are of the same kind, because the head was trained on the fitted "
    "ones: with few fitted images, a third or more of the saving is lost.",
    "A refit is due when the clusters save less than half as many bits for an appended image as for a held-out one, "
    "when most appended images score as low as the lowest hundredth of the fitted ones, or when as many images were "
    "appended as were fitted. To refit, add the appended inputs to the configuration (for `import`, move them into "
    "its folder) and run it.",
]


def page(
    run: str, growth: Mapping[str, Any], old: Profile, new: Profile, clusters: Sequence[Mapping[str, Any]]
) -> SectionPage:
    """The page from the content of `growth.json`, the two profiles and the rows of `growth_by_cluster.parquet`."""
    bits, fitted, appended = growth["bits"], growth["fitted"], growth["appended"]
    histograms = [
        _histogram(name, getattr(old, name), getattr(new, name), start)
        for name, start in (("score", -1), ("margin", 0))
    ]
    most = f"The table has the clusters with the most appended images, at most {LISTED}."
    return SectionPage(
        "Appended images",
        run,
        ["A refit is due. " + " ".join(growth["reasons"]) if growth["refit_due"] else "The clusters still fit."],
        [
            Part("Fit of the appended images", EXPLANATION, histograms, [_comparison(growth)]),
            Part("Clusters of the appended images", [most], tables=[_by_cluster(clusters)]),
        ],
        {
            "images appended": appended["images"],
            "images fitted": fitted["images"],
            "rejected": appended["rejected"],
            "bits saved per appended image": _number(bits["appended_saved"], 1),
            "bits saved per fitted image": _number(bits["fitted_saved"], 1),
        },
        home="../report.html",
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


def _comparison(growth: Mapping[str, Any]) -> Table:
    bits, groups = growth["bits"], (growth["fitted"], growth["appended"])

    def row(name: str, *values: float | None, digits: int) -> list[Cell]:
        return [name, *(_number(value, digits) for value in values)]

    quantiles = [group["score_quantiles"] or {} for group in groups]
    rows: list[list[Cell]] = [
        ["images", *(group["images"] for group in groups)],
        row("bits per image in its cluster", bits["fitted"], bits["appended"], digits=1),
        row("bits in one cluster of all images", bits["fitted_one"], bits["appended_one"], digits=1),
        row("bits saved by the clusters", bits["fitted_saved"], bits["appended_saved"], digits=1),
        ["score as low as the lowest hundredth", *(group["low_score"] for group in groups)],
        ["margin below 0.05", *(group["small_margin"] for group in groups)],
        ["rejected", *(group["rejected_share"] for group in groups)],
        row("mean score", *(group["score"] for group in groups), digits=3),
    ]
    for q in quantiles[0]:
        rows.append(row(f"{float(q):.0%} score below", *(group.get(q) for group in quantiles), digits=3))
    return Table(["", "fitted", "appended"], rows)


def _by_cluster(clusters: Sequence[Mapping[str, Any]]) -> Table:
    columns = ["cluster", "fitted", "appended", "score, fitted", "score", "small margin, fitted", "small margin"]
    rows = [
        [
            f"{row['cluster']} {title(row['name'], row['guess'], '')}".strip(),
            row["fitted"],
            row["appended"],
            _number(row["fitted_score"], 3),
            _number(row["score"], 3),
            row["fitted_small_margin"],
            row["small_margin"],
        ]
        for row in sorted(clusters, key=lambda row: (-row["appended"], row["cluster"]))[:LISTED]
    ]
    return Table(columns, rows)


def _number(value: float | None, digits: int) -> str | None:
    return None if value is None else f"{value:.{digits}f}"
