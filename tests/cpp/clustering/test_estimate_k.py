"""K of rows with a known structure: exact where clusters are clear, one where there are none, stable in an interval."""

import numpy as np
import pytest
import torch

from cpp.clustering.estimate_k import Estimate, estimate_k
from cpp.rate_reduction.recipes import Discriminant
from tests.support.vectors import blobs, nuisance


def estimate(X: torch.Tensor, seed: int = 0) -> Estimate:
    return estimate_k(X, Discriminant(), seed)


def classes(K: int, low: int, high: int, seed: int = 0) -> torch.Tensor:
    """Unit rows of K classes with `low` to `high` rows each, under noise that they share, as in features of images."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(K), rng.integers(low, high + 1, K))
    centres = rng.standard_normal((K, 128)) / np.sqrt(np.arange(1, 129))
    X = centres[group] + 0.35 * rng.standard_normal((len(group), 128)) / np.arange(1, 129) ** 0.25
    return torch.from_numpy(X / np.linalg.norm(X, axis=1, keepdims=True)).float()


@pytest.mark.parametrize("sizes", [[40, 60, 90, 30, 120, 50, 70], [80, 80, 80], [30] * 20])
def test_clear_clusters_are_counted_exactly(sizes: list[int]) -> None:
    found = estimate(blobs(sizes, 0.05)[0])
    assert (found.best, found.low, found.high) == (len(sizes),) * 3
    assert found.rounds == [len(sizes)] * 2
    assert found.sentence.startswith(f"Within its error, the loss of a cut is least at {len(sizes)} clusters, also ")


def test_clusters_under_common_noise_are_counted_exactly() -> None:
    assert estimate(nuisance(1500, 12, 1.5)[0]).best == 12


@pytest.mark.parametrize("K", [100, 300])
def test_many_classes_of_four_to_ten_rows_are_counted_within_a_tenth(K: int) -> None:
    assert estimate(classes(K, 4, 10)).best == pytest.approx(K, rel=0.1)


def test_the_finest_of_two_levels_is_counted() -> None:
    coarse = torch.eye(24)[:2].repeat_interleave(8, 0)
    centres = coarse + 0.3 * torch.eye(24)[2:18]
    noise = 0.02 * torch.randn(640, 24, generator=torch.Generator().manual_seed(0))
    assert estimate(centres.repeat_interleave(40, 0) + noise).best == 16


def test_isolated_rows_are_not_counted() -> None:
    stray = torch.nn.functional.normalize(torch.randn(20, 24, generator=torch.Generator().manual_seed(5)))
    assert estimate(torch.cat([blobs([80, 80, 80], 0.05)[0], stray])).best == 3


@pytest.mark.parametrize("n", [2, 3, 4, 8])
def test_few_rows_have_a_k(n: int) -> None:
    found = estimate(torch.eye(8)[:n] + 0.1)
    assert 1 <= found.low <= found.best <= found.high <= n
    assert found.sentence.startswith(
        "Too few different rows are near others for an estimate of the number of clusters, "
    )


def test_nine_rows_are_enough_for_an_estimate() -> None:
    assert "few" not in estimate(torch.eye(9) + 0.1).sentence


def test_the_interval_holds_other_seeds_and_four_fifths_of_the_rows() -> None:
    X = classes(60, 5, 30)
    found = estimate(X)
    for seed in (1, 2):
        assert found.low <= estimate(X, seed).best <= found.high
        part = torch.randperm(len(X), generator=torch.Generator().manual_seed(seed))[: len(X) * 4 // 5]
        assert found.low <= estimate(X[part], seed).best <= found.high
