"""Diverse rows of a cluster: k-centre by farthest-first traversal. Knows no files.

The largest distance of a row to its nearest chosen row is at most twice the optimum for k rows (Gonzalez, "Clustering
to minimize the maximum intercluster distance", 1985).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def farthest_first(X_nd: NDArray[np.floating], k: int) -> NDArray[np.int64]:
    """Choose `k` row numbers, 0 <= k <= n, in order: the row nearest to the mean, then the farthest from those chosen.

    Ties go to the first row, so the choice for a smaller k is a prefix of that for a larger one.
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
