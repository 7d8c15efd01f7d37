"""How odd an image is: parts that each say one thing, their ranks over the whole set, and one score. Knows no files.

A rank is the share of the images that are less odd. The score is Fisher's: if the ranks of the k parts that are known
were independent and uniform, -2 sum log(1 - rank) would be chi-squared with 2k degrees of freedom, and the score is the
share that would lie below. So one extreme part suffices, and several high ones add up; nothing is tuned.

Sources: Fisher, "Statistical methods for research workers", 1932, section 21.1 (the combination); Ramaswamy, Rastogi,
Shim, SIGMOD 2000 (distances to nearest neighbours); CLIP score: Hessel et al., arXiv 2104.08718.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpp.clustering.coding_length import posterior
from cpp.nearest import Neighbours
from cpp.rate_reduction.coding_rate import Moments

PARTS = ("margin", "density", "residual", "caption")
ODD_IF_LARGE = frozenset({"residual"})
ODDITIES = pa.schema([("key", pa.string()), *((part, pa.float32()) for part in PARTS)])
OUTLIERS = pa.schema([("key", pa.string()), ("outlier", pa.float32()), *((part, pa.float32()) for part in PARTS)])
BINS = 1 << 16  # values that float16 can have


class Density:
    """Mean similarity of unit rows to their `k` nearest among a fixed sample `[m, d]` of them, copies left out.

    A row is no neighbour of its own, nor is an exact copy: many copies of an oddity would hide it.
    """

    def __init__(self, sample: NDArray[np.float16], k: int, gpu: bool = False) -> None:
        different = np.unique(np.ascontiguousarray(sample, np.float16), axis=0)
        self.k = min(k, max(len(different) - 1, 1))
        self._neighbours = Neighbours(different.astype(np.float32), min(self.k + 1, len(different)), gpu)

    def __call__(self, X: NDArray[np.float16], batch: int) -> NDArray[np.float32]:
        """`[n]`, from -1 to 1; where the sample is one row and this is it, 0."""
        found = self._neighbours(X.astype(np.float32), batch)
        own = np.square(X.astype(np.float32)).sum(axis=1)
        copy = np.abs(found[:, 0] - own) < 1e-5  # rounding of one product; the nearest other vectors are farther
        first = np.where(copy, 1, 0)
        total = np.concatenate([np.zeros((len(X), 1), np.float32), np.cumsum(found, axis=1)], axis=1)
        last = np.minimum(first + self.k, found.shape[1])
        row = np.arange(len(X))
        density: NDArray[np.float32] = (total[row, last] - total[row, first]) / np.maximum(last - first, 1)
        return density.astype(np.float32)


class Residual:
    """Bits that a row takes in its cluster beyond those of a row at its mean: large is far outside its directions.

    That is what `coding.evidence_bits` grows by with one row more, by the determinant lemma, less the part that is the
    same for every row of the cluster: a wide cluster is not odd as a whole.
    """

    def __init__(self, moments: Moments, e: float) -> None:
        self.mean, M_Kdd = posterior(moments, e)
        self.L_Kdd = torch.linalg.cholesky(M_Kdd)
        self.count, self.e = moments.count_K, e

    def __call__(self, Z_nd: Tensor, cluster_n: Tensor) -> NDArray[np.float32]:
        """`[n]`, from 0; `cluster_n` int64."""
        quadratic = torch.zeros(len(Z_nd), dtype=torch.float64)
        order = torch.argsort(cluster_n, stable=True)
        for k, rows in enumerate(order.split(torch.bincount(cluster_n, minlength=len(self.count)).tolist())):
            if len(rows):
                apart = (Z_nd[rows].to(torch.float64) - self.mean[k]).mT
                solved = torch.linalg.solve_triangular(self.L_Kdd[k], apart, upper=False)
                quadratic[rows] = solved.square().sum(0)
        n = self.count[cluster_n]
        grown = quadratic * (self.e + n) / (self.e + n + 1)
        bits: NDArray[np.float32] = ((Z_nd.shape[1] + 3 + n) / 2 * torch.log2(1 + grown)).float().numpy()
        return bits


def histogram(values: NDArray[np.floating]) -> NDArray[np.int64]:
    """How many images have each value, `[BINS]`, in the order of float16; NaN is not counted. Tallies of shards add."""
    found: NDArray[np.int64] = np.bincount(_bin(values[~np.isnan(values)]), minlength=BINS)
    return found


def ranks(histogram: NDArray[np.int64], values: NDArray[np.floating], large: bool) -> NDArray[np.float64]:
    """The share of all images that are less odd, equal ones by half, between 0 and 1; NaN for NaN.

    `large` says that large values are odd. `histogram` counts every one of `values`.
    """
    below = np.cumsum(histogram) - histogram / 2
    found = np.full(len(values), np.nan)
    there = ~np.isnan(values)
    share = below[_bin(values[there])] / max(int(histogram.sum()), 1)
    found[there] = share if large else 1 - share
    return found


def _bin(values: NDArray[np.floating]) -> NDArray[np.int64]:
    """Whole numbers in the order of the values as float16, those of too large a size at its ends."""
    most = np.finfo(np.float16).max
    bits = values.clip(-most, most).astype(np.float16).view(np.uint16).astype(np.int64)
    return np.where(bits >= BINS // 2, BINS - 1 - bits, bits + BINS // 2)


def score(ranks: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float32]:
    """One score in [0, 1) from the ranks of parts, `[n]` each; a part that is NaN for an image counts for nothing."""
    from scipy.stats import chi2

    ranked = np.stack(list(ranks.values()))
    known = (~np.isnan(ranked)).sum(axis=0)
    statistic = -2 * np.nansum(np.log1p(-ranked), axis=0)
    found: NDArray[np.float32] = np.where(known > 0, chi2.cdf(statistic, 2 * np.maximum(known, 1)), 0).astype(
        np.float32
    )
    return found
