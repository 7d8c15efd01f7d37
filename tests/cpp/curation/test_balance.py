"""How many images clusters give: sums, limits of the power, order; parts share what the cluster above them has."""

from itertools import combinations

import numpy as np
import pytest

from cpp.curation.balance import effective_number, farthest_first, hierarchical_shares, shares


def one_by_one(sizes: list[int], total: int, power: float) -> list[int]:
    """Webster's method as it is told: the next unit goes where its rank is largest."""
    given = [0] * len(sizes)
    for _ in range(min(total, sum(sizes))):
        left = [k for k, n in enumerate(sizes) if given[k] < n]
        best = max(left, key=lambda k: (sizes[k] ** power / (given[k] + 0.5), sizes[k], -k))
        given[best] += 1
    return given


def test_shares_by_hand() -> None:
    assert shares(np.array([10, 3, 1]), 6, 0).tolist() == [3, 2, 1]  # the third is empty after one
    assert shares(np.array([10, 3, 1]), 9, 0).tolist() == [5, 3, 1]
    assert shares(np.array([60, 30, 10]), 10, 1).tolist() == [6, 3, 1]
    assert shares(np.array([5, 0, 5]), 5, 0).tolist() == [3, 0, 2]
    assert shares(np.array([2, 2]), 9, 0).tolist() == [2, 2]  # all there are
    with pytest.raises(ValueError, match="power is -1, must be at least 0"):
        shares(np.array([1]), 1, -1)


@pytest.mark.parametrize("power", [0, 0.5, 1, 2])
def test_shares_are_those_of_giving_one_by_one(power: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        sizes = rng.integers(0, 40, rng.integers(1, 8))
        total = int(rng.integers(0, sizes.sum() + 3))
        assert shares(sizes, total, power).tolist() == one_by_one(sizes.tolist(), total, power)


def test_shares_sum_to_what_was_asked_and_larger_subsets_hold_smaller_ones() -> None:
    sizes = np.random.default_rng(1).integers(0, 1000, 50)
    for power in (0.0, 0.3, 1.0):
        before = np.zeros(50, np.int64)
        for total in range(0, int(sizes.sum()) + 500, 1500):
            given = shares(sizes, total, power)
            assert given.sum() == min(total, sizes.sum())
            assert (given <= sizes).all()
            assert (given >= before).all()
            before = given


def test_larger_clusters_never_give_less_and_power_one_is_in_proportion() -> None:
    sizes = np.sort(np.random.default_rng(2).integers(1, 5000, 200))
    for power in (0.0, 0.5, 1.0):
        by_size = {int(n): shares(sizes, 10_000, power)[sizes == n] for n in np.unique(sizes)}
        tops = [int(part.max()) for part in by_size.values()]
        assert tops == sorted(tops)
    exact = sizes / sizes.sum() * 10_000
    assert np.abs(shares(sizes, 10_000, 1) - exact).max() <= 1
    even = shares(sizes, 10_000, 0)
    assert np.ptp(even[even < sizes]) <= 1


def test_a_cluster_shares_its_part_among_its_own_parts() -> None:
    sizes = np.array([100, 100, 100, 4])  # the first three are one cluster of the coarser layer
    assert hierarchical_shares([np.array([0, 0, 0, 1])], sizes, 24, 0).tolist() == [7, 7, 6, 4]
    assert hierarchical_shares([], sizes, 24, 0).tolist() == [7, 7, 6, 4]
    uneven = hierarchical_shares([np.array([0, 0, 0, 1])], np.array([100, 100, 100, 50]), 60, 0)
    assert uneven.tolist() == [15, 15, 15, 15]  # the finest clusters are even, whatever the layers above
    lacking = hierarchical_shares([np.array([0, 0, 1, 1])], np.array([100, 5, 100, 100]), 80, 0)
    assert lacking.tolist() == [35, 5, 20, 20]  # what the second lacks comes from the first, in the same cluster
    assert hierarchical_shares([np.array([1, 0, 1, 0])], np.array([9, 9, 1, 9]), 12, 0).tolist() == [5, 3, 1, 3]


def test_layers_sum_to_what_was_asked_at_every_level() -> None:
    rng = np.random.default_rng(3)
    middle = np.arange(40) % 10
    coarse = np.arange(10) % 3
    sizes = rng.integers(0, 100, 40)
    before = np.zeros(40, np.int64)
    for total in (0, 1, 10, 500, 5000):
        given = hierarchical_shares([coarse[middle], middle], sizes, total, 0)
        assert given.sum() == min(total, sizes.sum())
        top = np.bincount(coarse[middle], weights=sizes).astype(np.int64)
        shared = np.bincount(coarse[middle], weights=given)
        if total == 500:  # no cluster is exhausted at the top, which counts for its finest clusters
            finest = np.bincount(coarse[middle], weights=sizes > 0)
            assert np.abs(shared - total * finest / finest.sum()).max() <= 1
        assert (shared <= top).all()
        assert (given >= before).all()
        before = given


def test_evenness_is_the_number_of_clusters_where_they_are_equal() -> None:
    assert effective_number(np.array([5, 5, 5, 0])) == pytest.approx(3)
    assert effective_number(np.array([1, 0])) == pytest.approx(1)
    assert effective_number(np.array([0])) == 0


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
