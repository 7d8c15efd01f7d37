"""Groups of a sample: exact where there is one answer, the right method where there are two, clear at the edges."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from cpp.clustering.partition import Method, centroids, partition, silhouette
from cpp.clustering.spectral import spectral
from cpp.evaluation.metrics import scores
from cpp.rate_reduction.head import Codes
from tests.support.vectors import blobs, subspaces


def groups(Z: Tensor, K: int, method: Method, landmarks: int = 8192, seed: int = 0) -> np.ndarray:
    return partition(Codes(Z, Z), K, method, 0.1, landmarks, seed).group


@pytest.mark.parametrize(("K", "rank"), [(2, 1), (5, 3), (12, 2)])
def test_spectral_recovers_unions_of_subspaces_exactly(K: int, rank: int) -> None:
    X, group = subspaces(60 * K, K, rank, 48, seed=K)
    assert scores(group, spectral(X, K, 0.1, 5, seed=0)).ari == 1
    if rank > 1:
        assert scores(group, groups(X, K, "kmeans")).ari < 0.9


@pytest.mark.parametrize("method", ["kmeans", "spectral", "auto"])
def test_every_method_recovers_clear_clusters(method: Method) -> None:
    Z, group = blobs([40, 30, 50, 20, 40], 0.08)
    assert scores(group, groups(Z, 5, method)).ari == 1


def test_landmarks_suffice_for_all_rows() -> None:
    Z, group = blobs([400] * 5, 0.15)
    for method in ("kmeans", "spectral"):
        assert scores(group, groups(Z, 5, method, landmarks=100)).ari == 1


def test_auto_keeps_the_method_of_larger_silhouette() -> None:
    skewed, few = blobs([600, 12, 12, 12, 12, 12], 0.05, seed=1)
    skewed[:600, 10:14] += 0.5 * torch.randn(600, 4, generator=torch.Generator().manual_seed(1))
    skewed = normalize(skewed, dim=1)
    chosen = partition(Codes(skewed, skewed), 6, "auto", 0.1, 8192, 0)
    alone = {"kmeans": groups(skewed, 6, "kmeans"), "spectral": groups(skewed, 6, "spectral")}
    assert chosen.silhouettes["spectral"] > chosen.silhouettes["kmeans"] + 0.05
    assert np.array_equal(chosen.group, alone["spectral"])
    assert scores(few, chosen.group).ari > scores(few, alone["kmeans"]).ari + 0.5  # which cuts the large one up
    touching, even = blobs([150] * 6, 0.2, seed=2)
    close = partition(Codes(touching, touching), 6, "auto", 0.1, 8192, 0)
    assert abs(close.silhouettes["kmeans"] - close.silhouettes["spectral"]) < 0.015  # then k-means it is
    assert np.array_equal(close.group, groups(touching, 6, "kmeans"))
    chosen = partition(Codes(touching, touching), 6, "auto", 0.02, 8192, 0)
    assert chosen.silhouettes["kmeans"] > chosen.silhouettes["spectral"] + 0.05
    assert np.array_equal(chosen.group, groups(touching, 6, "kmeans"))
    assert scores(even, chosen.group).ari > 0.9


def test_seed_decides_and_order_of_rows_does_not() -> None:
    X, _ = subspaces(200, 4, 2, 24, seed=1)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    for method in ("spectral", "kmeans"):
        first = groups(X, 4, method, seed=3)
        assert (first == groups(X, 4, method, seed=3)).all()
        assert scores(first[order], groups(X[order], 4, method, seed=3)).ari == 1


def test_one_group_and_as_many_groups_as_rows() -> None:
    X, _ = subspaces(12, 3, 2, 24, seed=1)
    methods: list[Method] = ["auto", "spectral", "kmeans"]
    for method in methods:
        assert set(groups(X, 1, method)) == {0}
        assert set(groups(X, 12, method)) == set(range(12))
        assert len(set(groups(X, 11, method))) <= 11


def test_copies_are_in_one_group() -> None:
    Z, group = blobs([10, 10, 10], 0.0)
    for K in (3, 5):
        assert scores(group, groups(Z, K, "auto")).ari == 1


@pytest.mark.parametrize("K", [0, 13])
def test_group_count_out_of_range_is_an_error(K: int) -> None:
    X, _ = subspaces(12, 3, 2, 24, seed=1)
    with pytest.raises(
        ValueError, match=f"partition.n_clusters is {K}, must be from 1 to the number of sample rows, 12"
    ):
        groups(X, K, "auto")


def test_a_silhouette_by_hand() -> None:
    Z = np.array([[1, 0], [1, 0], [0, 1], [0.6, 0.8]], np.float32)
    # cosine distances: to its own 0, 0, 0.2, 0.2; to the other group 0.7, 0.7, 1, 0.4
    assert silhouette(Z, np.array([0, 0, 1, 1])) == pytest.approx((1 + 1 + 0.8 + 0.5) / 4)
    assert silhouette(Z, np.zeros(4, np.int64)) == -1


def test_centroids_are_unit_means_and_zero_for_an_empty_group() -> None:
    Z = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    found = torch.from_numpy(centroids(Z, np.array([0, 0, 2]), 3))
    expected = torch.tensor([[0.5**0.5, 0.5**0.5], [0.0, 0.0], [0.0, 1.0]])
    torch.testing.assert_close(found, expected)
