"""Copies are counted as a loop over all pairs of rows would, and nearly so where only a sample is remembered."""

import numpy as np
import pytest

from cpp.curation.exact_copies import Copies, Counter, hashes


def rows(n: int, dim: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float16)


def test_copies_within_and_between_batches() -> None:
    X = rows(50, 16, 0)
    counter = Counter()
    for part in (X[:20], X[10:30], X[[5, 5, 5]], X[:0]):
        counter.add(hashes(part))
    assert counter.total() == Copies(43, 10 + 3, True)


def test_rows_that_differ_in_one_bit_or_in_their_order_are_no_copies() -> None:
    X = rows(2, 8, 0)
    X[1] = X[0]
    X.view(np.uint16)[1, 3] ^= 1
    assert len(set(hashes(np.concatenate([X, X[:1, ::-1]])).tolist())) == 3


def test_a_sample_is_scaled_up() -> None:
    X = rows(20_000, 4, 1)
    counter = Counter(kept=2_000)
    for part in np.array_split(np.concatenate([X, X[:8_000]])[np.random.default_rng(2).permutation(28_000)], 7):
        counter.add(hashes(part))
    assert counter.total().rows == 28_000
    assert not counter.total().exact
    assert counter.total().copies == pytest.approx(8_000, rel=0.1)


def test_no_rows_have_no_copies() -> None:
    assert Counter().total() == Copies(0, 0, True)
