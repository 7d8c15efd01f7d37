"""What a curated data set takes from where, as the content of a page. Knows no files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpp.curation.balance import effective
from cpp.report.cards import Picture
from cpp.report.charts import Series, chart
from cpp.report.html import percent
from cpp.report.section_page import CurationPage, Group, Part, Shown, Table

LINES = 20  # clusters in the table, half of them the largest
EXAMPLES = 6  # clusters whose images are shown
IMAGES = 8  # of each, kept and dropped


def page(
    run: str,
    summary: Mapping[str, Any],
    how: str,
    names: Sequence[str],
    before: NDArray[np.int64],
    after: NDArray[np.int64],
    examples: Sequence[Mapping[str, Any]],
    others: Mapping[str, str],
) -> CurationPage:
    """The page. `before` and `after` `[K]` are images by cluster of the main layer, `examples` rows to be shown."""
    order = np.argsort(-before, kind="stable")
    place = np.arange(len(order) + 1, dtype=float).tolist()
    bars = Series(place, before[order].tolist(), bars=True)
    line = Series([x + 0.5 for x in place[:-1]], after[order].tolist())
    kept, images = summary["kept"], summary["images"]
    reasons = [(reason, f"{n:,}", percent(n / max(images, 1))) for reason, n in summary["dropped"].items()]
    there = order[before[order] > 0]
    ends = there if len(there) <= LINES else np.concatenate([there[: LINES // 2], there[-LINES // 2 :]])
    rows = [(names[k], f"{before[k]:,}", f"{after[k]:,}", percent(after[k] / before[k])) for k in ends]
    asked = summary["asked"]
    short = f" {asked:,} were asked for and there are no more." if asked and kept < asked else ""
    evens = f"{effective(before):.1f} of one size were; of what is kept, {effective(after):.1f}"
    even = f"The {len(there)} clusters are as even as {evens}."
    return CurationPage(
        "Balance",
        run,
        [f"{kept:,} of {images:,} images are kept.{short} {how}", even],
        [
            Part(
                "Sizes before and after",
                charts=[
                    chart(
                        [bars, line],
                        x_name="clusters, the largest first",
                        y_name="images, logarithmic",
                        description="Bars are all images of a cluster, the line those that are kept.",
                        logarithmic=True,
                    )
                ],
            ),
            Part("Why images are dropped", tables=[Table(("reason", "images", "of all"), reasons)]),
            Part(
                "From where they are taken",
                ["The largest and the smallest clusters." if len(there) > LINES else "All clusters."],
                tables=[Table(("cluster", "before", "kept", "part"), rows)],
            ),
            Part("Examples", groups=_groups(names, examples)),
        ],
        {
            "images": f"{images:,}",
            "kept": f"{kept:,}",
            "clusters, as even as": f"{effective(before):.0f}",
            "of what is kept": f"{effective(after):.0f}",
        },
        others,
    )


def shown(before: NDArray[np.int64]) -> list[int]:
    """Clusters whose images are shown: large, middle and small ones."""
    order = np.argsort(-before, kind="stable")
    there = order[before[order] > 0]
    return list(dict.fromkeys(there[np.linspace(0, len(there) - 1, min(EXAMPLES, len(there))).astype(int)].tolist()))


def _groups(names: Sequence[str], examples: Sequence[Mapping[str, Any]]) -> list[Group]:
    found: dict[tuple[int, bool], list[Shown]] = {}
    for row in examples:
        picture = Picture(row["key"], row["image_shard"], large=row.get("large"))
        found.setdefault((row["cluster"], row["reason"] is None), []).append(Shown(picture, row["reason"] or ""))
    said = {True: "kept", False: "dropped"}
    return [
        Group(f"{names[k]}: {said[kept]}", some)
        for (k, kept), some in sorted(found.items(), key=lambda g: (g[0][0], not g[0][1]))
    ]
