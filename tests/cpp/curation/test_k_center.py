"""Farthest-first traversal: against a naive one, and what is guaranteed of it."""

from itertools import combinations

import numpy as np

from cpp.curation.k_center import farthest_first


def test_it_takes_the_nearest_to_the_mean_then_always_the_farthest() -> None:
    X = np.array([[0.0], [1.0], [10.0], [4.0], [4.0]])
    assert farthest_first(X, 4).tolist() == [3, 2, 0, 1]
    assert farthest_first(X, 5).tolist()[:4] == [3, 2, 0, 1]
    assert farthest_first(X, 0).tolist() == []
    assert sorted(farthest_first(X, 5).tolist()) == [0, 1, 2, 3, 4]


def test_no_row_is_twice_as_far_as_with_the_best_choice() -> None:
    X = np.random.default_rng(0).standard_normal((12, 2))
    apart = np.linalg.norm(X[:, None] - X[None], axis=2)
    best = min(apart[:, some].min(axis=1).max() for some in combinations(range(12), 3))
    assert apart[:, farthest_first(X, 3)].min(axis=1).max() <= 2 * best
