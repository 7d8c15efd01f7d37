"""Drift: how well appended images fit the clusters of the fitted images, and when to fit again.

Everything follows from sums over shards: `Profile` of scores and margins, `Moments` of codes. Knows no files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cpp.clustering.coding_length import coding_length
from cpp.clustering.layers import leave_one_out
from cpp.clustering.quality import SMALL
from cpp.rate_reduction.coding_rate import Moments

BINS = 2000  # bins of scores from -1 to 1, and of margins from 0 to 2
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95)
LOW = 0.01  # share of the fitted images that have low scores, by definition
KEPT = 0.5  # a refit is due if an appended image saves less than this share of the bits that a fitted one saves
MOST = 0.5  # or if more than this share of the appended images have low scores
APPENDED = 1.0  # or if this many images were appended for each fitted one


@dataclass
class Profile:
    """Sums over images: histograms of scores and margins, and by cluster the images, scores and small margins."""

    score: NDArray[np.int64]
    margin: NDArray[np.int64]
    size_K: NDArray[np.int64]
    score_K: NDArray[np.float64]
    small_K: NDArray[np.int64]

    @classmethod
    def empty(cls, n_clusters: int) -> Self:
        """Of no images."""
        bins, clusters = np.zeros(BINS, np.int64), np.zeros(n_clusters, np.int64)
        return cls(bins, bins.copy(), clusters, np.zeros(n_clusters), clusters.copy())

    def add(self, cluster: NDArray[np.integer], score: NDArray[np.floating], margin: NDArray[np.floating]) -> None:
        """Add images in place; each array is `[n]`."""
        K = len(self.size_K)
        self.score += np.bincount(((score + 1) / 2 * BINS).astype(np.int64).clip(0, BINS - 1), minlength=BINS)
        self.margin += np.bincount((margin / 2 * BINS).astype(np.int64).clip(0, BINS - 1), minlength=BINS)
        self.size_K += np.bincount(cluster, minlength=K)
        self.score_K += np.bincount(cluster, score.astype(np.float64), minlength=K)
        self.small_K += np.bincount(cluster[margin < SMALL], minlength=K)

    @property
    def rows(self) -> int:
        return int(self.size_K.sum())

    def _bin(self, quantile: float) -> int:
        """The bin of scores that contains a quantile; meaningless without images."""
        return int(np.searchsorted(np.cumsum(self.score) / max(self.rows, 1), quantile))

    def summary(self, rejected: int, fitted: Profile) -> dict[str, Any]:
        """Summarise these images for a reader; shares of no images are None.

        `low_score` is the share whose score is as low as those of the lowest hundredth of the `fitted` images, and
        `score_quantiles` are exact to a thousandth.
        """
        n = self.rows
        quantiles = {f"{q:g}": round(-1 + 2 * (self._bin(q) + 1) / BINS, 3) for q in QUANTILES}
        low = int(self.score[: fitted._bin(LOW) + 1].sum())
        return {
            "images": n,
            "rejected": rejected,
            "rejected_share": rejected / (n + rejected) if n + rejected else None,
            "small_margin": int(self.small_K.sum()) / n if n else None,
            "low_score": low / n if n and fitted.rows else None,
            "score": float(self.score_K.sum()) / n if n else None,
            "score_quantiles": quantiles if n else None,
        }


def added_bits(parts: Moments, appended: Moments, e: float) -> dict[str, float | None]:
    """Measure the bits per image by which held-out fitted images and appended images lengthen the code.

    `parts` are the moments of the clusters of the fitted images, by part as from `FineGroups.moments`, and `appended`
    `[K]` those of the appended images. Each fifth of the fitted images is held out in turn and compared with as many
    appended images in its place: the larger set is scaled down, because clusters adapt to images that are added.
    The result has the means over the fifths: `fitted` and `appended`, the same with one cluster (`fitted_one`,
    `appended_one`), and what the clusters save (`fitted_saved`, `appended_saved`); None without images.
    """
    bits, n_appended = list[list[float]](), float(appended.count_K.sum())
    for held, base in leave_one_out(parts):
        n_held = float(held.count_K.sum())
        n = min(n_held, n_appended)
        if not n or not base.count_K.any():
            continue
        added = [base, base + held * (n / n_held), base + appended * (n / n_appended)]
        one = [moments.merge_runs(len(moments.count_K)) for moments in added]
        lengths = [[coding_length(moments, e) for moments in partitions] for partitions in (added, one)]
        bits.append([(end - start) / n for start, *ends in lengths for end in ends])
    names = ("fitted", "appended", "fitted_one", "appended_one")
    if not bits:
        return dict.fromkeys([*names, "fitted_saved", "appended_saved"])
    means = dict(zip(names, np.mean(bits, axis=0).tolist(), strict=True))
    return means | {f"{name}_saved": means[f"{name}_one"] - means[name] for name in ("fitted", "appended")}


def refit_reasons(fitted: Mapping[str, Any], appended: Mapping[str, Any], bits: Mapping[str, Any]) -> list[str]:
    """Give the reasons to fit the clusters again, as sentences, from both `Profile.summary` and the `added_bits`."""
    sentences = []
    saved, usual = bits["appended_saved"], bits["fitted_saved"]
    if saved is not None and saved < KEPT * usual:
        sentences.append(
            f"The clusters save {f'{saved:.1f}' if saved > 0 else 'no'} bits per appended image "
            f"and {usual:.1f} per held-out fitted image: "
            "they describe the appended images less than half as well."
        )
    if (appended["low_score"] or 0.0) > MOST:
        sentences.append(
            f"{appended['low_score']:.0%} of the appended images score as low as the lowest {LOW:.0%} of the "
            "fitted images: most of them fit no cluster."
        )
    if appended["images"] and appended["images"] >= APPENDED * fitted["images"]:
        sentences.append(
            f"{appended['images']:,} images were appended to {fitted['images']:,}: the clusters and K "
            "were chosen from at most half of all images."
        )
    return sentences
