"""K of planted unions without being told anything: subspaces, clusters, noise, small sizes; edges."""

import numpy as np
import pytest
import torch
from torch import Tensor

from cpp.metrics import scores
from cpp.union import lines, union
from tests.conftest import subspaces


def planted(sizes: list[int], rank: int, d: int, noise: int, mean: float, seed: int) -> tuple[Tensor, np.ndarray]:
    """Rows of clusters of a rank, around the origin or a mean of this length, and round noise (-1) as wide as all."""
    rng = np.random.default_rng(seed)
    parts = []
    for m in sizes:
        basis = np.linalg.qr(rng.standard_normal((d, rank + 1)))[0]
        z = rng.standard_normal((m, rank)) @ basis[:, 1:].T / np.sqrt(rank) * (0.3 if mean else 1)
        parts.append(z + mean * basis[:, 0] + 0.05 / np.sqrt(d) * rng.standard_normal((m, d)))
    X = np.concatenate(parts)
    X = np.concatenate([X, X.mean(0) + X.std(0).mean() * rng.standard_normal((noise, d))])
    order = rng.permutation(len(X))
    truth = np.concatenate([np.arange(len(sizes)).repeat(sizes), np.full(noise, -1)])
    return torch.from_numpy(X[order].astype(np.float32)), truth[order]


@pytest.mark.parametrize("mean", [0.0, 1.0])
@pytest.mark.parametrize("noise", [0, 80])
@pytest.mark.parametrize(("sizes", "rank"), [([70, 300, 40, 40], 4), ([80] * 7, 2)])
def test_k_and_clusters_of_a_planted_union(sizes: list[int], rank: int, noise: int, mean: float) -> None:
    Z, truth = planted(sizes, rank, 32, noise, mean, seed=rank)
    found = union(Z, seed=0)
    known = truth >= 0
    assert found.n_clusters == len(sizes)
    assert scores(truth[known], found.cluster.numpy()[known]).ari > 0.97
    assert (found.cluster.numpy()[~known] < 0).mean() > 0.95 if noise else True


def test_small_clusters_beside_a_dense_one_are_not_taken_for_noise() -> None:
    Z, truth = planted([1200, 36, 36, 36], 2, 32, 0, 1.0, seed=3)
    found = union(Z, seed=0)
    assert found.n_clusters == 4
    assert (found.cluster >= 0).float().mean() > 0.98
    assert scores(truth, found.cluster.numpy()).ari > 0.99


def test_rows_without_any_noise_of_their_own() -> None:
    Z, truth = subspaces(300, 3, 2, 24, seed=0)
    found = union(Z, seed=0)
    assert found.n_clusters == 3
    assert scores(truth, found.cluster.numpy()).ari > 0.99


def test_one_bunch_is_one_cluster() -> None:
    Z = torch.eye(6)[0] + 0.1 * torch.randn(100, 6, generator=torch.Generator().manual_seed(0))
    assert union(Z, seed=0).n_clusters == 1


@pytest.mark.parametrize("n", [2, 5, 30])
def test_rows_of_which_nothing_stands_out_are_one_cluster(n: int) -> None:
    Z = torch.randn(n, 6, generator=torch.Generator().manual_seed(0))
    found = union(Z, seed=0)
    assert found.n_clusters == 1
    assert found.cluster.max() == 0


def test_one_row_is_an_error() -> None:
    with pytest.raises(ValueError, match="a union needs at least 2 rows, got 1"):
        union(torch.ones(1, 3), seed=0)


def test_the_seed_decides() -> None:
    Z, _ = planted([60] * 5, 3, 32, 40, 0.0, seed=5)
    assert torch.equal(union(Z, seed=2).cluster, union(Z, seed=2).cluster)


def test_both_sides_of_a_line_are_one_group_and_lines_are_numbered_without_gaps() -> None:
    direction = torch.nn.functional.normalize(torch.randn(5, 16, generator=torch.Generator().manual_seed(0)))
    line = torch.arange(100) % 5
    side = torch.where(torch.arange(100) % 2 == 0, 1.0, -1.0)
    Z = direction[line] * side[:, None] * torch.linspace(0.5, 2, 100)[:, None]
    found, near = lines(Z, 40, seed=0)
    assert set(found.tolist()) == set(range(int(found.max()) + 1))
    assert len(np.unique(np.stack([line.numpy(), found.numpy()]), axis=1).T) == int(found.max()) + 1  # none is mixed
    assert torch.equal(near[:, 0].sort().values.unique(), found.unique())
    assert near.shape == (100, min(20, int(found.max()) + 1))
