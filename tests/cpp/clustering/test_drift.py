"""How well later images fit: profiles add up, bits by hand, and reasons to fit again that are sums and thresholds."""

import numpy as np
import pytest
import torch

from cpp.clustering import drift
from cpp.clustering.coding_length import coding_length
from cpp.clustering.drift import Profile
from cpp.clustering.partition import PARTS
from cpp.rate_reduction.coding_rate import Moments

E = 0.1


def clusters(n: int, centres: list[int], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows near unit vectors of these numbers in 8 dimensions, in turn, and the place of each in the list."""
    generator = torch.Generator().manual_seed(seed)
    at = torch.arange(n) % len(centres)
    Z = torch.eye(8)[torch.tensor(centres)[at]] + 0.1 * torch.randn(n, 8, generator=generator)
    return Z / Z.norm(dim=1, keepdim=True), at


def parts(n: int, centres: list[int], seed: int = 0) -> Moments:
    Z, at = clusters(n, centres, seed)
    return Moments.of(Z, at * PARTS + torch.arange(n) % PARTS, len(centres) * PARTS)


def came(n: int, centres: list[int], seed: int = 1, into: int = 2) -> Moments:
    Z, at = clusters(n, centres, seed)
    return Moments.of(Z, at % into, into)


def astray(n: int, centres: list[int]) -> Moments:
    """Rows of other centres, as many of each in either cluster."""
    Z, _ = clusters(n, centres, 1)
    return Moments.of(Z, torch.arange(n) // 2 % 2, 2)


def test_profile_counts_images_and_small_margins() -> None:
    found = Profile.empty(3)
    found.add(np.array([0, 2]), np.array([0.5, 1.0]), np.array([0.04, 0.06]))
    found.add(np.array([2]), np.array([-1.0]), np.array([0.0]))
    assert found.rows == found.score.sum() == found.margin.sum() == 3
    assert found.size_K.tolist() == [1, 0, 2]
    assert found.small_K.tolist() == [1, 0, 1]
    assert found.score_K.tolist() == [0.5, 0.0, 0.0]
    assert found.summary(1, found)["rejected_share"] == 0.25


def test_quantiles_are_accurate_to_0_001() -> None:
    score = np.random.default_rng(0).uniform(0.2, 0.9, 10_000)
    found = Profile.empty(1)
    found.add(np.zeros(len(score), int), score, score)
    quantiles = found.summary(0, found)["score_quantiles"]
    for q, value in quantiles.items():
        assert value == pytest.approx(np.quantile(score, float(q)), abs=1.1e-3)
    assert Profile.empty(1).summary(0, found)["score_quantiles"] is None


def test_added_bits_are_differences_of_coding_lengths() -> None:
    old, new = parts(500, [0, 1]), came(100, [0, 1])
    result = drift.added_bits(old, new, E)
    whole, fitted, appended = coding_length(old.merge_runs(PARTS), E), 0.0, 0.0
    for left_out in range(PARTS):
        kept = torch.arange(2 * PARTS) % PARTS != left_out
        base = old[kept].merge(torch.arange(2).repeat_interleave(PARTS - 1), 2)
        fitted += (whole - coding_length(base, E)) / 100 / PARTS
        appended += (coding_length(base + new, E) - coding_length(base, E)) / 100 / PARTS
    assert result["fitted"] == pytest.approx(fitted)
    assert result["appended"] == pytest.approx(appended)


@pytest.mark.parametrize("n", [50, 100, 2000])
def test_savings_do_not_depend_on_the_number_of_appended_images(n: int) -> None:
    old = parts(500, [0, 1])
    bits = [drift.added_bits(old, new, E) for new in (came(n, [0, 1]), astray(n, [2, 3]))]
    (usual, same), (fitted, other) = ((b["fitted_saved"] or 0.0, b["appended_saved"] or 0.0) for b in bits)
    assert 0 < same == pytest.approx(usual, rel=0.1)
    assert fitted == pytest.approx(usual, rel=0.1)
    assert other < 0.5 * fitted


def test_no_appended_images_add_no_bits() -> None:
    assert set(drift.added_bits(parts(50, [0, 1]), came(0, [0, 1]), E).values()) == {None}


def test_low_scores_are_below_the_first_percentile_of_fitted_scores() -> None:
    old, new = Profile.empty(1), Profile.empty(1)
    score = np.linspace(0.5, 0.9, 1000)
    old.add(np.zeros(1000, int), score, score)
    new.add(np.zeros(4, int), np.array([0.1, 0.5, 0.6, 0.9]), np.ones(4))
    assert old.summary(0, old)["low_score"] == pytest.approx(0.01, abs=0.003)
    assert new.summary(0, old)["low_score"] == 0.5
    assert new.summary(0, Profile.empty(1))["low_score"] is None


def about(images: int, low: float | None = 0.0) -> dict[str, object]:
    return {"images": images, "low_score": low}


def test_refit_reasons_are_bits_low_scores_and_counts() -> None:
    fitted = about(1000, 0.01)
    half, less, none = ({"fitted_saved": 10.0, "appended_saved": saved} for saved in (5.0, 4.5, -2.0))
    assert drift.refit_reasons(fitted, about(999, 0.5), half) == []
    (bits,) = drift.refit_reasons(fitted, about(10), less)
    assert "save 4.5 bits per appended image and 10.0 per held-out fitted image" in bits
    (bits,) = drift.refit_reasons(fitted, about(10), none)
    assert "save no bits per appended image and" in bits
    (low,) = drift.refit_reasons(fitted, about(10, 0.51), half)
    assert "51% of the appended images score as low" in low
    (many,) = drift.refit_reasons(fitted, about(1000), half)
    assert "1,000 images were appended to 1,000" in many
    assert drift.refit_reasons(fitted, about(0, None), {"fitted_saved": None, "appended_saved": None}) == []
