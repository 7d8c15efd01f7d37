"""Cells: every pair of near rows meets in one of them."""

import numpy as np
import pytest

from cpp.curation import cells
from cpp.nearest import kmeans


@pytest.mark.parametrize("threshold", [0.9, 0.97, 1.0])
def test_every_pair_from_the_threshold_on_meets_in_a_cell(threshold: float) -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((600, 6))
    X[300:] = X[:300] + 0.15 * rng.standard_normal((300, 6))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    vectors = X.astype(np.float16)
    centroids = kmeans(X.astype(np.float32), 12, 0)
    result = cells.assign_cells(vectors, centroids, threshold)
    assert np.array_equal(result.home, (vectors.astype(np.float32) @ centroids.T).argmax(axis=1))
    inside = np.zeros((600, 12), bool)
    inside[result.guest_row, result.guest_cell] = True
    assert not inside[np.arange(600), result.home].any()
    V = vectors.astype(np.float64)
    V /= np.linalg.norm(V, axis=1, keepdims=True)
    pairs = [(i, j) for i, j in np.argwhere(threshold <= V @ V.T) if i < j and result.home[i] != result.home[j]]
    assert threshold == 1 or len(pairs) > 10
    for i, j in pairs:
        assert inside[i, result.home[j]] or inside[j, result.home[i]]
    assert inside.mean() < 0.5


def test_few_rows_are_one_cell_without_guests() -> None:
    X = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float16)
    centroids = cells.train_centroids(X, 50, 0)
    assert centroids.shape == (1, 8)
    assert not cells.assign_cells(X, centroids, 0.5).guest_row.size


def test_the_number_of_cells_follows_the_number_of_rows() -> None:
    X = np.random.default_rng(0).standard_normal((200, 8)).astype(np.float16)
    assert len(cells.train_centroids(X, 3 * cells.ROWS, 0)) == 3
