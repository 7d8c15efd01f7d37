"""Groups of a sample: exact on unions of subspaces, clear at the edges."""

import pytest
import torch

from cpp.metrics import scores
from cpp.partition import centroids, spectral, spherical_kmeans
from tests.conftest import subspaces


@pytest.mark.parametrize(("K", "rank"), [(2, 1), (5, 3), (12, 2)])
def test_spectral_recovers_unions_of_subspaces_exactly(K: int, rank: int) -> None:
    X, group = subspaces(60 * K, K, rank, 48, seed=K)
    assert scores(group, spectral(X, K, 0.1, 5, seed=0)).ari == 1


def test_kmeans_recovers_directions_exactly_where_subspaces_defeat_it() -> None:
    centres = torch.eye(6).repeat_interleave(30, dim=0)
    noise = 0.05 * torch.randn(180, 6, generator=torch.Generator().manual_seed(0))
    Z = torch.nn.functional.normalize(centres + noise, dim=1)
    assert scores(torch.arange(6).repeat_interleave(30), spherical_kmeans(Z, 6, seed=0)).ari == 1
    X, group = subspaces(300, 5, 3, 48, seed=5)
    assert scores(group, spherical_kmeans(X, 5, seed=0)).ari < 0.9


def test_seed_decides_and_order_of_rows_does_not() -> None:
    X, _ = subspaces(200, 4, 2, 24, seed=1)
    first = spectral(X, 4, 0.1, 5, seed=3)
    assert (first == spectral(X, 4, 0.1, 5, seed=3)).all()
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    assert scores(first[order], spectral(X[order], 4, 0.1, 5, seed=3)).ari == 1


def test_one_group_and_as_many_groups_as_rows() -> None:
    X, _ = subspaces(12, 3, 2, 24, seed=1)
    for method in (lambda K: spectral(X, K, 0.1, 5, seed=0), lambda K: spherical_kmeans(X, K, seed=0)):
        assert set(method(1)) == {0}
        assert set(method(12)) == set(range(12))


@pytest.mark.parametrize("K", [0, 13])
def test_impossible_numbers_of_groups_are_errors(K: int) -> None:
    X, _ = subspaces(12, 3, 2, 24, seed=1)
    with pytest.raises(ValueError, match=f"partition.n_clusters is {K}, must be from 1 to the rows of the sample, 12"):
        spectral(X, K, 0.1, 5, seed=0)
    with pytest.raises(ValueError, match="partition.n_clusters"):
        spherical_kmeans(X, K, seed=0)


def test_centroids_are_unit_means_and_zero_for_an_empty_group() -> None:
    Z = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    found = centroids(Z, torch.tensor([0, 0, 2]), 3)
    expected = torch.tensor([[0.5**0.5, 0.5**0.5], [0.0, 0.0], [0.0, 1.0]])
    torch.testing.assert_close(found, expected)
