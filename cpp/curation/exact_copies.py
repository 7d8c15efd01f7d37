"""How many images are exact copies of another, by hashes of their vectors, in bounded memory. Knows no files.

Where there are too many different vectors to remember, those are kept whose hash ends in enough zeros, and the count is
that of a sample scaled up: Gibbons, "Distinct sampling", VLDB 2001.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

KEPT = 1 << 20  # different vectors that are remembered
ROWS = 4096  # hashed at a time


class Copies(NamedTuple):
    """Rows, how many of them are a copy of a row before them, and whether that is exact or scaled from a sample."""

    rows: int
    copies: int
    exact: bool


class Counter:
    """Counts copies while batches of rows pass by."""

    def __init__(self, kept: int = KEPT) -> None:
        self.kept = kept
        self.rows = self.level = 0
        self._hash, self._count = np.empty(0, np.uint64), np.empty(0, np.int64)

    def add(self, found: NDArray[np.uint64]) -> None:
        """`hashes` of rows, `[n]`."""
        self.rows += len(found)
        every = np.concatenate([self._hash, found])
        weight = np.concatenate([self._count, np.ones(len(found), np.int64)])
        sampled = self._sampled(every)
        self._hash, where = np.unique(every[sampled], return_inverse=True)
        self._count = np.bincount(where, weights=weight[sampled], minlength=len(self._hash)).astype(np.int64)
        while len(self._hash) > self.kept:
            self.level += 1
            sampled = self._sampled(self._hash)
            self._hash, self._count = self._hash[sampled], self._count[sampled]

    def _sampled(self, values: NDArray[np.uint64]) -> NDArray[np.bool_]:
        return np.asarray((values & np.uint64((1 << self.level) - 1)) == 0)

    def total(self) -> Copies:
        copies = int((self._count - 1).sum()) << self.level
        return Copies(self.rows, copies, self.level == 0)


def hashes(X_nd: NDArray[np.float16]) -> NDArray[np.uint64]:
    """A 64-bit hash of each row `[n, d]`: multilinear, then mixed so that every bit depends on all (the end of
    MurmurHash3)."""
    return np.concatenate([_hashed(X_nd[i : i + ROWS]) for i in range(0, len(X_nd), ROWS)] or [np.empty(0, np.uint64)])


def _hashed(X_nd: NDArray[np.float16]) -> NDArray[np.uint64]:
    words = np.ascontiguousarray(X_nd).view(np.uint16).astype(np.uint64)
    factors = np.random.default_rng(0).integers(1 << 63, size=words.shape[1], dtype=np.uint64) * np.uint64(2)
    h: NDArray[np.uint64] = (words * (factors + np.uint64(1))).sum(axis=1, dtype=np.uint64)
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        h = (h ^ (h >> np.uint64(33))) * np.uint64(factor)
    return h ^ (h >> np.uint64(33))
