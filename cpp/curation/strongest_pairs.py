"""The strongest pairs of every row in a stream of pairs, in bounded memory. Knows no vectors and no files."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

LIMIT = 64  # pairs that a row keeps; a pair is kept if it is among the strongest of either row
PENDING = 1 << 20  # pending pairs from which weak ones are removed


class Pairs(NamedTuple):
    """Pairs of row numbers `a` and `b`, the cosines of their vectors, and indices into `duplicate_pairs.KINDS`."""

    a: Ints
    b: Ints
    similarity: Floats
    kind: NDArray[np.int8]


class StrongestPairs:
    """The pairs of a stream that are among the `LIMIT` most similar ones of one of their rows."""

    def __init__(self) -> None:
        self._parts: list[tuple[Ints, Ints, Floats]] = []
        self._n = 0

    def add(self, a: Ints, b: Ints, similarity: Floats) -> None:
        """Add pairs of different rows; a pair may be added only once."""
        self._parts.append((a, b, similarity))
        self._n += len(a)
        if self._n > PENDING:
            self._parts = [self.pairs()]
            self._n = len(self._parts[0][0])

    def pairs(self) -> tuple[Ints, Ints, Floats]:
        """The strongest pairs so far, in the order in which they were added."""
        empty = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
        a, b, similarity = (np.concatenate(part) for part in zip(empty, *self._parts, strict=True))
        strong = strongest(a, b, similarity)
        return a[strong], b[strong], similarity[strong]


def strongest(a: Ints, b: Ints, similarity: Floats) -> NDArray[np.bool_]:
    """Which pairs are among the `LIMIT` most similar ones of one of their rows; of equal ones the first."""
    row, pair = np.concatenate([a, b]), np.tile(np.arange(len(a)), 2)
    order = np.lexsort((pair, -similarity[pair], row))
    row = row[order]
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    strong = np.zeros(len(a), bool)
    strong[pair[order[rank < LIMIT]]] = True
    return strong


def merged(pairs: Pairs) -> Pairs:
    """The pairs without repetitions, with `a` < `b` and in ascending order; of a repeated pair the strongest kind."""
    low, high = np.minimum(pairs.a, pairs.b), np.maximum(pairs.a, pairs.b)
    order = np.lexsort((-pairs.kind, high, low))
    low, high = low[order], high[order]
    first = np.ones(len(low), bool)
    first[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    chosen = order[first]
    return Pairs(low[first], high[first], pairs.similarity[chosen], pairs.kind[chosen])
