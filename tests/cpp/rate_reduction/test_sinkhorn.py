"""Membership: rows and columns sum to one, and what temperature does."""

import pytest
import torch

from cpp.rate_reduction.sinkhorn import membership, sinkhorn
from tests.support.published import published_sinkhorn
from tests.support.vectors import subspaces


@pytest.mark.parametrize("half_steps", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("chunk", [1, 15, 10**6])
@pytest.mark.parametrize("columns", [None, torch.tensor([5, 0, 3])])
def test_values_and_gradients_equal_autograd_through_matrices(
    half_steps: int, chunk: int, columns: torch.Tensor | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cpp.rate_reduction.sinkhorn._CHUNK_FLOATS", {"cpu": chunk})
    g = torch.Generator().manual_seed(half_steps)
    S = (3 * torch.randn(7, 7, generator=g, dtype=torch.float64)).requires_grad_()
    weight = torch.randn(7, 7 if columns is None else 3, generator=g, dtype=torch.float64)
    found, expected = (form(S, half_steps, columns) for form in (sinkhorn, published_sinkhorn))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    gradients = [torch.autograd.grad((weight * Pi).sum() + 3 * norm2, S)[0] for Pi, norm2 in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-13)


def test_two_by_two_by_hand() -> None:
    # [[1, 2], [3, 4]] scales to [[x, 1-x], [1-x, x]] with x^2 / (1-x)^2 = (1*4)/(2*3)
    Pi, _ = sinkhorn(torch.log(torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)), 100)
    x = (2 / 3) ** 0.5 / (1 + (2 / 3) ** 0.5)
    torch.testing.assert_close(Pi, torch.tensor([[x, 1 - x], [1 - x, x]], dtype=torch.float64))


@pytest.mark.parametrize("eta", [0.05, 0.175, 1.0])
def test_rows_and_columns_sum_to_one(eta: float) -> None:
    Z, _ = subspaces(200, 4, 3, 24, seed=1)
    Pi, _ = membership(Z, eta, 400)
    ones = torch.ones(200)
    torch.testing.assert_close(Pi.sum(0), ones, atol=1e-4, rtol=0)
    torch.testing.assert_close(Pi.sum(1), ones, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("half_steps", "dim"), [(4, 0), (5, 1)])
def test_the_side_scaled_last_is_exact(half_steps: int, dim: int) -> None:
    Z, _ = subspaces(100, 4, 3, 24, seed=1)
    torch.testing.assert_close(membership(Z, 0.1, half_steps)[0].sum(dim), torch.ones(100), atol=1e-5, rtol=0)


def test_orthogonal_blocks_have_one_unit_of_squared_norm_each() -> None:
    Z = torch.eye(4).repeat_interleave(25, dim=0)
    Pi, norm2 = membership(Z, 0.01, 9)
    assert norm2.item() == pytest.approx(4, rel=1e-4)
    assert Pi[0, :25].sum().item() == pytest.approx(1, rel=1e-4)


def test_a_sharp_temperature_stays_finite() -> None:
    Z, _ = subspaces(50, 4, 3, 24, seed=1)
    assert torch.isfinite(membership(Z, 1e-4, 5)[0]).all()
