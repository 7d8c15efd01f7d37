"""The maximum spanning forest of pairs that pass by: all that groups at any threshold need of them.

Two rows are connected by pairs of at least a threshold exactly where the forest connects them by such pairs (Gower and
Ross 1969), so that a row costs one pair, however many it is in. Knows no vectors and no files.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

LEVELS = 16  # similarities at which it is known who is connected
WAITING = 1 << 18  # pairs that wait before the forest is made anew


class Forest:
    """Of rows 0 to `n` - 1. `a`, `b` and `similarity` are its pairs after `settle`."""

    def __init__(self, n: int, lowest: float) -> None:
        self.n = n
        self.a, self.b, self.similarity = _none()
        self._levels = np.linspace(lowest, 1, LEVELS + 1, dtype=np.float32)[1:]
        self._labels: NDArray[np.int32] | None = None  # of each level, the component of each row
        self._waiting: list[tuple[Ints, Ints, Floats]] = []
        self._many = 0

    def add(self, a: Ints, b: Ints, similarity: Floats) -> None:
        """Pairs of different rows; none of them is added twice."""
        a, b, similarity = self._useful(a, b, similarity)
        if len(a) > WAITING:  # the nearest of every row first: they connect most of what the others would
            nearest = np.zeros(self.n, np.float32)
            np.maximum.at(nearest, a, similarity)
            first = similarity == nearest[a]
            self._wait(a[first], b[first], similarity[first])
            self.settle()
            a, b, similarity = self._useful(a[~first], b[~first], similarity[~first])
        self._wait(a, b, similarity)
        if self._many > WAITING:
            self.settle()

    def settle(self) -> None:
        """Make the forest of its pairs and those that wait."""
        if self._many:
            parts = [(self.a, self.b, self.similarity), *self._waiting]
            a, b, similarity = (np.concatenate(part) for part in zip(*parts, strict=True))
            self.a, self.b, self.similarity = spanning(self.n, a, b, similarity)
            self._waiting, self._many, self._labels = [], 0, None

    def _wait(self, a: Ints, b: Ints, similarity: Floats) -> None:
        self._waiting.append((a, b, similarity))
        self._many += len(a)

    def _useful(self, a: Ints, b: Ints, similarity: Floats) -> tuple[Ints, Ints, Floats]:
        """The pairs whose rows are not connected by larger ones, as far as the levels say."""
        if not len(self.a) or not len(a):
            return a, b, similarity
        if self._labels is None:
            self._labels = np.stack(
                [connected(self.n, self.a[more], self.b[more]) for more in self.similarity >= self._levels[:, None]]
            )
        level = np.minimum(np.searchsorted(self._levels, similarity), LEVELS - 1)
        useful = (self._labels[level, a] != self._labels[level, b]) | (similarity > self._levels[level])
        return a[useful], b[useful], similarity[useful]


def spanning(n: int, a: Ints, b: Ints, similarity: Floats) -> tuple[Ints, Ints, Floats]:
    """The maximum spanning forest of pairs of which none stands twice. Similarities are below 2."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import minimum_spanning_tree

    weights = 2.0 - similarity.astype(np.float64)  # exact both ways; none is 0, which would be no pair
    tree = minimum_spanning_tree(coo_array((weights, (a, b)), shape=(n, n)).tocsr()).tocoo()
    return tree.row.astype(np.int64), tree.col.astype(np.int64), (2.0 - tree.data).astype(np.float32)


def connected(n: int, a: Ints, b: Ints) -> NDArray[np.int32]:
    """The number of the component of each of `n` rows."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(n, n)).tocsr()
    found: NDArray[np.int32] = connected_components(graph, directed=False)[1]
    return found


def _none() -> tuple[Ints, Ints, Floats]:
    return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
