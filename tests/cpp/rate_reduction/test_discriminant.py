"""The linear map that tells groups apart where the features as they are do not."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from cpp.clustering.partition import partition
from cpp.evaluation.metrics import scores
from cpp.rate_reduction.fit import fit, solve
from cpp.rate_reduction.head import Codes, Head
from cpp.rate_reduction.recipes import Discriminant, Paper
from tests.support.vectors import nuisance


def found(X: Tensor, K: int, seed: int = 0) -> np.ndarray:
    head, _ = fit(X, Discriminant(), K, seed)
    return partition(head.project(X, 1000), K, "auto", 0.1, 8192, seed).group


def test_common_noise_is_removed() -> None:
    X, group = nuisance(1200, 12, 1.5)
    rows = normalize(X - X.mean(0))
    raw = partition(Codes(rows, rows), 12, "kmeans", 0.1, 8192, 0).group
    assert scores(group, raw).ari < 0.8
    assert scores(group, found(X, 12)).ari > 0.99


def test_later_rounds_find_better_neighbours() -> None:
    X, group = nuisance(1200, 12, 1.5)
    same = []
    for rounds in (1, 2, 3):
        Z = fit(X, Discriminant(dim=32, neighbours=10, rounds=rounds), None, 0)[0].project(X, 1200).Z
        near = (Z @ Z.mT).fill_diagonal_(-1).topk(10).indices
        same.append((group[near] == group[:, None]).float().mean().item())
    assert same == sorted(same)
    assert same[-1] > same[0]


def test_the_map_solves_the_eigenproblem() -> None:
    X, _ = nuisance(300, 5, 0.5)
    layer = solve(X, Discriminant(dim=6, neighbours=10, rounds=1), None, 0)[0].linear
    near = (normalize(X) @ normalize(X).mT).fill_diagonal_(-9).topk(10).indices
    D = (X - X[near].mean(1)).double()
    W, T = D.mT @ D / 300, torch.cov(X.double().mT, correction=0)
    W = W + (0.1 * W.trace() + 1e-6 * T.trace()) / 40 * torch.eye(40, dtype=torch.float64)
    V = layer.weight.detach().double()
    torch.testing.assert_close(V @ W @ V.mT, torch.eye(6, dtype=torch.float64), atol=1e-3, rtol=0)
    ratios = (V @ T @ V.mT).diagonal()
    expected = torch.linalg.eigvals(torch.linalg.solve(W, T)).real.sort(descending=True).values[:6]
    torch.testing.assert_close(ratios, expected, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(layer.bias, -layer.weight @ X.mean(0))


def test_scale_rotation_and_shift_change_nothing() -> None:
    X, _ = nuisance(400, 6, 0.5)
    turn = torch.linalg.qr(torch.randn(40, 40, generator=torch.Generator().manual_seed(3)))[0]
    first = found(X, 6)
    assert scores(first, found(7 * X, 6)).ari == 1
    assert scores(first, found(X @ turn, 6)).ari == 1


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_uneven_sizes_and_noise_rows_are_tolerated(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    sizes = torch.tensor([1500, 600, 300, 100, 50, 15])
    group = torch.arange(6).repeat_interleave(sizes)
    centres = torch.linalg.qr(torch.randn(40, 6, generator=g))[0].mT
    clean = centres[group] + 0.1 * torch.randn(len(group), 40, generator=g)
    noise = torch.randn(len(group) // 10, 40, generator=g) / 40**0.5
    clusters = found(torch.cat([clean, noise]), 6, seed)[: len(group)]
    assert scores(group, clusters).ari > 0.95


def test_seeds_agree() -> None:
    X, _ = nuisance(1200, 12, 1.5)
    first = found(X, 12, seed=0)
    assert all(scores(first, found(X, 12, seed=s)).ari > 0.98 for s in (1, 2))


def test_few_rows_copies_and_wide_codes() -> None:
    X, group = nuisance(30, 3, 0.0)
    assert scores(group, found(X, 3)).ari == 1  # fewer rows than dimensions
    copies = X[:3].repeat(20, 1)
    assert scores(group[:3].repeat(20), found(copies, 3)).ari == 1
    assert fit(X, Discriminant(dim=500), None, 0)[0].project(X, 8).Z.shape == (30, 40)  # no more than there are
    assert fit(X[:2], Discriminant(), 1, 0)[0].project(X, 8).Z.isfinite().all()


def test_default_neighbours_are_half_a_mean_cluster() -> None:
    X, _ = nuisance(400, 4, 0.5)
    for n, K, neighbours in ((400, 10, 20), (400, 2, 50), (60, 30, 5), (400, None, 10)):
        left, given = (
            fit(X[:n], s, K, 0)[0] for s in (Discriminant(dim=8), Discriminant(dim=8, neighbours=neighbours))
        )
        assert torch.equal(left.project(X, 400).Z, given.project(X, 400).Z)


def test_default_dimension_follows_the_clusters() -> None:
    X, _ = nuisance(200, 4, 0.1)
    for settings, K, dim in ((Discriminant(), 18, 36), (Discriminant(), 3, 32), (Discriminant(dim=7), 18, 7)):
        assert fit(X, settings, K, 0)[0].project(X, 64).Z.shape[1] == dim


@pytest.mark.parametrize("settings", [Discriminant(), Paper(hidden=8, dim=4, epochs=1, warmup_steps=0)])
def test_too_few_or_non_finite_rows_are_errors(settings: Discriminant | Paper) -> None:
    X = torch.ones(20, 8)
    with pytest.raises(ValueError, match="at least 2 rows, got 1"):
        fit(X[:1], settings, 2, 0)
    X[3, 2] = torch.nan
    with pytest.raises(ValueError, match="1 of the 20 rows of features are not finite"):
        fit(X, settings, 2, 0)


@pytest.mark.parametrize("settings", [Discriminant(), Paper(hidden=8, dim=4, epochs=1, warmup_steps=0)])
def test_equal_rows_are_an_error(settings: Discriminant | Paper) -> None:
    with pytest.raises(ValueError, match="the 20 rows of features are all equal"):
        fit(torch.full((20, 8), 0.3), settings, 2, 0)
    with pytest.raises(ValueError, match=r"differ by less than 1e-5 of their largest .* subtract their mean"):
        fit(1e6 + torch.rand(20, 8), settings, 2, 0)
    small = 1e-30 * torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    assert fit(small, settings, 2, 0)[1]  # what counts is how they differ beside their size


def test_the_record_has_a_row_for_each_round() -> None:
    X, _ = nuisance(1200, 12, 1.5)
    seen: list[int] = []
    _, record = fit(X, Discriminant(), 12, 0, on_step=lambda row, n: seen.append(n))
    assert [row.step for row in record] == [0, 1]
    assert seen == [2] * 2
    assert abs(record[-1].pi_norm2 - 12) < 6 < abs(record[0].pi_norm2 - 12)  # the membership becomes one of 12 blocks


def test_a_saved_map_gives_equal_codes(tmp_path: Path) -> None:
    X, _ = nuisance(100, 4, 0.1)
    head, _ = fit(X, Discriminant(), 4, 0)
    path = tmp_path / "head.safetensors"
    head.save(path)
    assert torch.equal(Head.load(path).project(X, 100).Z, head.project(X, 100).Z)
