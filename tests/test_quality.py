"""Collapse is seen and said; a sound clustering gives no warning."""

import pytest
import torch

from cpp.quality import effective_rank, warnings
from cpp.rate import Moments
from tests.test_partition import blobs


def test_effective_rank_by_hand() -> None:
    assert effective_rank(torch.eye(5)) == pytest.approx(5)
    assert effective_rank(torch.diag(torch.tensor([3.0, 0, 0]))) == pytest.approx(1)
    assert effective_rank(torch.diag(torch.tensor([2.0, 1, 1]))) == pytest.approx(2**1.5)


def test_a_sound_clustering_has_no_warning() -> None:
    Z, group = blobs([40, 30, 50, 20, 40], 0.08)
    assert warnings(Moments.of(Z, group, 5), [40, 30, 50, 20, 40]) == []


def test_codes_that_fell_together_are_said() -> None:
    Z, group = blobs([20] * 12, 0.0)
    flat = torch.nn.functional.normalize(Z * (torch.arange(24) < 2) + 0.01, dim=1)
    (said,) = warnings(Moments.of(flat, group, 12), [20] * 12)
    assert said.startswith("The codes have collapsed: they use 1.")


def test_one_cluster_that_holds_most_and_empty_ones_are_said() -> None:
    Z, group = blobs([20] * 4, 0.05)
    said = warnings(Moments.of(Z, group, 4), [5, 90, 5, 0])
    assert [text.split(":")[0] for text in said] == ["Cluster 1 holds 90% of the images", "1 of 4 clusters are empty"]
