"""Coding lengths: by hand, against predictive densities and naive loops in float64, laws; what the noise is."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_t

from cpp.clustering.coding_length import (
    Bits,
    coding_length,
    evidence_bits,
    exclude_isolated,
    label_bits,
    lossy_bits,
    prefers_finer,
)
from cpp.rate_reduction.coding_rate import Moments
from tests.support.vectors import subspaces

CODES = pytest.mark.parametrize("bits", [evidence_bits, lossy_bits])


def rows(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def one(Z: torch.Tensor) -> Moments:
    return Moments.of(Z, torch.zeros(len(Z), dtype=torch.int64), 1)


def bunches(K: int, m: int, d: int) -> torch.Tensor:
    """Unit rows close around K directions at right angles, m each, in turn."""
    return torch.nn.functional.normalize(torch.eye(d)[torch.arange(K * m) % K] + 0.01 * rows(K * m, d).float())


def predictive_bits(Z: np.ndarray, e: float) -> float:
    """-log2 of the product over rows of the density of a row given those before it, a Student t, on the same grid."""
    d = Z.shape[1]
    weight, freedom, mean, scatter = e, d + 2, np.zeros(d), (d + 2) * e / d * np.eye(d)
    bits = 0.0
    for z in Z:
        df = freedom - d + 1
        density = multivariate_t(mean, scatter * (weight + 1) / (weight * df), df)
        bits -= density.logpdf(z) / math.log(2) + d / 2 * math.log2(e / d)
        scatter = scatter + weight / (weight + 1) * np.outer(z - mean, z - mean)
        mean = (weight * mean + z) / (weight + 1)
        weight, freedom = weight + 1, freedom + 1
    return bits


def naive_lossy(Z: np.ndarray, e: float) -> float:
    m, d = Z.shape
    mean = sum(Z) / m
    covariance = sum(np.outer(z - mean, z - mean) for z in Z) / m
    logdet = np.linalg.slogdet(np.eye(d) + d / e * covariance)[1]
    return (m + d) / 2 * logdet / math.log(2) + d / 2 * math.log2(1 + mean @ mean / e)


def test_evidence_of_one_row_by_hand() -> None:
    # d = 1, e = 1: 3 degrees of freedom, scale 3, weight 1. A first row at 0 has the density of a Student t with 3
    # degrees of freedom and scale sqrt(3 * 2 / 3): 2 / (pi sqrt(3)) / sqrt(2)
    found = evidence_bits(one(torch.zeros(1, 1, dtype=torch.float64)), 1.0)
    assert found.item() == pytest.approx(-math.log2(2 / (math.pi * math.sqrt(3)) / math.sqrt(2)))


def test_lossy_by_hand() -> None:
    # rows 1 and 3 in one dimension, e = 1: mean 2, variance 1: (2 + 1)/2 log2(1 + 1) + 1/2 log2(1 + 4)
    found = lossy_bits(one(torch.tensor([[1.0], [3.0]], dtype=torch.float64)), 1.0)
    assert found.item() == pytest.approx(1.5 + math.log2(5) / 2)


def test_labels_by_hand() -> None:
    # half the rows take one bit each, a quarter two
    counts = torch.tensor([4.0, 2.0, 2.0, 0.0], dtype=torch.float64)
    assert label_bits(counts, 8).tolist() == pytest.approx([4, 4, 4, 0])


@pytest.mark.parametrize(("n", "d", "e"), [(1, 3, 0.1), (7, 1, 2.0), (20, 4, 0.3), (5, 8, 0.02)])
def test_evidence_is_the_product_of_predictive_densities(n: int, d: int, e: float) -> None:
    Z = rows(n, d) * 0.3 + 1
    assert evidence_bits(one(Z), e).item() == pytest.approx(predictive_bits(Z.numpy(), e), rel=1e-10)


def test_lossy_is_the_naive_loop() -> None:
    Z, group = rows(30, 4), torch.arange(30) % 3
    found = lossy_bits(Moments.of(Z, group, 3), 0.2)
    assert found.tolist() == pytest.approx([naive_lossy(Z[group == k].numpy(), 0.2) for k in range(3)])


@CODES
def test_an_empty_group_takes_no_bits(bits: Bits) -> None:
    Z = rows(6, 3)
    assert bits(Moments.of(Z, torch.ones(6, dtype=torch.int64), 3), 0.1)[[0, 2]].tolist() == pytest.approx([0, 0])
    group = torch.arange(6) % 2
    without, with_empty = (coding_length(Moments.of(Z, group, K), 0.1, bits) for K in (2, 4))
    assert with_empty == pytest.approx(without)


@CODES
def test_added_and_merged_moments_have_the_bits_of_their_rows(bits: Bits) -> None:
    Z, group = rows(40, 5), torch.arange(40) % 4
    whole = Moments.of(Z, group, 4)
    shards = Moments.of(Z[:15], group[:15], 4) + Moments.of(Z[15:], group[15:], 4)
    assert bits(shards, 0.1).tolist() == pytest.approx(bits(whole, 0.1).tolist())
    merged = whole.merge(torch.tensor([0, 1, 0, 1]), 2)
    assert bits(merged, 0.1).tolist() == pytest.approx(bits(Moments.of(Z, group % 2, 2), 0.1).tolist())
    separately = [bits(one(Z[group == k]), 0.1).item() for k in range(4)]
    assert bits(whole, 0.1).tolist() == pytest.approx(separately)


@CODES
def test_neither_rotation_nor_order_changes_the_length(bits: Bits) -> None:
    Z, group = rows(40, 5), torch.arange(40) % 4
    rotation = torch.linalg.qr(rows(5, 5, seed=1))[0]
    order = torch.randperm(40, generator=torch.Generator().manual_seed(2))
    turned = Moments.of((Z @ rotation)[order], group[order], 4)
    assert coding_length(turned, 0.1, bits) == pytest.approx(coding_length(Moments.of(Z, group, 4), 0.1, bits))


def test_evidence_does_not_write_into_moments() -> None:
    moments = one(rows(9, 3))
    before = moments.gram_Kdd.clone()
    evidence_bits(moments, 0.1)
    assert torch.equal(moments.gram_Kdd, before)


def test_coding_length_by_hand() -> None:
    moments = Moments.of(rows(8, 2), torch.tensor([0, 0, 0, 0, 1, 1, 2, 2]), 3)
    assert coding_length(moments, 0.1) == pytest.approx(evidence_bits(moments, 0.1).sum().item() + 12)


def test_true_partition_is_shortest() -> None:
    Z, group = rows(120, 3) * 0.05, torch.arange(120) % 3
    Z = Z + torch.eye(3, dtype=torch.float64)[group]
    lengths = [coding_length(Moments.of(Z, g, 6), 3 * 0.05**2) for g in (group, group // 2, torch.arange(120) % 6)]
    assert min(lengths) == lengths[0]


def test_ten_thousand_large_groups_are_finite() -> None:
    Z, d = rows(10_000, 8), 8
    one_row = Moments(torch.ones(len(Z)).double(), Z, Z[:, :, None] * Z[:, None, :] + torch.eye(d))
    assert torch.isfinite(evidence_bits(one_row * 1e7, 0.1)).all()


def test_noise_is_the_squared_distance_to_the_mean_of_ten_neighbours() -> None:
    # of eleven rows the ten nearest of each are the others: it is 11/10 as far from their mean as from that of all
    Z, group = bunches(3, 11, 40), torch.arange(33) % 3
    means = torch.stack([Z[group == k].mean(0) for k in range(3)])
    kept, e = exclude_isolated(Z)
    assert kept.all()
    assert e == pytest.approx(1.21 * (Z - means[group]).square().sum(1).mean().item(), rel=1e-5)


def test_isolated_rows_are_excluded() -> None:
    Z = bunches(3, 60, 40)
    far = torch.nn.functional.normalize(rows(20, 40, seed=1).float())
    kept, e = exclude_isolated(torch.cat([Z, far]))
    assert kept.tolist() == [True] * 180 + [False] * 20
    assert e == pytest.approx(exclude_isolated(Z)[1])


def test_copies_have_positive_noise() -> None:
    Z = torch.eye(4).repeat_interleave(15, 0)
    kept, e = exclude_isolated(Z)
    assert kept.all()
    assert e == pytest.approx(1e-6 * 0.75, rel=1e-3)  # the scatter around (1/4, 1/4, 1/4, 1/4) is 3/4
    kept, e = exclude_isolated(torch.ones(12, 3))
    assert kept.all()
    assert 0 < e <= 1e-9
    copies = torch.nn.functional.normalize(rows(60, 16).float()).repeat_interleave(40, 0)
    assert exclude_isolated(copies)[
        0
    ].all()  # the mean of ten copies differs from them by rounding, from some more than others
    assert exclude_isolated(torch.eye(3))[0].tolist() == [True] * 3  # fewer rows than neighbours


def test_only_thin_groups_prefer_a_finer_distortion() -> None:
    Z, group = subspaces(600, 3, 2, 12, seed=0)
    thin = Moments.of(Z, torch.from_numpy(group), 3)
    assert prefers_finer(thin, 0.3)
    d, e = 12, 0.1
    round_ = Moments.of(rows(600, d) * math.sqrt(e / d) + 1, torch.zeros(600, dtype=torch.int64), 1)
    assert not prefers_finer(round_, e)
