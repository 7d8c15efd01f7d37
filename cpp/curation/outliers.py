"""Outlier score of an image, and further measures of how unusual it is. Knows no files.

A rank is the share of images that are less unusual. The score is the rank by density, the similarity to the nearest
images: of the measures here it finds planted outliers best, and no combination that was tried beats it in the mean
(tests/bench/RESULTS.md). The ranks by the other measures are for sorting.

Sources: Ramaswamy, Rastogi, Shim, SIGMOD 2000 (distances to nearest neighbours); CLIP score: Hessel et al.,
arXiv 2104.08718.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from cpp.rate_reduction.coding_rate import Moments

SCORE = "density"  # the measure whose rank is the score
PARTS = ("margin", "density", "residual", "caption")
ODD_IF_LARGE = frozenset({"residual"})
ODDITIES = pa.schema([("key", pa.string()), *((part, pa.float32()) for part in PARTS)])
OUTLIERS = pa.schema([("key", pa.string()), ("outlier", pa.float32()), *((part, pa.float32()) for part in PARTS)])
BINS = 1 << 16  # number of float16 values


class Density:
    """Mean similarity of unit rows to their `k` nearest rows in a fixed sample `[m, d]`.

    The row itself and its exact copies are not its neighbours, because many copies of an outlier would hide it.
    """

    def __init__(self, sample: NDArray[np.float16], k: int, gpu: bool = False) -> None:
        from cpp.nearest import Neighbours

        distinct = np.unique(np.ascontiguousarray(sample, np.float16), axis=0)
        self.k = min(k, max(len(distinct) - 1, 1))
        self._neighbours = Neighbours(distinct.astype(np.float32), min(self.k + 1, len(distinct)), gpu)

    def __call__(self, X: NDArray[np.float16], batch: int) -> NDArray[np.float32]:
        """Densities `[n]`, from -1 to 1; 0 for a row that is the only distinct sample row."""
        similarity = self._neighbours(X.astype(np.float32), batch)
        own = np.square(X.astype(np.float32)).sum(axis=1)
        copy = np.abs(similarity[:, 0] - own) < 1e-5  # more than rounding, less than the distance to another vector
        first = np.where(copy, 1, 0)
        total = np.concatenate([np.zeros((len(X), 1), np.float32), np.cumsum(similarity, axis=1)], axis=1)
        last = np.minimum(first + self.k, similarity.shape[1])
        row = np.arange(len(X))
        density: NDArray[np.float32] = (total[row, last] - total[row, first]) / np.maximum(last - first, 1)
        return density.astype(np.float32)


class Residual:
    """Bits by which a row exceeds a row at the mean of its cluster; large values lie outside the cluster's directions.

    This is the increase of `coding_length.evidence_bits` by one more row, by the determinant lemma, without the term
    that is equal for all rows of a cluster, so that a wide cluster is not unusual as a whole.
    """

    def __init__(self, moments: Moments, e: float) -> None:
        import torch

        from cpp.clustering.coding_length import posterior

        self.mean, M_Kdd = posterior(moments, e)
        self.L_Kdd = torch.linalg.cholesky(M_Kdd)
        self.count, self.e = moments.count_K, e

    def __call__(self, Z_nd: Tensor, cluster_n: Tensor) -> NDArray[np.float32]:
        """Residuals `[n]` >= 0 in bits of codes `Z_nd` in their clusters `cluster_n` (int64)."""
        import torch

        quadratic = torch.zeros(len(Z_nd), dtype=torch.float64)
        order = torch.argsort(cluster_n, stable=True)
        for k, rows in enumerate(order.split(torch.bincount(cluster_n, minlength=len(self.count)).tolist())):
            if len(rows):
                centred = (Z_nd[rows].to(torch.float64) - self.mean[k]).mT
                solved = torch.linalg.solve_triangular(self.L_Kdd[k], centred, upper=False)
                quadratic[rows] = solved.square().sum(0)
        n = self.count[cluster_n]
        distance = quadratic * (self.e + n) / (self.e + n + 1)
        bits: NDArray[np.float32] = ((Z_nd.shape[1] + 3 + n) / 2 * torch.log2(1 + distance)).float().numpy()
        return bits


def histogram(values: NDArray[np.floating]) -> NDArray[np.int64]:
    """Count the images at each float16 value, `[BINS]`, in ascending order and without NaN; shards add."""
    counts: NDArray[np.int64] = np.bincount(_bin(values[~np.isnan(values)]), minlength=BINS)
    return counts


def ranks(histogram: NDArray[np.int64], values: NDArray[np.floating], large: bool) -> NDArray[np.float64]:
    """The share of images that are less unusual, ties counted by half, in (0, 1); NaN for NaN.

    Large values are unusual if `large`, small ones otherwise. `histogram` must include `values`.
    """
    below = np.cumsum(histogram) - histogram / 2
    rank = np.full(len(values), np.nan)
    known = ~np.isnan(values)
    share = below[_bin(values[known])] / max(int(histogram.sum()), 1)
    rank[known] = share if large else 1 - share
    return rank


def _bin(values: NDArray[np.floating]) -> NDArray[np.int64]:
    """Map values to integers in their order as float16; values outside its range go to the ends."""
    most = np.finfo(np.float16).max
    bits = values.clip(-most, most).astype(np.float16).view(np.uint16).astype(np.int64)
    return np.where(bits >= BINS // 2, BINS - 1 - bits, bits + BINS // 2)
