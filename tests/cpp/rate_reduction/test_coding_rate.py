"""Coding rates: closed forms, laws, and the fused gradient against float64 autograd."""

import math

import pytest
import torch

from cpp.rate_reduction.coding_rate import Moments, coding_rate, compressed_rate
from tests.support.published import published_compressed_rate
from tests.support.vectors import subspaces


def naive_compressed_rate(Z: torch.Tensor, Pi: torch.Tensor, e: float) -> torch.Tensor:
    m, d = Z.shape
    total = Z.new_zeros(())
    for j in range(Pi.shape[1]):
        t = Pi[:, j].sum()
        total = total + t / (2 * m) * torch.logdet(
            torch.eye(d, dtype=Z.dtype) + d / (t * e) * Z.T @ torch.diag(Pi[:, j]) @ Z
        )
    return total


def draw(m: int, d: int, J: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    Z = torch.nn.functional.normalize(torch.randn(m, d, generator=g, dtype=torch.float64), dim=1)
    return Z, torch.rand(m, J, generator=g, dtype=torch.float64) ** 4


def test_rate_by_hand() -> None:
    Z = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    # d/(m e) = 2/(3 * 0.5) = 4/3; eigenvalues of Z^T Z are 2 and 1
    assert coding_rate(Z, 0.5).item() == pytest.approx(0.5 * (math.log(1 + 8 / 3) + math.log(1 + 4 / 3)))


def test_rate_reduction_of_orthogonal_subspaces_in_closed_form() -> None:
    K, r, copies, e = 3, 2, 5, 0.1
    d = K * r
    Z = torch.eye(d, dtype=torch.float64).repeat(copies, 1)  # every axis `copies` times; two axes to a subspace
    group = torch.arange(d).repeat(copies) // r
    m = len(Z)
    Pi = torch.nn.functional.one_hot(group, K).to(torch.float64)
    R = d / 2 * math.log(1 + d / (m * e) * copies)
    R_c = K * (m / K) / (2 * m) * r * math.log(1 + d / (m / K * e) * copies)
    assert coding_rate(Z, e).item() == pytest.approx(R)
    assert compressed_rate(Z, Pi, e).item() == pytest.approx(R_c)


def test_fused_rate_and_gradients_equal_naive_float64_autograd() -> None:
    Z, Pi = draw(23, 7, 11)
    Z.requires_grad_()
    Pi.requires_grad_()
    value = naive_compressed_rate(Z, Pi, 0.1)
    expected = torch.autograd.grad(value, (Z, Pi))
    fused = compressed_rate(Z, Pi, 0.1)
    found = torch.autograd.grad(fused, (Z, Pi))
    assert fused.item() == pytest.approx(value.item(), rel=1e-12)
    assert published_compressed_rate(Z, Pi, 0.1).item() == pytest.approx(value.item(), rel=1e-12)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    Z, Pi = draw(23, 7, 11)
    whole = compressed_rate(Z, Pi, 0.1)
    monkeypatch.setattr("cpp.rate_reduction.coding_rate._CHUNK_FLOATS", {"cpu": 23 * 7 * 3})
    assert compressed_rate(Z, Pi, 0.1).item() == pytest.approx(whole.item(), rel=1e-12)


def test_float32_is_close_to_float64() -> None:
    Z, Pi = draw(64, 16, 64)
    assert compressed_rate(Z.float(), Pi.float(), 0.1).item() == pytest.approx(
        compressed_rate(Z, Pi, 0.1).item(), rel=1e-5
    )


def test_compressed_rate_is_at_most_the_rate_and_invariant() -> None:
    Z, Pi = draw(40, 6, 40)
    for _ in range(200):  # a doubly stochastic membership
        Pi = Pi / Pi.sum(1, keepdim=True)
        Pi = Pi / Pi.sum(0, keepdim=True)
    R, R_c = coding_rate(Z, 0.1), compressed_rate(Z, Pi, 0.1)
    assert R_c < R
    Q = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
    order = torch.randperm(40, generator=torch.Generator().manual_seed(2))
    assert coding_rate((Z @ Q)[order], 0.1).item() == pytest.approx(R.item())
    assert compressed_rate((Z @ Q)[order], Pi[order][:, order], 0.1).item() == pytest.approx(R_c.item())


def test_moments_add_merge_and_give_rates() -> None:
    Z, group = subspaces(90, 3, 2, 8, seed=0)
    g = torch.from_numpy(group)
    whole = Moments.of(Z, g, 3)
    parts = Moments.of(Z[:50], g[:50], 3) + Moments.of(Z[50:], g[50:], 3)
    torch.testing.assert_close(whole.gram_Kdd, parts.gram_Kdd)
    torch.testing.assert_close(whole.count_K, parts.count_K)
    merged = whole.merge(torch.tensor([0, 1, 0]), 2)
    direct = Moments.of(Z, torch.where(g == 2, 0, g), 2)
    torch.testing.assert_close(merged.gram_Kdd, direct.gram_Kdd)
    torch.testing.assert_close(merged.count_K, direct.count_K)
    for k in range(3):
        assert whole.coding_rate(0.1)[k].item() == pytest.approx(coding_rate(Z[g == k].double(), 0.1).item())


def test_empty_group_has_rate_zero_and_bad_group_number_is_an_error() -> None:
    Z, group = subspaces(20, 2, 2, 8, seed=0)
    assert Moments.of(Z, torch.from_numpy(group), 3).coding_rate(0.1)[2].item() == 0
    with pytest.raises(RuntimeError):
        Moments.of(Z, torch.from_numpy(group), 1)
