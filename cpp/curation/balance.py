"""How many images each cluster gives to a subset of a certain size, down the layers. Knows no files and no images.

Every image of a cluster is a unit, and units are given in one fixed order until there are as many as asked: unit j of a
cluster of size n has rank n^power / (j - 1/2), the largest first (Webster's method). With power 0 that is one unit for
each cluster in turn until the smallest is empty, then in turn for the others, as water fills vessels; with power 1 it
is in proportion. What a cluster gets is given on to its parts in the same way. Since the order is fixed, a smaller
subset takes from every cluster at most what a larger one does.

Source of the idea: Vo et al., "Automatic data curation for self-supervised learning: a clustering-based approach",
arXiv 2405.15613, section 3.3 (hierarchical sampling, even at every level).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


def shares(sizes: Counts, total: int, power: float) -> Counts:
    """How many each cluster gives, `[K]`: `total` together, or all where there are fewer. Of equal rank the larger one
    comes first, then the first. ValueError for a power below 0."""
    if power < 0:
        raise ValueError(f"power is {power:g}, must be at least 0: 0 is even, 1 in proportion to the sizes")
    if total >= sizes.sum():
        return sizes.copy()
    weight = np.where(sizes > 0, sizes.clip(1).astype(np.float64) ** power, 0)
    given = _above(sizes, weight, total)
    waiting = [(-weight[k] / (given[k] + 0.5), -sizes[k], k) for k in np.flatnonzero(given < sizes)]
    heapq.heapify(waiting)
    for _ in range(total - int(given.sum())):
        _, size, k = waiting[0]
        given[k] += 1
        if given[k] < sizes[k]:
            heapq.heapreplace(waiting, (-weight[k] / (given[k] + 0.5), size, k))
        else:
            heapq.heappop(waiting)
    return given


def _above(sizes: Counts, weight: NDArray[np.float64], total: int) -> Counts:
    """Units of a rank above one that hardly more than `total` have: all of them, and nearly all that there will be."""
    low, high = 0.0, 4 * float(weight.max())  # ranks that too many units have, and that none has
    given = np.zeros_like(sizes)
    for _ in range(100):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        found = np.minimum(sizes, np.ceil(weight / middle - 0.5).astype(np.int64))  # j - 1/2 < weight / middle
        if found.sum() <= total:
            high, given = middle, found
        else:
            low = middle
    return (given - 1).clip(0)  # rounding may have put a last unit on the wrong side


def hierarchical_shares(layers: Sequence[Counts], sizes: Counts, total: int, power: float) -> Counts:
    """How many each cluster of the finest layer gives, `[K]`, its `sizes` known; coarser clusters share first.

    `layers[i]` says of every finest cluster which one of a coarser layer it is in, the coarsest layer first.
    """
    one = np.zeros(len(sizes), np.int64)
    into, given = one, np.array([min(total, int(sizes.sum()))], np.int64)
    for finer in [*layers, np.arange(len(sizes))]:
        n = int(finer.max()) + 1 if len(finer) else 0
        held = np.bincount(finer, weights=sizes, minlength=n).astype(np.int64)
        above = np.zeros(n, np.int64)
        above[finer] = into
        shared = np.zeros(n, np.int64)
        order = np.argsort(above, kind="stable")
        for k, parts in enumerate(np.split(order, np.searchsorted(above[order], np.arange(1, len(given))))):
            shared[parts] = shares(held[parts], int(given[k]), power)
        into, given = finer, shared
    return given


def effective_number(sizes: Counts) -> float:
    """exp of the entropy of the shares: how many clusters of one size are as even; 0 where there is nothing."""
    from scipy.special import entr

    return float(np.exp(entr(sizes / sizes.sum()).sum())) if sizes.sum() else 0.0
