"""Blocks of the rows of a cell whose matrix products hold every pair of near-duplicates: a second level of cells.

The rows are divided into small cells, by the rule of `cells.py`, so that a row is compared with those of its own small
cell and its guests. Which row is a guest where is stored as one bit. Knows no files and no pairs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cpp.curation.cells import near_borders

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

ROWS = 128  # mean number of rows whose home is a small cell; tests/bench/RESULTS.md has the costs
SAMPLE = 16  # rows for each centroid that k-means is trained on
BATCH = 4096  # rows that are assigned at a time
TILE = (256, 4096)  # largest numbers of rows in the two factors of a product: 4 MiB of float32


class Blocks:
    """Blocks in which all pairs meet whose unit rows `[n, d]` have an inner product of at least `lowest`.

    The first `members` rows are compared with all rows, and the rest are not compared with each other.
    """

    def __init__(self, X: Floats, members: int, lowest: float) -> None:
        from cpp.nearest import kmeans

        self._members = members
        n_cells = max(1, len(X) // ROWS)
        n_sample = min(len(X), SAMPLE * n_cells)
        sample = np.linspace(0, len(X), n_sample, endpoint=False).astype(np.int64)
        centroids = kmeans(X[sample], n_cells, seed=0) if n_cells > 1 else X[:1]
        homes, bits = list[NDArray[np.int32]](), list[NDArray[np.uint8]]()
        for start in range(0, len(X), BATCH):
            home, near = near_borders(X[start : start + BATCH], centroids, lowest)
            homes.append(home)
            bits.append(np.packbits(near, axis=0).T)
        self._home = np.concatenate(homes)
        self._guest_bits = np.concatenate(bits, axis=1)  # [cells, n / 8], as BATCH is a multiple of 8

    def __iter__(self) -> Iterator[tuple[Ints, Ints]]:
        """The row numbers of the two factors of each product; all of the first factor have the same home."""
        by_home = np.argsort(self._home, kind="stable")
        ends = np.cumsum(np.bincount(self._home, minlength=len(self._guest_bits)))
        for home, bits in zip(np.split(by_home, ends[:-1]), self._guest_bits, strict=True):
            guests = np.flatnonzero(np.unpackbits(bits, count=len(self._home)))
            n_home, n_guests = np.searchsorted(home, self._members), np.searchsorted(guests, self._members)
            yield from _tiles(home[:n_home], np.concatenate([home, guests]))
            yield from _tiles(home[n_home:], guests[:n_guests])

    def counts_here(self, a: Ints, b: Ints) -> NDArray[np.bool_]:
        """Whether a pair of a row of the first and one of the second factor counts in this block.

        A pair that meets in two blocks counts in that of the lower cell; in one cell it counts in one direction.
        """
        home, other = self._home[a], self._home[b]
        meets_there = self._guest_bits[other, a >> 3] >> (7 - (a & 7)).astype(np.uint8) & 1
        return np.where(home == other, a < b, (home < other) | (meets_there == 0))


def _tiles(a: Ints, b: Ints) -> Iterator[tuple[Ints, Ints]]:
    for i in range(0, len(a), TILE[0]):
        for j in range(0, len(b), TILE[1]):
            yield a[i : i + TILE[0]], b[j : j + TILE[1]]
