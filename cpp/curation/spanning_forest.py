"""Maximum spanning forest of a stream of pairs, which determines the groups at every threshold.

Pairs above a threshold connect two rows if and only if such pairs of the forest do (Gower and Ross, 1969), so memory is
one pair per row, however many pairs a row is in. Knows no vectors and no files.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

LEVELS = 16  # similarities at which connected components are cached
PENDING = 1 << 18  # pending pairs from which the forest is rebuilt


class Pairs(NamedTuple):
    """Pairs of row numbers `a` and `b`, the cosines of their vectors, and indices into `duplicate_pairs.KINDS`."""

    a: Ints
    b: Ints
    similarity: Floats
    kind: NDArray[np.int8]


class Forest:
    """A forest of the rows 0 to `n` - 1; `a`, `b` and `similarity` are its pairs after `settle`."""

    def __init__(self, n: int, lowest: float) -> None:
        self.n = n
        self.a, self.b, self.similarity = no_pairs()
        self._levels = np.linspace(lowest, 1, LEVELS + 1, dtype=np.float32)[1:]
        self._labels: NDArray[np.int32] | None = None  # component of each row, at each level
        self._pending: list[tuple[Ints, Ints, Floats]] = []
        self._n_pending = 0

    def add(self, a: Ints, b: Ints, similarity: Floats) -> None:
        """Add pairs of different rows; a pair may be added only once."""
        a, b, similarity = self._useful(a, b, similarity)
        if len(a) > PENDING:  # the nearest pair of each row first, which makes most others redundant
            nearest = np.zeros(self.n, np.float32)
            np.maximum.at(nearest, a, similarity)
            first = similarity == nearest[a]
            self._pending.append((a[first], b[first], similarity[first]))
            self.settle()
            a, b, similarity = self._useful(a[~first], b[~first], similarity[~first])
        self._pending.append((a, b, similarity))
        self._n_pending += len(a)
        if self._n_pending > PENDING:
            self.settle()

    def settle(self) -> None:
        """Rebuild the forest from its pairs and the pending ones."""
        if self._pending:
            parts = [(self.a, self.b, self.similarity), *self._pending]
            a, b, similarity = (np.concatenate(part) for part in zip(*parts, strict=True))
            self.a, self.b, self.similarity = spanning(self.n, a, b, similarity)
            self._pending, self._n_pending, self._labels = [], 0, None

    def _useful(self, a: Ints, b: Ints, similarity: Floats) -> tuple[Ints, Ints, Floats]:
        """Drop pairs whose rows are connected by larger pairs, as far as the cached levels show."""
        if not len(self.a) or not len(a):
            return a, b, similarity
        if self._labels is None:
            self._labels = np.stack(
                [connected(self.n, self.a[above], self.b[above]) for above in self.similarity >= self._levels[:, None]]
            )
        level = np.minimum(np.searchsorted(self._levels, similarity), LEVELS - 1)
        useful = (self._labels[level, a] != self._labels[level, b]) | (similarity > self._levels[level])
        return a[useful], b[useful], similarity[useful]


def spanning(n: int, a: Ints, b: Ints, similarity: Floats) -> tuple[Ints, Ints, Floats]:
    """The maximum spanning forest of distinct pairs; similarities must be below 2."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import minimum_spanning_tree

    weights = 2.0 - similarity.astype(np.float64)  # exact in both directions, and never 0, which would mean no edge
    tree = minimum_spanning_tree(coo_array((weights, (a, b)), shape=(n, n)).tocsr()).tocoo()
    return tree.row.astype(np.int64), tree.col.astype(np.int64), (2.0 - tree.data).astype(np.float32)


def connected(n: int, a: Ints, b: Ints) -> NDArray[np.int32]:
    """The component number of each of `n` rows, `[n]`."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(n, n)).tocsr()
    component: NDArray[np.int32] = connected_components(graph, directed=False)[1]
    return component


def no_pairs() -> tuple[Ints, Ints, Floats]:
    """No rows `a`, no rows `b` and no similarities."""
    return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
