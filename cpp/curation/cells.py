"""Cells of the vectors, in each of which near-duplicates are searched, so that no pair across a border is missed.

A row is a member of the cell of its nearest centroid, and a guest of every other cell whose border is within half the
distance that duplicates may have. Of two rows in different cells, the line between them crosses the border of the two
cells (the plane of equal distance to both centroids), so that one of them is within half their distance of it, and is
a guest in the cell of the other. Knows no files.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ROWS = 65_536  # mean number of members of a cell: with guests, they and their bounds are in memory together
SAMPLE = 64  # rows for each centroid that k-means is trained on
BATCH = 8192  # rows that are assigned at a time
SLACK = 1e-4  # added to the distance, against the rounding of float16 and float32


class Cells(NamedTuple):
    """The cells of rows `[n, d]`: the home cell of every row, `[n]`, and its guest cells as pairs of row and cell."""

    home: NDArray[np.int32]
    guest_row: NDArray[np.int64]
    guest_cell: NDArray[np.int32]


def train_centroids(sample: NDArray[np.float16], rows: int, seed: int) -> NDArray[np.float32]:
    """Unit centroids `[K, d]` for so many rows in all, by k-means on a sample of them."""
    from cpp.nearest import kmeans

    n = min(max(1, -(-rows // ROWS)), len(sample))
    X = sample.astype(np.float32)
    return kmeans(X / np.linalg.norm(X, axis=1, keepdims=True), n, seed)


def assign_cells(X: NDArray[np.float16], centroids: NDArray[np.float32], threshold: float) -> Cells:
    """Assign rows to cells such that every pair with a cosine of at least `threshold` meets in one of them."""
    homes, guests = [np.empty(0, np.int32)], [np.empty((0, 2), np.int64)]
    for start in range(0, len(X), BATCH):
        rows = X[start : start + BATCH].astype(np.float32)
        home, near = near_borders(rows / np.linalg.norm(rows, axis=1, keepdims=True), centroids, threshold)
        homes.append(home)
        guests.append(np.argwhere(near) + np.array([start, 0]))
    guest = np.concatenate(guests)
    return Cells(np.concatenate(homes), guest[:, 0], guest[:, 1].astype(np.int32))


def near_borders(
    X: NDArray[np.float32], centroids: NDArray[np.float32], threshold: float
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """The home cell of unit rows, `[n]`, and of which other cells they are guests, `[n, K]`."""
    reach = np.float32(np.sqrt(max(2 - 2 * threshold, 0)) / 2 + SLACK)
    between = np.sqrt(np.maximum(2 - 2 * centroids @ centroids.T, 0))
    similarity = X @ centroids.T
    home = similarity.argmax(axis=1)
    near = similarity.max(axis=1, keepdims=True) - similarity <= reach * between[home]
    near[np.arange(len(X)), home] = False
    return home.astype(np.int32), near
