"""The content of the page about balance: the clusters that a curated data set is taken from. Knows no files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpp.curation.balance import effective_number
from cpp.report.charts import Chart, Series, chart
from cpp.report.section_page import Group, Part, SectionPage, Shown, Table

LISTED = 20  # clusters in the table, half of them the largest
EXAMPLES = 6  # clusters whose images are shown
IMAGES = 8  # kept and dropped images of each of them


def page(
    run: str,
    summary: Mapping[str, Any],
    policy: str,
    names: Sequence[str],
    before: NDArray[np.int64],
    after: NDArray[np.int64],
    examples: Sequence[Mapping[str, Any]],
    others: Mapping[str, str],
) -> SectionPage:
    """The page from `curation.json`, a sentence on the policy, and images by cluster `[K]` of the main layer.

    `examples` are rows of images with `cluster`, and the `reason` for which the image is dropped or None.
    """
    kept, images, requested = summary["kept"], summary["images"], summary["asked"]
    evenness = effective_number(before), effective_number(after)
    filled = _largest_first(before)
    ends = filled if len(filled) <= LISTED else np.concatenate([filled[: LISTED // 2], filled[-LISTED // 2 :]])
    clusters = [(names[k], int(before[k]), int(after[k]), float(after[k] / before[k])) for k in ends]
    reasons = [(reason, n, n / max(images, 1)) for reason, n in summary["dropped"].items()]
    short = f" The configuration asks for {requested:,}." if requested and kept < requested else ""
    return SectionPage(
        "Balance",
        run,
        [
            f"{kept:,} of {images:,} images are kept.{short} {policy}",
            f"The {len(filled)} clusters are as even in size as those of {evenness[0]:.1f} clusters of equal size; "
            f"with the kept images only, as those of {evenness[1]:.1f}.",
        ],
        [
            Part("Sizes before and after", charts=[_sizes(before, after)]),
            Part("Why images are dropped", tables=[Table(("reason", "images", "of all"), reasons)]),
            Part(
                "Kept images by cluster",
                [f"The largest and the smallest {LISTED // 2} clusters."] if len(filled) > LISTED else [],
                tables=[Table(("cluster", "before", "kept", "share"), clusters)],
            ),
            Part("Examples", groups=_groups(names, examples)),
        ],
        {
            "images": images,
            "kept": kept,
            "effective number of clusters": f"{evenness[0]:.0f}",
            "effective number, kept images": f"{evenness[1]:.0f}",
        },
        others,
    )


def clusters_shown(before: NDArray[np.int64]) -> list[int]:
    """The clusters whose images are shown: large, medium and small ones."""
    filled = _largest_first(before)
    places = np.linspace(0, len(filled) - 1, min(EXAMPLES, len(filled))).astype(int)
    return list(dict.fromkeys(filled[places].tolist()))


def _largest_first(before: NDArray[np.int64]) -> NDArray[np.intp]:
    """The clusters that have images, the largest first."""
    order = np.argsort(-before, kind="stable")
    return order[before[order] > 0]


def _sizes(before: NDArray[np.int64], after: NDArray[np.int64]) -> Chart:
    order = np.argsort(-before, kind="stable")
    edges = np.arange(len(order) + 1.0)
    bars = Series(edges.tolist(), before[order].tolist(), bars=True)
    return chart(
        [bars, Series((edges[:-1] + 0.5).tolist(), after[order].tolist())],
        x_name="clusters, the largest first",
        y_name="images, logarithmic",
        description="The bars show all images of each cluster, the line the kept ones.",
        logarithmic=True,
    )


def _groups(names: Sequence[str], examples: Sequence[Mapping[str, Any]]) -> list[Group]:
    """For each cluster the kept images, then the dropped ones."""
    groups: dict[tuple[int, bool], list[Shown]] = {}
    for row in examples:
        shown = Shown.of_row(row, row["reason"] or "")
        groups.setdefault((row["cluster"], row["reason"] is not None), []).append(shown)
    return [Group(f"{names[k]}: {('kept', 'dropped')[drop]}", groups[k, drop]) for k, drop in sorted(groups)]
