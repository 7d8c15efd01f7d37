"""Groups of duplicates: who is kept, what goes at every threshold, what is shown."""

import numpy as np
import pytest

from cpp.curation import duplicate_groups
from cpp.curation.duplicate_groups import Curve, Examples, Linked, Links, group, merge_forests
from cpp.curation.spanning_forest import connected, spanning

NAN = float("nan")


def chain() -> tuple[Linked, Links]:
    """0 - 1 - 2 at 0.97 and 0.91, 3 = 4 exactly, 5 - 6 at 0.86."""
    place = np.arange(7) * 10
    score = np.array([0.5, 0.9, 0.1, 0.3, 0.3, 0.2, 0.4])
    pixels = np.array([4.0, 1, 9, NAN, 2, NAN, NAN])
    linked = Linked(place, score, pixels, np.array([0.1, 0.2, 0.3, NAN, NAN, 0.2, 0.1]))
    similarity = np.float32([0.97, 0.91, 1, 0.86])
    return linked, Links(np.array([0, 1, 3, 5]), np.array([1, 2, 4, 6]), similarity, np.int8([0, 0, 2, 0]))


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
    linked, links = chain()
    with pytest.raises(ValueError, match="keep is resolution, but no image .* no columns width and height: use"):
        group(linked._replace(pixels=np.full(7, NAN)), links, 0.9, "resolution")


def test_the_curve_counts_what_groups_drop() -> None:
    linked, links = chain()
    curve = Curve(0.85)
    curve.add(7, links)
    assert curve.thresholds[0] == 0.85
    assert curve.thresholds[-1] == 1
    for threshold, dropped, groups in zip(curve.thresholds, curve.dropped, curve.groups, strict=True):
        found = group(linked, links, threshold, "first")
        assert dropped == (~found.kept).sum()
        assert groups == found.kept.sum()


def test_forests_of_several_buckets_become_one() -> None:
    rng = np.random.default_rng(0)
    n = 40
    a, b = np.triu_indices(n, 1)
    some = rng.permutation(len(a))[:200]
    a, b, similarity = a[some], b[some], rng.uniform(0.8, 1, 200).astype(np.float32)
    halves = [spanning(n, *(x[part] for x in (a, b, similarity))) for part in (slice(120), slice(80, None))]
    both = [np.concatenate(x) for x in zip(*halves, strict=True)]
    found = merge_forests(n, Links(*both, np.zeros(len(both[0]), np.int8)))
    assert len(found.a) == n - len(np.unique(connected(n, a, b)))
    for threshold in (0.8, 0.9, 0.95):
        kept, every = found.similarity >= threshold, similarity >= threshold
        count = [len(np.unique(connected(n, x, y))) for x, y in ((found.a[kept], found.b[kept]), (a[every], b[every]))]
        assert count[0] == count[1]


def test_kinds_outlive_the_merging_of_forests() -> None:
    links = Links(np.array([1, 0, 0, 1]), np.array([0, 1, 2, 2]), np.float32([1, 1, 1, 0.9]), np.int8([2, 2, 1, 0]))
    found = merge_forests(3, links)
    assert sorted(zip(found.a, found.b, found.kind, found.similarity, strict=True)) == [(0, 1, 2, 1), (0, 2, 1, 1)]


def test_examples_are_of_every_band_and_the_largest_groups() -> None:
    linked, links = chain()
    shown = Examples(0.84)
    shown.add(linked, links, group(linked, links, 0.9, "centroid"))
    assert [(round(p.similarity, 2), p.a, p.b) for p in shown.pairs()] == [
        (0.97, 0, 10),
        (0.91, 10, 20),
        (0.86, 50, 60),
    ]
    assert list(shown.groups()) == [(3, [10, 0, 20]), (2, [30, 40])]
