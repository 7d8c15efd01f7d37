"""How well images that came later fit the clusters of those that were fitted, and when to fit again.

All from sums over shards: `Profile` of scores and margins, `Moments` of codes. Knows no files and no labels.
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

BINS = 2000  # of scores, from -1 to 1, and of margins, from 0 to 2
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95)

LOW = 0.01  # of the fitted images have scores so low
KEPT = 0.5  # of the bits that clusters save a fitted image: with less, an appended one loses more of them than it keeps
MOST = 0.5  # of the appended images, when their scores are that low: then it is the rule and no exception
GROWN = 1.0  # appended images for one that was fitted


@dataclass
class Profile:
    """Sums over images: histograms of scores and margins, and of each cluster images, scores and small margins."""

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
        """Add images, `[n]` each, in place."""
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
        """Scores below which so many images are, to a thousandth; None without images."""
        return {f"{q:g}": round(-1 + 2 * (self._bin(q) + 1) / BINS, 3) for q in QUANTILES} if self.rows else None

    def _bin(self, quantile: float) -> int:
        """The bin of scores that a quantile is in."""
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
    """Bits an image in a partition, by the part of the fitted images that is held out: of that part, of appended ones.

    `fitted_one` and `appended_one` are the same with all images in one cluster.
    """

    fitted: list[float]
    appended: list[float]
    fitted_one: list[float]
    appended_one: list[float]

    @property
    def saved(self) -> tuple[float, float] | None:
        """Bits that the clusters save a held-out fitted image and an appended one, the mean over the parts."""
        if not self.fitted:
            return None
        fitted, appended, fitted_one, appended_one = (sum(some) / len(some) for some in self)
        return fitted_one - fitted, appended_one - appended


def added_bits(parts: Moments, came: Moments, e: float) -> Bits:
    """Measure the bits per image by which held-out fitted images and appended images lengthen the code.

    `parts` are the moments of the clusters of the fitted images, by part as from `split_groups`, and `came` `[K]` those
    of the appended images; both are in the space of the coding lengths. Each fifth of the fitted images is held out in
    turn, and its bits are compared with those of as many appended images in its place. The larger set is scaled down
    to the count of the smaller, because clusters adapt to the images that are added to them.
    """
    K = len(came.count_K)
    one, n_came = torch.zeros(K, dtype=torch.int64), float(came.count_K.sum())
    found = Bits([], [], [], [])
    for left_out in range(PARTS):
        of = torch.arange(K * PARTS) % PARTS
        held = parts[of == left_out]
        base = parts[of != left_out].merge(torch.arange(K).repeat_interleave(PARTS - 1), K)
        n_held = float(held.count_K.sum())
        n = min(n_held, n_came)
        if not n or not float(base.count_K.sum()):
            continue
        some = [base, base + held * (n / n_held), base + came * (n / n_came)]
        for whole, fitted, appended in (
            (some, found.fitted, found.appended),
            ([moments.merge(one, 1) for moments in some], found.fitted_one, found.appended_one),
        ):
            start, *ends = (coding_length(moments, e) for moments in whole)
            fitted.append((ends[0] - start) / n)
            appended.append((ends[1] - start) / n)
    return found


def refit_reasons(fitted: Mapping[str, Any], appended: Mapping[str, Any], cost: Bits) -> list[str]:
    """Give the reasons to fit the clusters again, as sentences, from the `Profile.summary` of both sets of images."""
    found = []
    if (saved := cost.saved) and saved[1] < KEPT * saved[0]:
        little = f"{saved[1]:.1f} bits" if saved[1] > 0 else "no bits"
        found.append(
            f"The clusters save an appended image {little}, a fitted one that was held out {saved[0]:.1f}: "
            "on appended images they lose more than half of what they are for."
        )
    if (appended["low_score"] or 0.0) > MOST:
        found.append(
            f"{appended['low_score']:.0%} of the appended images have a score as low as the lowest {LOW:.0%} of the "
            "fitted ones: most of them are like no cluster."
        )
    if appended["images"] and appended["images"] >= GROWN * fitted["images"]:
        found.append(
            f"{appended['images']:,} images were appended to {fitted['images']:,}: the clusters, and how many there "
            "are, were chosen by no more than half of all."
        )
    return found
