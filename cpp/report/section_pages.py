"""Pages about one part of a run: duplicates, outliers, balance and appended images, each with a template of its name.

This module knows no files. Titles, keys and captions are untrusted, and the templates escape them. `run` is the title
of the run, and `others` are the titles of the other pages by file name. Rows of images have `key`, `image_shard` and,
as far as it may be shown, the picture `large`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cpp.curation.balance import effective_number
from cpp.curation.outliers import PARTS, SCORE
from cpp.curation.strongest_pairs import LIMIT
from cpp.files.quantities import format_percent
from cpp.report.charts import Chart, chart, cluster_sizes
from cpp.report.html import fill, fixed

if TYPE_CHECKING:
    from cpp.clustering.drift import Profile

PAGES = {
    "duplicates_page.html": "Duplicates",
    "outliers_page.html": "Outliers",
    "balance_page.html": "Balance",
    "leaks_page.html": "Leaks between splits",
}
Rows = Sequence[Mapping[str, Any]]

LISTED_THRESHOLDS = 9  # of duplicates
SCORE_BINS = 1000  # of the histogram of outliers that is counted
KINDS = {"bytes": "the same file", "vector": "exactly the same vector", "near": "a similar vector"}  # of duplicates
THRESHOLDS = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)  # of outliers
OUTLIERS = {
    "outlier": 24,
    **dict.fromkeys((part for part in PARTS if part != SCORE), 12),
}  # images with the highest score and part, at most
LISTED_SIZES = 20  # clusters in the table of the balance, half of them the largest
EXAMPLES = 6  # clusters whose kept and dropped images are shown
LISTED_APPENDED = 50  # clusters in the table of appended images, at most
DRIFT_BARS = 60  # of a histogram of appended images


def duplicates(
    run: str,
    search: Mapping[str, Any],
    counts: Mapping[str, Any],
    curve: Mapping[str, Sequence[float]],
    examples: Sequence[Rows],
    others: Mapping[str, str],
) -> str:
    """The page from the settings of the search, the counts, the columns of the curve, and the pairs and groups."""
    dropped, n = counts["dropped"], max(counts["rows"], 1)
    thresholds, shares = curve["threshold"], [d / n for d in curve["dropped"]]
    listed = np.unique(np.linspace(0, len(thresholds) - 1, LISTED_THRESHOLDS).round().astype(int))[::-1]
    least, most = (f"{format_percent(shares[i])} with a threshold of {thresholds[i]:g}" for i in (-1, 0))
    effect = chart(
        line=(thresholds, [100 * share for share in shares]),
        x_name="threshold",
        y_name="% dropped",
        description=f"The dropped share is {most} and {least}. The dashed line marks the threshold in use.",
        mark=search["threshold"],
    )
    return fill(
        "duplicates.html",
        run=run,
        others=others,
        search=search,
        limit=LIMIT,
        counts=counts,
        examples=examples,
        dropped=sum(dropped.values()),
        curve=effect,
        rows=[(f"{thresholds[i]:g}", curve["dropped"][i], shares[i], curve["groups"][i]) for i in listed],
        kinds=[(reason, dropped[kind], dropped[kind] / n) for kind, reason in KINDS.items()],
    )


def leaks(
    run: str,
    column: str,
    sizes: Mapping[str, int],
    pairs: Mapping[tuple[str, str], int],
    examples: Sequence[Rows],
    others: Mapping[str, str],
) -> str:
    """The page from the number of images of each split, the number of pairs between splits, and pairs of images."""
    ordered = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    return fill(
        "leaks.html",
        run=run,
        others=others,
        column=column,
        sizes=sorted(sizes.items()),
        pairs=sum(pairs.values()),
        rows=[(f"{a} and {b}", n) for (a, b), n in ordered],
        examples=examples,
    )


def outliers(
    run: str, counts: NDArray[np.int64], threshold: float | None, examples: Rows, others: Mapping[str, str]
) -> str:
    """The page. `counts` `[BINS]` are images by score; `examples` rows with their `kind` and the rank in each part."""
    n = int(counts.sum())
    above = {t: int(counts[int(round(t * SCORE_BINS, 9)) :].sum()) for t in (*THRESHOLDS, threshold) if t is not None}
    return fill(
        "outliers.html",
        run=run,
        others=others,
        images=n,
        threshold=threshold,
        above=None if threshold is None else above[threshold],
        examples=examples,
        rows=[(f"{t:g}", above[t], above[t] / max(n, 1)) for t in THRESHOLDS],
    )


def balance(
    run: str,
    summary: Mapping[str, Any],
    policy: str,
    titles: Sequence[str],
    before: NDArray[np.int64],
    after: NDArray[np.int64],
    examples: Rows,
    others: Mapping[str, str],
) -> str:
    """The page from `curation.json`, a sentence on the policy, and images by cluster `[K]` of the main layer.

    `examples` are rows of images with `cluster`, and the `reason` for which the image is dropped or None.
    """
    filled = _filled(before)
    ends = filled if len(filled) <= LISTED_SIZES else [*filled[: LISTED_SIZES // 2], *filled[-LISTED_SIZES // 2 :]]
    return fill(
        "balance.html",
        run=run,
        others=others,
        summary=summary,
        policy=policy,
        titles=titles,
        examples=examples,
        filled=len(filled),
        even_before=effective_number(before),
        even_after=effective_number(after),
        sizes=cluster_sizes(before.tolist(), after.tolist()),
        reasons=[(reason, n, n / max(summary["images"], 1)) for reason, n in summary["dropped"].items()],
        rows=[(titles[k], int(before[k]), int(after[k]), float(after[k] / before[k])) for k in ends],
    )


def clusters_shown(before: NDArray[np.int64]) -> list[int]:
    """The clusters whose images the page on balance shows: large, medium and small ones."""
    filled = _filled(before)
    places = np.linspace(0, len(filled) - 1, min(EXAMPLES, len(filled))).astype(int)
    return list(dict.fromkeys(filled[places].tolist()))


def _filled(before: NDArray[np.int64]) -> NDArray[np.intp]:
    """The clusters that have images, the largest first."""
    order = np.argsort(-before, kind="stable")
    return order[before[order] > 0]


def appended(run: str, growth: Mapping[str, Any], old: Profile, new: Profile, clusters: Rows) -> str:
    """The page from the content of `growth.json`, the two profiles and the rows of `growth_by_cluster.parquet`."""
    before, after = (growth[name]["score_quantiles"] or {} for name in ("fitted", "appended"))
    order = sorted(clusters, key=lambda row: (-row["appended"], row["cluster"]))
    return fill(
        "appended.html",
        run=run,
        others={},
        home="../report.html",
        growth=growth,
        histograms=[_histogram("score", old.score, new.score, -1.0), _histogram("margin", old.margin, new.margin, 0.0)],
        listed=LISTED_APPENDED,
        quantiles=[[f"{float(q):.0%} score below", fixed(b, 3), fixed(after.get(q), 3)] for q, b in before.items()],
        rows=[_row(row) for row in order[:LISTED_APPENDED]],
    )


def _row(row: Mapping[str, Any]) -> list[str | int | float | None]:
    return [
        f"{row['cluster']} {row['title']}",
        row["fitted"],
        row["appended"],
        fixed(row["fitted_score"], 3),
        fixed(row["score"], 3),
        row["fitted_small_margin"],
        row["small_margin"],
    ]


def _histogram(name: str, old: NDArray[np.int64], new: NDArray[np.int64], start: float) -> Chart:
    """Both histograms in percent, from the least to the largest value in either; the first bin begins at `start`."""
    filled = np.flatnonzero(old + new)
    first, last = (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (0, 1)
    width = -(-(last - first) // DRIFT_BARS)
    cuts = np.arange(first, last, width)
    edges = start + 2 * np.append(cuts, cuts[-1] + width) / len(old)
    fitted, appended = (100 * np.add.reduceat(n[:last], cuts) / max(int(n.sum()), 1) for n in (old, new))
    return chart(
        bars=(edges, fitted),
        line=((edges[1:] + edges[:-1]) / 2, appended),
        x_name=name,
        y_name="% of images",
        description=f"{name.capitalize()}s: the bars show the fitted images, the line the appended ones.",
    )
