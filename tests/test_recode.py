"""Rows by the bits they add: exact against lengths before and after, mixed clusters empty, noise is no cluster."""

import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor

from cpp.coding import coding_length
from cpp.rate import Moments
from cpp.recode import STRAY, Rows, _added, recode, renumber, stray_bits, without_strays


def bunches(K: int, m: int, d: int, noise: float = 0.05, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rows close around K directions at right angles, m each, and which each is of."""
    g = torch.Generator().manual_seed(seed)
    cluster = torch.arange(K).repeat_interleave(m)
    return torch.eye(d)[cluster] + noise * torch.randn(K * m, d, generator=g), cluster


def any_may_join(Z: Tensor, group: Tensor) -> Rows:
    return Rows(Z, group, torch.arange(int(group.max()) + 1).repeat(len(Z), 1))


def test_added_bits_are_the_lengths_after_less_those_before() -> None:
    Z = torch.randn(14, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    cluster, e = torch.arange(14) % 3, 0.2
    row, k = torch.cartesian_prod(torch.arange(14), torch.arange(3)).unbind(1)
    order = k.argsort(stable=True)
    row, k = row[order], k[order]

    def own(rows_: Tensor, cluster_: Tensor, at: int) -> float:
        """Of one cluster alone, its labels among all fourteen rows."""
        others = Moments.of(rows_, cluster_, 3)[at : at + 1]
        whole = coding_length(others, e)  # labels of a single cluster take no bits
        count = others.count_K[0]
        return whole + float(count * torch.log2(14 / count))

    expected = []
    for i, at in zip(row.tolist(), k.tolist(), strict=True):
        without = torch.arange(14) != i
        moved = cluster.clone()
        moved[i] = at
        expected.append(own(Z, moved, at) - own(Z[without], cluster[without], at))
    found = _added(any_may_join(Z, cluster), cluster, row, k, e)
    assert found.tolist() == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_a_mixed_cluster_empties() -> None:
    Z, truth = bunches(3, 40, 8)
    mixed = truth.clone()
    mixed[[0, 1, 2, 3, 40, 41, 42, 43]] = 3
    rows = any_may_join(Z, mixed)
    found = recode(rows, mixed, 8 * 0.05**2)
    assert (found == 3).sum() < 4  # it is wide while it is mixed, so it may keep a row or two for a pass
    for _ in range(3):
        found = recode(rows, found, 8 * 0.05**2)
    assert torch.equal(found, truth)


def test_a_row_joins_no_cluster_but_those_of_its_groups() -> None:
    Z, truth = bunches(3, 40, 8)
    wrong = truth.clone()
    wrong[0] = 1
    rows = any_may_join(Z, truth)
    assert recode(rows, wrong, 8 * 0.05**2)[0] == 0
    near = torch.tensor([1, 2]).repeat(120, 1)
    assert recode(rows._replace(near=near), wrong, 8 * 0.05**2)[0] != 0


def test_a_row_far_from_all_is_stray_and_a_stray_row_close_to_a_cluster_joins_it() -> None:
    Z, truth = bunches(3, 40, 8)
    far = torch.full((1, 8), -0.35)
    given = torch.cat([truth, torch.tensor([0])])
    given[5] = STRAY
    found = recode(any_may_join(torch.cat([Z, far]), given + 1), given, 8 * 0.05**2)
    assert torch.equal(found, torch.cat([truth, torch.tensor([STRAY])]))


def test_stray_bits_are_of_a_round_gaussian_on_the_grid() -> None:
    Z = torch.randn(30, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * torch.tensor([1, 2, 3, 4])
    variance = ((Z - Z.mean(0)) ** 2).mean().item()
    density = multivariate_normal(Z.mean(0).numpy(), variance).logpdf(Z.numpy())
    expected = -torch.from_numpy(density) / torch.log(torch.tensor(2.0)) - 4 / 2 * torch.log2(torch.tensor(0.1 / 4))
    torch.testing.assert_close(stray_bits(Z, 0.1), expected, rtol=1e-6, atol=1e-6)


def test_noise_is_no_cluster_and_a_cluster_is_no_noise() -> None:
    Z, truth = bunches(3, 40, 8)
    spread = (Z - Z.mean(0)).square().mean().sqrt()
    noise = Z.mean(0) + spread * torch.randn(60, 8, generator=torch.Generator().manual_seed(3))
    given = torch.cat([truth + 1, torch.zeros(60, dtype=torch.int64)])
    found = without_strays(any_may_join(torch.cat([Z, noise]), given), given, 8 * 0.05**2)
    assert torch.equal(found, torch.cat([truth, torch.full((60,), STRAY)]))


def test_clusters_are_renumbered_and_small_ones_are_stray() -> None:
    cluster = torch.tensor([3, 3, 0, STRAY, 3, 5, 5, 0])
    assert renumber(cluster, 1).tolist() == [1, 1, 0, STRAY, 1, 2, 2, 0]
    assert renumber(cluster, 3).tolist() == [0, 0, STRAY, STRAY, 0, STRAY, STRAY, STRAY]
    assert renumber(torch.full((4,), STRAY), 1).tolist() == [STRAY] * 4


def test_where_all_rows_are_stray_they_stay() -> None:
    Z, truth = bunches(2, 20, 4)
    none = torch.full((40,), STRAY)
    assert torch.equal(without_strays(any_may_join(Z, truth), none, 0.01), none)
