"""Groups of duplicates: who is kept, what goes at every threshold, what is shown."""

import numpy as np
import pytest

from cpp.curation import duplicate_groups
from cpp.curation.duplicate_groups import (
    Linked,
    curve,
    curve_thresholds,
    example_pairs,
    group,
    largest_groups,
    merge_forests,
)
from cpp.curation.spanning_forest import Pairs, connected, spanning

NAN = float("nan")


def chain() -> tuple[Linked, Pairs]:
    """0 - 1 - 2 at 0.97 and 0.91, 3 = 4 exactly, 5 - 6 at 0.86."""
    place = np.arange(7) * 10
    score = np.array([0.5, 0.9, 0.1, 0.3, 0.3, 0.2, 0.4])
    pixels = np.array([4.0, 1, 9, NAN, 2, NAN, NAN])
    linked = Linked(place, score, pixels, np.array([0.1, 0.2, 0.3, NAN, NAN, 0.2, 0.1]))
    similarity = np.float32([0.97, 0.91, 1, 0.86])
    return linked, Pairs(np.array([0, 1, 3, 5]), np.array([1, 2, 4, 6]), similarity, np.int8([0, 0, 2, 0]))


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        ("centroid", [1, 3, 6]),  # of equal ones the first
        ("farthest", [2, 3, 5]),
        ("resolution", [2, 4, 5]),  # one that is known before one that is not
        ("caption", [2, 3, 5]),
        ("first", [0, 3, 5]),
    ],
)
def test_one_of_each_group_is_kept(keep: duplicate_groups.Keep, kept: list[int]) -> None:
    found = group(*chain(), 0.85, keep)
    assert found.row[found.kept].tolist() == kept
    assert found.group.tolist() == [0, 0, 0, 1, 1, 2, 2]


def test_the_threshold_cuts_groups_and_similarity_is_to_the_nearest() -> None:
    found = group(*chain(), 0.95, "first")
    assert found.row.tolist() == [0, 1, 3, 4]
    assert found.similarity.tolist() == [np.float32(0.97), np.float32(0.97), 1, 1]
    assert found.kind.tolist() == [0, 0, 2, 2]


def test_what_is_kept_must_be_known_of_something() -> None:
    linked, pairs = chain()
    with pytest.raises(ValueError, match="keep is resolution, but no image .* no columns width and height: use"):
        group(linked._replace(pixels=np.full(7, NAN)), pairs, 0.9, "resolution")


def test_the_curve_counts_dropped_rows_and_groups_at_each_threshold() -> None:
    linked, pairs = chain()
    thresholds = curve_thresholds(0.85)
    assert (thresholds[0], thresholds[-1]) == (0.85, 1)
    for threshold, dropped, groups in zip(thresholds, *curve(7, pairs, thresholds), strict=True):
        grouped = group(linked, pairs, threshold, "first")
        assert dropped == (~grouped.kept).sum()
        assert groups == grouped.kept.sum()


def test_forests_of_several_buckets_become_one() -> None:
    rng = np.random.default_rng(0)
    n = 40
    a, b = np.triu_indices(n, 1)
    some = rng.permutation(len(a))[:200]
    a, b, similarity = a[some], b[some], rng.uniform(0.8, 1, 200).astype(np.float32)
    halves = [spanning(n, *(x[part] for x in (a, b, similarity))) for part in (slice(120), slice(80, None))]
    both = [np.concatenate(x) for x in zip(*halves, strict=True)]
    found = merge_forests(n, Pairs(*both, np.zeros(len(both[0]), np.int8)))
    assert len(found.a) == n - len(np.unique(connected(n, a, b)))
    for threshold in (0.8, 0.9, 0.95):
        kept, every = found.similarity >= threshold, similarity >= threshold
        count = [len(np.unique(connected(n, x, y))) for x, y in ((found.a[kept], found.b[kept]), (a[every], b[every]))]
        assert count[0] == count[1]


def test_kinds_outlive_the_merging_of_forests() -> None:
    pairs = Pairs(np.array([1, 0, 0, 1]), np.array([0, 1, 2, 2]), np.float32([1, 1, 1, 0.9]), np.int8([2, 2, 1, 0]))
    found = merge_forests(3, pairs)
    assert sorted(zip(found.a, found.b, found.kind, found.similarity, strict=True)) == [(0, 1, 2, 1), (0, 2, 1, 1)]


def test_example_pairs_have_the_band_of_their_similarity_and_are_no_exact_copies() -> None:
    columns = example_pairs(*chain(), 0.84)
    assert columns["cluster"].tolist() == [6, 3, 1]
    assert columns["band"].round(2).tolist() == [0.96, 0.9, 0.86]
    assert columns["a"].tolist() == [0, 10, 50]
    assert columns["b"].tolist() == [10, 20, 60]


def test_the_largest_groups_come_first_and_begin_with_the_kept_row() -> None:
    linked, pairs = chain()
    assert largest_groups(linked, group(linked, pairs, 0.9, "centroid")) == [(3, [10, 0, 20]), (2, [30, 40])]
