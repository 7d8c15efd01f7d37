"""Assignment and k-means against plain numpy."""

import numpy as np
import pytest

from cpp import nearest
from cpp.nearest import Nearest, kmeans, nearest_rows


def rows(n: int, d: int, seed: int) -> np.ndarray:
    X = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def test_nearest_and_second_equal_a_naive_search() -> None:
    Z, centroids = rows(500, 16, 0), rows(20, 16, 1)
    result = Nearest(centroids)(Z, batch=64)
    similarity = Z.astype(np.float64) @ centroids.astype(np.float64).T
    order = np.argsort(-similarity, axis=1)
    assert (result.cluster == order[:, 0]).all()
    assert (result.second == order[:, 1]).all()
    top = np.take_along_axis(similarity, order[:, :2], axis=1)
    np.testing.assert_allclose(result.score, top[:, 0], atol=1e-6)
    np.testing.assert_allclose(result.margin, top[:, 0] - top[:, 1], atol=1e-6)


def test_the_second_cluster_differs_where_a_cluster_has_several_centroids() -> None:
    Z, centroids = rows(300, 4, 0), rows(40, 4, 1)
    cluster = np.array([0] * 30 + [1] * 7 + [2] * 3)
    result = Nearest(centroids, cluster=cluster)(Z, batch=64)
    best = np.stack([(Z @ centroids[cluster == k].T).max(1) for k in range(3)], axis=1)
    order = np.argsort(-best, axis=1)
    assert (cluster[result.group] == result.cluster).all()
    assert (result.cluster == order[:, 0]).all()
    assert (result.second == order[:, 1]).all()
    np.testing.assert_allclose(result.margin, -np.diff(-np.sort(-best, axis=1)[:, :2])[:, 0], atol=1e-6)


def test_an_inverted_file_has_high_recall_and_measures_it(monkeypatch: pytest.MonkeyPatch) -> None:
    Z, centroids = rows(400, 16, 0), rows(4000, 16, 1)
    exact = Nearest(centroids)(Z, 64)
    monkeypatch.setattr(nearest, "EXACT", 1000)
    near = Nearest(centroids)
    result = near(Z, 64)
    same = result.cluster == exact.cluster
    assert 0.9 < same.mean() < 1
    assert near.recall(Z) == pytest.approx(same[:256].mean(), abs=0.01)
    np.testing.assert_allclose(result.score, np.einsum("nd,nd->n", Z, centroids[result.cluster]), atol=1e-6)
    assert (result.score <= exact.score + 1e-6).all()
    for a, b in zip(result, Nearest(centroids)(Z, 400), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_an_exhaustive_search_finds_a_second_cluster_that_the_lists_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    Z, centroids = rows(50, 8, 0), rows(2000, 8, 1)
    cluster = np.arange(2000) // 1999  # one centroid is a cluster by itself; FAISS fills short lists with -1
    monkeypatch.setattr(nearest, "EXACT", 1000)
    monkeypatch.setattr(nearest, "LISTS", 4)
    result = Nearest(centroids, cluster=cluster)(Z, 64)
    assert (result.cluster == 0).all()
    assert (result.second == 1).all()
    np.testing.assert_allclose(result.score - result.margin, Z @ centroids[-1], atol=1e-6)


def test_results_do_not_depend_on_the_batch() -> None:
    Z, search = rows(500, 16, 0), Nearest(rows(20, 16, 1))
    for a, b in zip(search(Z, 500), search(Z, 33), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_single_cluster_has_no_second() -> None:
    Z = rows(5, 4, 0)
    result = Nearest(Z[:1])(Z, 8)
    assert (result.cluster == 0).all()
    assert (result.second == -1).all()
    np.testing.assert_allclose(result.margin, result.score + 1)


def test_no_rows_give_no_assignment_and_another_dimension_is_an_error() -> None:
    search = Nearest(rows(3, 4, 0))
    assert len(search(np.empty((0, 4), np.float32), 8).cluster) == 0
    with pytest.raises(ValueError, match="rows have dimension 5, the centroids 4"):
        search(rows(2, 5, 0), 8)


def test_kmeans_finds_separated_directions_and_is_seeded() -> None:
    X = np.repeat(np.eye(8, dtype=np.float32), 25, axis=0) + 0.05 * rows(200, 8, 0)
    centroids = kmeans(X, 8, seed=0)
    assert sorted(centroids.argmax(axis=1)) == list(range(8))
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, atol=1e-5)
    assert np.array_equal(centroids, kmeans(X, 8, seed=0))


def test_nearest_rows_of_some_in_an_inverted_file(monkeypatch: pytest.MonkeyPatch) -> None:
    X, some = rows(3000, 8, 0), np.arange(5, 3000, 7)
    similarity = X @ X.T
    np.fill_diagonal(similarity, -2)
    exact = np.argsort(-similarity, axis=1)[some, :10]
    assert (nearest_rows(X, 10, rows=some) == exact).mean() > 0.999  # but for ties
    monkeypatch.setattr(nearest, "EXACT", 1000)
    near = nearest_rows(X, 10, rows=some)
    overlap = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(near, exact, strict=True)])
    assert 0.9 < overlap < 1
    assert (nearest_rows(X, 2999, rows=some[:3]) >= 0).all()  # more than the lists have
