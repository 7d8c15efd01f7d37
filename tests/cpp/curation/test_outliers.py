"""How odd images are: each part against a naive one, ranks over shards."""

import numpy as np
import torch

from cpp.clustering.coding_length import evidence_bits
from cpp.curation.outliers import Density, Residual, histogram, ranks
from cpp.rate_reduction.coding_rate import Moments
from tests.support.vectors import subspaces


def unit(n: int, d: int, seed: int) -> np.ndarray:
    X = np.random.default_rng(seed).standard_normal((n, d))
    return (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float16)


def test_density_is_the_mean_similarity_to_the_nearest_others() -> None:
    X, k = unit(50, 8, 0), 3
    S = X.astype(np.float32) @ X.astype(np.float32).T
    np.fill_diagonal(S, -np.inf)
    np.testing.assert_allclose(Density(X, k)(X, 16), np.sort(S, axis=1)[:, -k:].mean(axis=1), rtol=1e-5)


def test_copies_of_a_row_are_no_neighbours_of_it() -> None:
    X = unit(20, 8, 1)
    copied = np.concatenate([X, X[:1], X[:1], X[:1], X[:1]])
    np.testing.assert_allclose(Density(copied, 2)(X, 64), Density(X, 2)(X, 64), rtol=1e-6)


def test_a_row_that_is_not_in_the_sample_has_as_many_neighbours() -> None:
    X = unit(20, 8, 2)
    S = np.sort(X[:1].astype(np.float32) @ X[1:].astype(np.float32).T)
    np.testing.assert_allclose(Density(X[1:], 2)(X[:1], 64), S[:, -2:].mean(axis=1), rtol=1e-5)
    assert Density(X[:1], 5)(X[:1], 64).tolist() == [0]


def test_the_residual_is_what_the_coding_length_grows_by_beyond_a_row_at_the_mean() -> None:
    Z, group = subspaces(60, 2, 2, 6, 0)
    moments, e = Moments.of(Z, torch.from_numpy(group), 2), 0.1
    residual = Residual(moments, e)
    new = torch.nn.functional.normalize(torch.randn(4, 6, generator=torch.Generator().manual_seed(0)), dim=1)
    for k in (0, 1):

        def grown(z: torch.Tensor, k: int = k) -> float:
            more = moments + Moments.of(z[None], torch.tensor([k]), 2)
            return float(evidence_bits(more, e)[k] - evidence_bits(moments, e)[k])

        at_mean = grown(residual.mean[k])
        expected = [grown(z) - at_mean for z in new]
        np.testing.assert_allclose(residual(new, torch.full((4,), k)), expected, rtol=1e-4)
    assert residual(residual.mean.float(), torch.arange(2)).max() < 1e-6


def test_rows_off_the_subspace_of_their_cluster_have_larger_residuals() -> None:
    Z, group = subspaces(200, 4, 2, 16, 1)
    of = torch.from_numpy(group)
    residual = Residual(Moments.of(Z, of, 4), 0.1)
    assert residual(Z, of).max() < residual(Z, (of + 1) % 4).min()


def test_ranks_are_shares_of_less_odd_images_and_ties_count_by_half() -> None:
    values = np.array([1.0, 2.0, 2.0, 5.0, np.nan])
    found = ranks(histogram(values), values, large=True)
    np.testing.assert_allclose(found, [1 / 8, 1 / 2, 1 / 2, 7 / 8, np.nan])
    np.testing.assert_allclose(ranks(histogram(values), values, large=False), 1 - found)


def test_tallies_of_shards_add_and_order_negative_and_huge_values() -> None:
    values = np.array([-1e9, -2.0, -0.5, 0.0, 0.25, 3.0, 1e9])
    whole = ranks(histogram(values), values, large=True)
    assert (np.diff(whole) > 0).all()
    parts = histogram(values[:3]) + histogram(values[3:])
    np.testing.assert_array_equal(ranks(parts, values, large=True), whole)
