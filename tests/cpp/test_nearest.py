"""Assignment and k-means against plain numpy."""

import numpy as np
import pytest

from cpp import nearest as assign
from cpp.nearest import Nearest, kmeans
from tests.support.vectors import subspaces


def rows(n: int, d: int, seed: int) -> np.ndarray:
    X = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def test_nearest_and_second_equal_a_naive_search() -> None:
    Z, centroids = rows(500, 16, 0), rows(20, 16, 1)
    found = Nearest(centroids)(Z, batch=64)
    similarity = Z.astype(np.float64) @ centroids.astype(np.float64).T
    order = np.argsort(-similarity, axis=1)
    assert (found.cluster == order[:, 0]).all()
    assert (found.second == order[:, 1]).all()
    top = np.take_along_axis(similarity, order[:, :2], axis=1)
    np.testing.assert_allclose(found.score, top[:, 0], atol=1e-6)
    np.testing.assert_allclose(found.margin, top[:, 0] - top[:, 1], atol=1e-6)


def test_where_several_centroids_stand_for_a_cluster_the_second_is_of_another() -> None:
    """However many centroids of the own cluster are nearer, as plain numpy finds it."""
    Z, centroids = rows(300, 4, 0), rows(40, 4, 1)
    cluster = np.array([0] * 30 + [1] * 7 + [2] * 3)
    group, found = Nearest(centroids, cluster=cluster).groups(Z, batch=64)
    best = np.stack([(Z @ centroids[cluster == k].T).max(1) for k in range(3)], axis=1)
    order = np.argsort(-best, axis=1)
    assert (cluster[group] == found.cluster).all()
    assert (found.cluster == order[:, 0]).all()
    assert (found.second == order[:, 1]).all()
    np.testing.assert_allclose(found.margin, -np.diff(-np.sort(-best, axis=1)[:, :2])[:, 0], atol=1e-6)


def test_an_inverted_file_finds_nearly_all_and_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    Z, centroids = rows(400, 16, 0), rows(4000, 16, 1)
    exact = Nearest(centroids)(Z, 64)
    monkeypatch.setattr(assign, "EXACT", 1000)
    near = Nearest(centroids)
    found = near(Z, 64)
    same = found.cluster == exact.cluster
    assert 0.9 < same.mean() < 1
    assert near.recall(Z) == pytest.approx(same[:256].mean(), abs=0.01)
    np.testing.assert_allclose(found.score, np.einsum("nd,nd->n", Z, centroids[found.cluster]), atol=1e-6)
    assert (found.score <= exact.score + 1e-6).all()
    for a, b in zip(found, Nearest(centroids)(Z, 400), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_second_cluster_is_found_where_the_lists_hold_none(monkeypatch: pytest.MonkeyPatch) -> None:
    Z, centroids = rows(50, 8, 0), rows(2000, 8, 1)
    cluster = np.arange(2000) // 1999  # the last alone: lists that are not full end with the number -1
    monkeypatch.setattr(assign, "EXACT", 1000)
    monkeypatch.setattr(assign, "LISTS", 4)
    found = Nearest(centroids, cluster=cluster)(Z, 64)
    assert (found.cluster == 0).all()
    assert (found.second == 1).all()
    np.testing.assert_allclose(found.score - found.margin, Z @ centroids[-1], atol=1e-6)


def test_the_batch_changes_nothing() -> None:
    Z, nearest = rows(500, 16, 0), Nearest(rows(20, 16, 1))
    for a, b in zip(nearest(Z, 500), nearest(Z, 33), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_single_cluster_has_no_second() -> None:
    Z = rows(5, 4, 0)
    found = Nearest(Z[:1])(Z, 8)
    assert (found.cluster == 0).all()
    assert (found.second == -1).all()
    np.testing.assert_allclose(found.margin, found.score + 1)


def test_no_rows_and_another_dimension() -> None:
    nearest = Nearest(rows(3, 4, 0))
    assert len(nearest(np.empty((0, 4), np.float32), 8).cluster) == 0
    with pytest.raises(ValueError, match="rows have dimension 5, the centroids 4"):
        nearest(rows(2, 5, 0), 8)


def test_kmeans_finds_separated_directions_and_is_seeded() -> None:
    X = np.repeat(np.eye(8, dtype=np.float32), 25, axis=0) + 0.05 * rows(200, 8, 0)
    found = kmeans(X, 8, seed=0)
    assert sorted(found.argmax(axis=1)) == list(range(8))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert np.array_equal(found, kmeans(X, 8, seed=0))


def test_more_restarts_are_never_worse() -> None:
    X = subspaces(400, 6, 2, 16, seed=0)[0].numpy()
    objective = [float((X @ kmeans(X, 12, seed=1, restarts=r).T).max(axis=1).sum()) for r in (1, 8)]
    assert objective[1] >= objective[0]


@pytest.mark.parametrize("K", [0, 6])
def test_impossible_numbers_of_clusters_are_errors(K: int) -> None:
    with pytest.raises(ValueError, match=f"n_clusters is {K}, must be from 1 to the number of rows, 5"):
        kmeans(rows(5, 4, 0), K, seed=0)
