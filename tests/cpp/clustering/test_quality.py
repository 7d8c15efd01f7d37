"""Collapse is seen and said; a sound clustering gives no warning."""

import pytest
import torch

from cpp.clustering.quality import effective_rank, measures, warnings
from cpp.rate_reduction.coding_rate import Moments
from tests.support.vectors import blobs


def test_effective_rank_by_hand() -> None:
    assert effective_rank(torch.eye(5)) == pytest.approx(5)
    assert effective_rank(torch.diag(torch.tensor([3.0, 0, 0]))) == pytest.approx(1)
    assert effective_rank(torch.diag(torch.tensor([2.0, 1, 1]))) == pytest.approx(2**1.5)


def test_a_sound_clustering_has_no_warning() -> None:
    Z, group = blobs([40, 30, 50, 20, 40], 0.08)
    assert warnings(Moments.of(Z, group, 5), [40, 30, 50, 20, 40], "kmeans") == []


def test_collapsed_codes_give_a_warning() -> None:
    Z, group = blobs([20] * 12, 0.0)
    flat = torch.nn.functional.normalize(Z * (torch.arange(24) < 2) + 0.01, dim=1)
    (message,) = warnings(Moments.of(flat, group, 12), [20] * 12, "kmeans")
    assert message.startswith("The codes have collapsed: their effective rank is 1.")


def test_large_and_empty_clusters_give_warnings() -> None:
    Z, group = blobs([20] * 4, 0.05)
    large, empty = warnings(Moments.of(Z, group, 4), [2, 30, 2, 0], "spectral")
    assert large.startswith("Cluster 1 holds 88% of the images: the others are small. Try partition.method kmeans, ")
    assert empty.startswith("1 of 4 clusters are empty")


def test_advice_about_a_large_cluster_fits_the_method() -> None:
    Z, group = blobs([20] * 4, 0.05)
    (large,) = warnings(Moments.of(Z, group, 4), [2, 30, 2, 1], "kmeans")
    assert large == "Cluster 1 holds 86% of the images: the others are small. A larger partition.n_clusters divides it."


def test_a_cluster_that_is_large_by_copies_is_described_as_such() -> None:
    Z, group = blobs([20] * 4, 0.05)
    for method in ("kmeans", "spectral"):
        (large,) = warnings(Moments.of(Z, group, 4), [20, 900, 20, 20], method)
        assert large == "Cluster 1 holds 94% of the images, most of which are copies or near-copies of others."


def test_measures_by_hand() -> None:
    """Two clusters on a line of their own each: rank 1, and half of the rate reduction each."""
    Z = torch.eye(4)[[0, 0, 1, 1]]
    e = 0.5
    result = measures(Moments.of(Z, torch.tensor([0, 0, 1, 1]), 2), e)
    assert result.coding_rate == pytest.approx([torch.log(torch.tensor(1 + 4 / e)).item() / 2] * 2)
    assert result.effective_rank == pytest.approx([1, 1])
    assert result.rate_share == pytest.approx([0.5, 0.5])
    assert result.nearest.tolist() == [1, 0]
    assert result.overlap == pytest.approx([1, 1])  # about the mean they lie on one line, on either side of it


def test_measures_of_one_cluster_and_an_empty_one() -> None:
    Z, group = blobs([20] * 2, 0.05)
    one = measures(Moments.of(Z, group * 0, 1), 0.1)
    assert (one.nearest.tolist(), one.overlap.tolist()) == ([-1], [0])
    empty = measures(Moments.of(Z, group, 3), 0.1)
    assert empty.effective_rank[2] == empty.coding_rate[2] == empty.rate_share[2] == 0
