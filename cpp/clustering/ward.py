"""Ward's tree of rows, from distances by matrix products. Knows no files and no labels.

Source: Ward, JASA 58, 1963.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LARGEST = 16_384  # rows at most: the distances take a gigabyte, of which SciPy makes a copy
BLOCK = 1024  # rows whose distances to the others are computed at a time

Merges = NDArray[np.float64]


def ward(Z: NDArray[np.float32]) -> Merges:
    """The merges of rows `[n, d]`, n >= 2, as SciPy's `linkage` returns them; takes 8 n^2 bytes."""
    from scipy.cluster.hierarchy import linkage

    rows, n = Z.astype(np.float64), len(Z)
    squares, distances, end = (rows * rows).sum(1), np.empty(n * (n - 1) // 2), 0
    for start in range(0, n, BLOCK):
        block = slice(start, start + BLOCK)
        squared = squares[block, None] + squares[start:] - 2 * rows[block] @ rows[start:].T
        for i, line in enumerate(np.sqrt(squared.clip(0))):
            end, begin = end + len(line) - i - 1, end
            distances[begin:end] = line[i + 1 :]
    merges: Merges = linkage(distances, "ward")
    return merges


def cut(merges: Merges, n_clusters: int) -> NDArray[np.int64]:
    """The cluster of each row, `[n]`, before the last K - 1 merges: exactly K clusters, also with equal distances."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(merges) + 1
    parts = merges[: n - n_clusters, :2].astype(np.int64)
    into = np.arange(n, n + len(parts)).repeat(2)
    size = n + len(parts)
    graph = coo_array((np.ones(len(into), np.int8), (parts.ravel(), into)), (size, size))
    label = connected_components(graph, directed=False)[1][:n]
    return np.asarray(np.unique(label, return_inverse=True)[1], np.int64)
