"""The page about balance: the clusters that a curated data set is taken from. This module knows no files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpp.curation.balance import effective_number
from cpp.report.charts import cluster_sizes
from cpp.report.section_page import Group, picture, render

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
) -> str:
    """The page from `curation.json`, a sentence on the policy, and images by cluster `[K]` of the main layer.

    `examples` are rows of images with `cluster`, and the `reason` for which the image is dropped or None.
    """
    filled = _filled(before)
    ends = filled if len(filled) <= LISTED else np.concatenate([filled[: LISTED // 2], filled[-LISTED // 2 :]])
    return render(
        "balance.html",
        run,
        {"examples": _groups(names, examples)},
        others=others,
        summary=summary,
        policy=policy,
        filled=len(filled),
        even_before=effective_number(before),
        even_after=effective_number(after),
        sizes=cluster_sizes(before.tolist(), after.tolist()),
        reasons=[(reason, n, n / max(summary["images"], 1)) for reason, n in summary["dropped"].items()],
        rows=[(names[k], int(before[k]), int(after[k]), float(after[k] / before[k])) for k in ends],
    )


def clusters_shown(before: NDArray[np.int64]) -> list[int]:
    """The clusters whose images are shown: large, medium and small ones."""
    filled = _filled(before)
    places = np.linspace(0, len(filled) - 1, min(EXAMPLES, len(filled))).astype(int)
    return list(dict.fromkeys(filled[places].tolist()))


def _filled(before: NDArray[np.int64]) -> NDArray[np.intp]:
    """The clusters that have images, the largest first."""
    order = np.argsort(-before, kind="stable")
    return order[before[order] > 0]


def _groups(names: Sequence[str], examples: Sequence[Mapping[str, Any]]) -> list[Group]:
    """For each cluster the kept images, then the dropped ones."""
    pictures: dict[tuple[int, bool], list[Any]] = {}
    for row in examples:
        dropped = row["reason"] is not None
        pictures.setdefault((row["cluster"], dropped), []).append((picture(row), row["reason"] or ""))
    return [Group(f"{names[k]}: {'dropped' if drop else 'kept'}", pictures[k, drop]) for k, drop in sorted(pictures)]
