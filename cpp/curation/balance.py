"""Number of images that each cluster contributes to a balanced subset, and its diverse images. Knows no files.

Shares follow Webster's method: image j of a cluster of size n has rank n^power / (j - 1/2), and the images of largest
rank are taken. Power 0 takes one image from each cluster in turn until the smallest cluster is exhausted, and then
continues with the others; power 1 is proportional. A coarse cluster divides its share among its parts in the same way.
The order is fixed, so a smaller subset takes from no cluster more than a larger subset does.

Source: Vo et al., "Automatic data curation for self-supervised learning: a clustering-based approach",
arXiv 2405.15613, section 3.3 (hierarchical sampling). That paper shares evenly at every level; here the finest clusters
are even, because the levels of a data-driven tree are uneven: see tests/bench/RESULTS.md.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


def shares(sizes: Counts, total: int, power: float) -> Counts:
    """The share of each cluster, `[K]`, with sum `total`, or all images if there are fewer.

    Ties in rank go to the larger cluster, then to the first. ValueError for a power below 0.
    """
    return _shares(sizes, total, _weights(sizes, power))


def _weights(sizes: Counts, power: float) -> NDArray[np.float64]:
    """The size of each cluster to this power, 0 for an empty one. ValueError for a power below 0."""
    if power < 0:
        raise ValueError(f"power is {power:g}, must be at least 0: 0 is even, 1 is proportional to the sizes")
    return np.where(sizes > 0, sizes.clip(1).astype(np.float64) ** power, 0.0)


def _shares(sizes: Counts, total: int, weight: NDArray[np.float64]) -> Counts:
    """The share of each cluster by Webster's method with these weights."""
    if total >= sizes.sum():
        return sizes.copy()
    taken = _above(sizes, weight, total)
    waiting = [(-weight[k] / (taken[k] + 0.5), -sizes[k], k) for k in np.flatnonzero(taken < sizes)]
    heapq.heapify(waiting)
    for _ in range(total - int(taken.sum())):
        _, size, k = heapq.heappop(waiting)
        taken[k] += 1
        if taken[k] < sizes[k]:
            heapq.heappush(waiting, (-weight[k] / (taken[k] + 0.5), size, k))
    return taken


def _above(sizes: Counts, weight: NDArray[np.float64], total: int) -> Counts:
    """Count the images of each cluster above a rank found by bisection: at most `total` in all, and nearly as many."""
    low, high = 0.0, 4 * float(weight.max())  # too many images are above `low`, none above `high`
    taken = np.zeros_like(sizes)
    for _ in range(100):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        counts = np.minimum(sizes, np.ceil(weight / middle - 0.5).astype(np.int64))  # j - 1/2 < weight / middle
        if counts.sum() <= total:
            high, taken = middle, counts
        else:
            low = middle
    return (taken - 1).clip(0)  # rounding may have counted one image too many


def hierarchical_shares(layers: Sequence[Counts], sizes: Counts, total: int, power: float) -> Counts:
    """The share of each cluster of the finest layer, `[K]`, when coarser clusters divide `total` first.

    A coarser cluster counts for all finest clusters in it, so that the finest ones have the shares of one layer as far
    as they have images; what a small one lacks is supplied by those that are nearest to it in the layers first.
    `layers[i]` `[K]` is the cluster of a coarser layer that contains each finest cluster, the coarsest layer first;
    `sizes` are those of the finest clusters.
    """
    weights = _weights(sizes, power)
    coarser, taken = np.zeros(len(sizes), np.int64), np.array([min(total, int(sizes.sum()))], np.int64)
    for finer in [*layers, np.arange(len(sizes))]:
        n = int(finer.max()) + 1 if len(finer) else 0
        members = np.bincount(finer, weights=sizes, minlength=n).astype(np.int64)
        weight = np.bincount(finer, weights=weights, minlength=n).astype(np.float64)
        parent = np.zeros(n, np.int64)
        parent[finer] = coarser
        shared = np.zeros(n, np.int64)
        order = np.argsort(parent, kind="stable")
        for k, parts in enumerate(np.split(order, np.searchsorted(parent[order], np.arange(1, len(taken))))):
            shared[parts] = _shares(members[parts], int(taken[k]), weight[parts])
        coarser, taken = finer, shared
    return taken


def effective_number(sizes: Counts) -> float:
    """The effective number of clusters: exp of the entropy of the relative sizes; 0 without images."""
    from scipy.special import entr

    return float(np.exp(entr(sizes / sizes.sum()).sum())) if sizes.sum() else 0.0


def farthest_first(X_nd: NDArray[np.floating], k: int) -> NDArray[np.int64]:
    """Choose `k` diverse row numbers, 0 <= k <= n: the row nearest to the mean, then the farthest from those chosen.

    Ties go to the first row, so the choice for a smaller k is a prefix of that for a larger one. The largest distance
    of a row to its nearest chosen row is at most twice the optimum for k rows (Gonzalez, "Clustering to minimize the
    maximum intercluster distance", 1985).
    """
    X = X_nd.astype(np.float32)
    distance = np.square(X - X.mean(axis=0)).sum(axis=1) if len(X) else np.empty(0, np.float32)
    squared, chosen = np.square(X).sum(axis=1), np.empty(k, np.int64)
    nearest = np.full(len(X), np.inf, np.float32)
    for i in range(k):
        chosen[i] = row = int(nearest.argmax() if i else distance.argmin())
        nearest = np.minimum(nearest, squared - 2 * (X @ X[row]) + squared[row])
        nearest[row] = -np.inf
    return chosen
