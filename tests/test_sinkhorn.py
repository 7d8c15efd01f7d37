"""Membership: rows and columns sum to one, and what temperature does."""

import pytest
import torch

from cpp.sinkhorn import membership, sinkhorn
from tests.conftest import subspaces


def test_two_by_two_by_hand() -> None:
    # [[1, 2], [3, 4]] scales to [[x, 1-x], [1-x, x]] with x^2 / (1-x)^2 = (1*4)/(2*3)
    Pi = sinkhorn(torch.log(torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)), 100)
    x = (2 / 3) ** 0.5 / (1 + (2 / 3) ** 0.5)
    torch.testing.assert_close(Pi, torch.tensor([[x, 1 - x], [1 - x, x]], dtype=torch.float64))


@pytest.mark.parametrize("eta", [0.05, 0.175, 1.0])
def test_rows_and_columns_sum_to_one(eta: float) -> None:
    Z, _ = subspaces(200, 4, 3, 24, seed=1)
    Pi = membership(Z, eta, 400)
    ones = torch.ones(200)
    torch.testing.assert_close(Pi.sum(0), ones, atol=1e-4, rtol=0)
    torch.testing.assert_close(Pi.sum(1), ones, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("half_steps", "dim"), [(4, 0), (5, 1)])
def test_the_side_scaled_last_is_exact(half_steps: int, dim: int) -> None:
    Z, _ = subspaces(100, 4, 3, 24, seed=1)
    torch.testing.assert_close(membership(Z, 0.1, half_steps).sum(dim), torch.ones(100), atol=1e-5, rtol=0)


def test_orthogonal_blocks_have_one_unit_of_squared_norm_each() -> None:
    Z = torch.eye(4).repeat_interleave(25, dim=0)
    Pi = membership(Z, 0.01, 9)
    assert Pi.square().sum().item() == pytest.approx(4, rel=1e-4)
    assert Pi[0, :25].sum().item() == pytest.approx(1, rel=1e-4)


def test_a_sharp_temperature_stays_finite() -> None:
    Z, _ = subspaces(50, 4, 3, 24, seed=1)
    assert torch.isfinite(membership(Z, 1e-4, 5)).all()


def test_no_half_steps_is_an_error() -> None:
    with pytest.raises(ValueError, match="half_steps is 0"):
        sinkhorn(torch.zeros(2, 2), 0)
