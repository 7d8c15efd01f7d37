"""Drift: how well appended images fit the clusters of the fitted images, and when to fit again.

Everything follows from sums over shards: `Profile` of scores and margins, `Moments` of codes. Knows no files and no
labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from cpp.clustering.choose_k import PARTS
from cpp.clustering.coding_length import coding_length
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

    def quantiles(self) -> dict[str, float] | None:
        """Quantiles of the scores, to a thousandth; None without images."""
        return {f"{q:g}": round(-1 + 2 * (self._bin(q) + 1) / BINS, 3) for q in QUANTILES} if self.rows else None

    def _bin(self, quantile: float) -> int:
        """The bin of scores that contains a quantile."""
        return int(np.searchsorted(np.cumsum(self.score) / self.rows, quantile))

    def low_score_share(self, fitted: Profile) -> float | None:
        """The share of images whose score is as low as those of the lowest hundredth of the `fitted` ones."""
        return int(self.score[: fitted._bin(LOW) + 1].sum()) / self.rows if self.rows and fitted.rows else None

    def summary(self, rejected: int, fitted: Profile) -> dict[str, Any]:
        """What a person is told of these images; shares of none are null."""
        n = self.rows
        return {
            "images": n,
            "rejected": rejected,
            "rejected_share": rejected / (n + rejected) if n + rejected else None,
            "small_margin": int(self.small_K.sum()) / n if n else None,
            "low_score": self.low_score_share(fitted),
            "score": float(self.score_K.sum()) / n if n else None,
            "score_quantiles": self.quantiles(),
        }


class Bits(NamedTuple):
    """Bits per image of held-out fitted images and of appended images, for each part that is held out.

    `fitted_one` and `appended_one` are the bits with all images in one cluster.
    """

    fitted: list[float]
    appended: list[float]
    fitted_one: list[float]
    appended_one: list[float]

    @property
    def saved(self) -> tuple[float, float] | None:
        """Bits that the clusters save per held-out fitted image and per appended image, the mean over the parts."""
        if not self.fitted:
            return None
        fitted, appended, fitted_one, appended_one = (sum(values) / len(values) for values in self)
        return fitted_one - fitted, appended_one - appended


def added_bits(parts: Moments, appended: Moments, e: float) -> Bits:
    """Measure the bits per image by which held-out fitted images and appended images lengthen the code.

    `parts` are the moments of the clusters of the fitted images, by part as from `split_groups`, and `appended` `[K]`
    those of the appended images, both in the space of the coding lengths. Each fifth of the fitted images is held out
    in turn, and its bits are compared with those of as many appended images in its place. The larger set is scaled down
    to the count of the smaller, because clusters adapt to the images that are added to them.
    """
    K = len(appended.count_K)
    one, n_appended = torch.zeros(K, dtype=torch.int64), float(appended.count_K.sum())
    cost = Bits([], [], [], [])
    for left_out in range(PARTS):
        part = torch.arange(K * PARTS) % PARTS
        held = parts[part == left_out]
        base = parts[part != left_out].merge(torch.arange(K).repeat_interleave(PARTS - 1), K)
        n_held = float(held.count_K.sum())
        n = min(n_held, n_appended)
        if not n or not float(base.count_K.sum()):
            continue
        partitions = [base, base + held * (n / n_held), base + appended * (n / n_appended)]
        for moments, of_fitted, of_appended in (
            (partitions, cost.fitted, cost.appended),
            ([m.merge(one, 1) for m in partitions], cost.fitted_one, cost.appended_one),
        ):
            start, *ends = (coding_length(m, e) for m in moments)
            of_fitted.append((ends[0] - start) / n)
            of_appended.append((ends[1] - start) / n)
    return cost


def refit_reasons(fitted: Mapping[str, Any], appended: Mapping[str, Any], cost: Bits) -> list[str]:
    """Give the reasons to fit the clusters again, as sentences, from the `Profile.summary` of both sets of images."""
    sentences = []
    if (saved := cost.saved) and saved[1] < KEPT * saved[0]:
        little = f"{saved[1]:.1f} bits" if saved[1] > 0 else "no bits"
        sentences.append(
            f"The clusters save {little} per appended image and {saved[0]:.1f} per held-out fitted image: "
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
