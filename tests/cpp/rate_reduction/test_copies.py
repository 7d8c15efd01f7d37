"""Copies and near-copies of rows: which are found, and which rows are none."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from cpp import nearest
from cpp.nearest import closest_rows
from cpp.rate_reduction.copies import distinct_rows
from tests.support.vectors import blobs, nuisance


def photographs(n: int, seed: int = 0, dim: int = 64) -> Tensor:
    """Unit rows with a common mean, as features of different pictures have."""
    return normalize(torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)) + 1)


def altered(X: Tensor, noise: float) -> Tensor:
    return normalize(X + noise * torch.randn(X.shape, generator=torch.Generator().manual_seed(1)))


def test_every_row_has_the_first_of_its_copies() -> None:
    X = photographs(100)
    rows = torch.cat([X[3:4].repeat(50, 1), X, X[7:9]])
    distinct = distinct_rows(rows)
    assert distinct.rows.tolist() == [0, *(50 + i for i in range(100) if i != 3)]
    assert torch.equal(rows[distinct.rows[distinct.of]], rows)
    assert distinct.rows[distinct.repeated].tolist() == [0, 57, 58]


@pytest.mark.parametrize("half", [True, False])
def test_rounding_errors_do_not_tell_copies_apart(half: bool) -> None:
    X = photographs(60)
    again = X.half().float() if half else X + 1e-6 * torch.randn(X.shape, generator=torch.Generator().manual_seed(1))
    assert len(distinct_rows(torch.cat([X, again])).rows) == 60


@pytest.mark.parametrize("exact", [True, False])
def test_near_copies_follow_one_row(exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exact:
        monkeypatch.setattr(nearest, "EXACT", 100)
    X = photographs(300)
    rows = torch.cat([X, altered(X[:1].repeat(800, 1), 0.004), altered(X[5:8], 0.004)])
    distinct = distinct_rows(rows)
    assert distinct.rows.tolist() == list(range(300))
    assert distinct.of[300:].tolist() == [0] * 800 + [5, 6, 7]


def test_different_rows_are_no_copies() -> None:
    assert len(distinct_rows(nuisance(1500, 12, 1.5)[0]).rows) == 1500
    for other in (1e4 + photographs(200), 1e-30 * photographs(200)):
        assert len(distinct_rows(other).rows) == 200  # neither the origin nor the unit matters
    far = torch.cat([photographs(300), 1e6 * torch.randn(10, 64, generator=torch.Generator().manual_seed(2))])
    assert len(distinct_rows(far).rows) == 310  # outliers do not set the scale


def test_members_of_tight_clusters_are_no_near_copies() -> None:
    Z, _ = blobs([80, 80, 80], 0.003)
    stray = photographs(20, dim=24)
    assert len(distinct_rows(Z).rows) == 240
    assert len(distinct_rows(torch.cat([Z, stray])).rows) == 260


def test_equal_rows_are_one() -> None:
    for rows in (torch.ones(5, 3), torch.zeros(1, 3), torch.tensor([[0.0, 1.0], [-0.0, 1.0]])):
        distinct = distinct_rows(rows)
        assert distinct.rows.tolist() == [0]
        assert distinct.of.tolist() == [0] * len(rows)


def test_closest_rows_equal_a_naive_search() -> None:
    X = photographs(200).numpy()
    squared, near = closest_rows(X, 3)
    exact = np.square(X[:, None] - X).sum(2)
    np.fill_diagonal(exact, np.inf)
    assert (near == exact.argsort(1)[:, :3]).all()
    np.testing.assert_allclose(squared, np.sort(exact, 1)[:, :3], atol=1e-5)
    with pytest.raises(ValueError, match="k is 200, must be from 1 to the number of other rows, 199"):
        closest_rows(X, 200)
