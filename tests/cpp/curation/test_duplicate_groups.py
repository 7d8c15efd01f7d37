"""Groups of duplicates: what is kept, what is dropped at every threshold, what is shown."""

import numpy as np
import pytest

from cpp.curation import duplicate_groups
from cpp.curation.duplicate_groups import Linked, curve, curve_thresholds, example_pairs, group, largest_groups
from cpp.curation.strongest_pairs import Pairs

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
        ("farthest", [0, 2, 3, 5]),  # 0 and 2 have no pair, so the middle of the chain is dropped alone
        ("resolution", [0, 2, 4, 5]),  # one that is known before one that is not
        ("caption", [0, 2, 3, 5]),
        ("first", [0, 2, 3, 5]),
    ],
)
def test_rows_without_a_better_kept_neighbour_are_kept(keep: duplicate_groups.Keep, kept: list[int]) -> None:
    grouped = group(*chain(), 0.85, keep)
    dropped = set(grouped.row[~grouped.kept].tolist())
    assert [row for row in range(7) if row not in dropped] == kept


def test_a_chain_is_not_one_group_and_similarity_is_to_the_kept_row() -> None:
    grouped = group(*chain(), 0.9, "farthest")
    assert grouped.row.tolist() == [0, 1, 3, 4]  # 2 is kept too, and stands for no other row
    assert grouped.group.tolist() == [0, 0, 1, 1]
    assert grouped.similarity.tolist() == [np.float32(0.97), np.float32(0.97), 1, 1]
    assert grouped.kind.tolist() == [0, 0, 2, 2]


def test_every_dropped_row_has_a_pair_with_its_kept_row_and_no_two_kept_rows_have_one() -> None:
    rng = np.random.default_rng(0)
    n = 60
    drawn = rng.permutation(n * (n - 1) // 2)[:150]
    a, b = (ends[drawn] for ends in np.triu_indices(n, 1))
    similarity = rng.uniform(0.8, 0.999, len(a)).astype(np.float32)
    linked = Linked(np.arange(n), rng.random(n), *(np.full(n, NAN) for _ in range(2)))
    grouped = group(linked, Pairs(a, b, similarity, np.zeros(len(a), np.int8)), 0.85, "centroid")
    near = {(x, y): s for x, y, s in zip(a.tolist(), b.tolist(), similarity, strict=True) if s >= np.float32(0.85)}
    leader = {g: row for g, row, kept in zip(grouped.group, grouped.row, grouped.kept, strict=True) if kept}
    dropped = set()
    for g, row, kept, s in zip(grouped.group, grouped.row, grouped.kept, grouped.similarity, strict=True):
        if not kept:
            dropped.add(int(row))
            assert near[min(row, leader[g]), max(row, leader[g])] == s
            assert linked.score[leader[g]] > linked.score[row]
    assert dropped
    assert all(x in dropped or y in dropped for x, y in near)


@pytest.mark.parametrize("keep", ["centroid", "farthest", "resolution", "caption", "first"])
def test_a_row_that_is_removed_anyway_is_kept_only_among_its_like(keep: duplicate_groups.Keep) -> None:
    linked, pairs = chain()
    removed = np.isin(np.arange(7), [1, 3, 5, 6])
    grouped = group(linked._replace(removed=removed, batch=np.where(removed, 0, 1)), pairs, 0.85, keep)
    leader = {g: row for g, row, kept in zip(grouped.group, grouped.row, grouped.kept, strict=True) if kept}
    dropped = {
        row: leader[g] for g, row, kept in zip(grouped.group, grouped.row, grouped.kept, strict=True) if not kept
    }
    assert {1, 3} < dropped.keys()  # 1 has both ends of the chain for it, and 4 is the copy of 3
    assert not removed[[leader for row, leader in dropped.items() if not removed[row]]].any()


def test_exact_copies_stand_and_fall_together() -> None:
    """Of three equal files the second has the best caption; a fourth row is near to the first only."""
    caption = np.array([0.1, 0.9, 0.2, 0.5])
    linked = Linked(np.arange(4), np.full(4, 0.5), np.full(4, NAN), caption)
    pairs = Pairs(np.array([0, 0, 0]), np.array([1, 2, 3]), np.float32([1, 1, 0.96]), np.int8([2, 2, 0]))
    grouped = group(linked, pairs, 0.95, "caption")
    assert grouped.row[grouped.kept].tolist() == [1]
    assert grouped.similarity.tolist() == [1, 1, 1, np.float32(0.96)]
    assert grouped.kind.tolist() == [2, 2, 2, 0]


def test_what_is_kept_must_be_known_of_some_row() -> None:
    linked, pairs = chain()
    with pytest.raises(ValueError, match="keep is resolution, but no image .* no columns width and height: use"):
        group(linked._replace(pixels=np.full(7, NAN)), pairs, 0.9, "resolution")


def test_the_curve_counts_dropped_rows_and_groups_at_each_threshold() -> None:
    linked, pairs = chain()
    thresholds = curve_thresholds(0.85)
    assert (thresholds[0], thresholds[-1]) == (0.85, 1)
    for threshold, dropped, groups in zip(thresholds, *curve(linked, pairs, thresholds, "first"), strict=True):
        grouped = group(linked, pairs, threshold, "first")
        assert dropped == (~grouped.kept).sum()
        assert groups == grouped.kept.sum()


def test_example_pairs_have_the_band_of_their_similarity_and_are_no_exact_copies() -> None:
    columns = example_pairs(*chain(), 0.84)
    assert columns["cluster"].tolist() == [6, 3, 1]
    assert columns["band"].round(2).tolist() == [0.96, 0.9, 0.86]
    assert columns["a"].tolist() == [0, 10, 50]
    assert columns["b"].tolist() == [10, 20, 60]


def test_the_largest_groups_come_first_and_begin_with_the_kept_row() -> None:
    linked, pairs = chain()
    assert largest_groups(linked, group(linked, pairs, 0.9, "centroid")) == [(3, [10, 0, 20]), (2, [30, 40])]


def test_there_may_be_no_pairs() -> None:
    none = np.empty(0, np.int64)
    linked = Linked(none, *(np.empty(0) for _ in range(3)))
    pairs = Pairs(none, none, np.empty(0, np.float32), np.empty(0, np.int8))
    assert len(group(linked, pairs, 0.9, "centroid").row) == 0
    assert curve(linked, pairs, np.array([0.9, 1]), "centroid").tolist() == [[0, 0], [0, 0]]
