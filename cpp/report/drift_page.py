"""The page of images that were appended to a run: how well they fit, where they went. Knows no files."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpp.clustering.drift import Profile
from cpp.report import charts, html
from cpp.report.section_page import CurationPage, Part, Table

LISTED = 50  # clusters, at most
BARS = 60  # of a histogram


def page(
    title: str, said: Mapping[str, Any], old: Profile, new: Profile, clusters: Sequence[Mapping[str, Any]]
) -> CurationPage:
    """From the content of `growth.json`, the two profiles and the rows of `growth_by_cluster.parquet`."""
    grown = sorted(clusters, key=lambda row: (-row["appended"], row["cluster"]))[:LISTED]
    verdict = ["Fit again: " + " ".join(said["reasons"])] if said["refit_due"] else ["The clusters still fit."]
    parts = [
        Part("How well they fit", RULE, _charts(old, new), [_compared(said)]),
        Part(
            "Where they went", [f"The clusters with the most appended images, {LISTED} at most."], (), [_table(grown)]
        ),
    ]
    appended = said["appended"]
    tiles = {
        "images appended": f"{appended['images']:,}",
        "images fitted": f"{said['fitted']['images']:,}",
        "rejected": f"{appended['rejected']:,}",
        "bits saved an appended image": _number(said["bits"]["appended_saved"], "{:.1f}"),
        "bits saved a fitted image": _number(said["bits"]["fitted_saved"], "{:.1f}"),
    }
    return CurationPage("Appended images", title, verdict, parts, tiles, home="../report.html")


RULE = [
    "Appended images were encoded, projected and assigned with the head, the groups and the names of the run; nothing "
    "of the run was computed again. The sizes and examples of its own page are of the fitted images.",
    "Bits an image: how much the coding length grows with images that it does not know, a fifth of the fitted ones "
    "that is held out or as many appended ones; saved is the difference to one cluster of all. Even of images of the "
    "same kind appended ones cost more, since the head was made from the fitted ones: with few of them, a third or "
    "more of what is saved.",
    "A refit is due when clusters save an appended image less than half of what they save a held-out one, when "
    "most appended images have scores as low as the lowest hundredth of the fitted ones, or when as many were appended "
    "as were fitted. To do it, name the appended inputs beside the others in the configuration (of `import`, "
    "move them into its folder), and run it.",
]


def _charts(old: Profile, new: Profile) -> list[charts.Chart]:
    said = ("{} of the images, in percent: bars are the fitted ones, the line the appended ones").format
    pairs = (("score", old.score, new.score, -1.0), ("margin", old.margin, new.margin, 0.0))
    return [_chart(name, said(name.capitalize() + "s"), a, b, low) for name, a, b, low in pairs]


def _chart(name: str, says: str, old: NDArray[np.int64], new: NDArray[np.int64], start: float) -> charts.Chart:
    """Both histograms in percent, from the least to the largest value that either has."""
    there = np.flatnonzero(old + new)
    first, last = (int(there[0]), int(there[-1]) + 1) if len(there) else (0, 1)
    wide = max(1, -(-(last - first) // BARS))
    cuts = np.arange(first, last, wide)
    edges = [start + 2 * float(cut) / len(old) for cut in [*cuts, cuts[-1] + wide]]
    bars = [100 * np.add.reduceat(some[:last], cuts) / max(int(some.sum()), 1) for some in (old, new)]
    middles = [(a + b) / 2 for a, b in itertools.pairwise(edges)]
    series = [charts.Series(edges, bars[0].tolist(), bars=True), charts.Series(middles, bars[1].tolist())]
    return charts.chart(series, x_name=name, y_name="% of images", description=says)


def _compared(said: Mapping[str, Any]) -> Table:
    both = said["fitted"], said["appended"]

    def row(name: str, form: str, values: Sequence[float | None]) -> list[str]:
        return [name, *(_number(value, form) for value in values)]

    quantiles = [group["score_quantiles"] or {} for group in both]
    rows = [
        row("images", "{:,}", [group["images"] for group in both]),
        row("bits an image in its cluster", "{:.1f}", [said["bits"]["fitted"], said["bits"]["appended"]]),
        row("in one cluster of all", "{:.1f}", [said["bits"]["fitted_one"], said["bits"]["appended_one"]]),
        row("saved by the clusters", "{:.1f}", [said["bits"]["fitted_saved"], said["bits"]["appended_saved"]]),
        ["score as low as the lowest hundredth", *(_share(group["low_score"]) for group in both)],
        ["margin below 0.05", *(_share(group["small_margin"]) for group in both)],
        ["rejected", *(_share(group["rejected_share"]) for group in both)],
        row("mean score", "{:.3f}", [group["score"] for group in both]),
    ]
    for q in quantiles[0]:
        rows.append(row(f"{float(q):.0%} score below", "{:.3f}", [some.get(q) for some in quantiles]))
    return Table(["", "fitted", "appended"], rows)


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    columns = ["cluster", "fitted", "appended", "score, fitted", "score", "small margin, fitted", "small margin"]
    return Table(
        columns,
        [
            [
                _called(row),
                f"{row['fitted']:,}",
                f"{row['appended']:,}",
                _number(row["fitted_score"], "{:.3f}"),
                _number(row["score"], "{:.3f}"),
                _share(row["fitted_small_margin"]),
                _share(row["small_margin"]),
            ]
            for row in rows
        ],
    )


def _called(row: Mapping[str, Any]) -> str:
    guess = f"{row['guess']}?" if row["guess"] else ""
    return f"{row['cluster']} {row['name'] or guess}".strip()


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _share(value: float | None) -> str:
    return "–" if value is None else html.percent(value)
