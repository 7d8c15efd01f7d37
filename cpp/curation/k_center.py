"""Rows of a cluster that lie far apart: k-centre by farthest-first traversal. Knows no files.

Of the rows that it sees, every one is at most twice as far from a chosen one as with the best choice of as many
(Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def farthest_first(X_nd: NDArray[np.floating], k: int) -> NDArray[np.int64]:
    """`k` of the rows, `[k]`, in the order in which they are chosen: the nearest to the mean, then always the farthest
    from all before. Of equal ones the first, so that fewer are the beginning of more. `k` from 0 to n."""
    X = X_nd.astype(np.float32)
    distance = np.square(X - X.mean(axis=0)).sum(axis=1) if len(X) else np.empty(0, np.float32)
    squared, chosen = np.square(X).sum(axis=1), np.empty(k, np.int64)
    nearest = np.full(len(X), np.inf, np.float32)
    for i in range(k):
        chosen[i] = row = int(nearest.argmax() if i else distance.argmin())
        nearest = np.minimum(nearest, squared - 2 * (X @ X[row]) + squared[row])
        nearest[row] = -np.inf
    return chosen
