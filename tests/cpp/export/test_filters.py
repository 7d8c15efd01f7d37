"""Filters against plain loops: what passes, what is counted, and the surest n of each cluster while rows pass by."""

import numpy as np
import pytest

from cpp.export.filters import Filter, passing
from cpp.files import top_rows
from cpp.files.top_rows import TopRows


def test_what_does_not_pass_is_counted_once_with_its_reason() -> None:
    cluster = np.array([0, 1, 1, 2, 1, 0])
    confidence = np.array([0.9, 0.5, 0.4, 0.9, np.nan, 0.1])
    passed = passing(cluster, confidence, Filter(frozenset({0, 1}), 0.5))
    assert passed.keep.tolist() == [True, True, False, False, False, False]
    assert sorted(passed.left_out.values()) == [1, 3]
    assert passing(cluster, confidence, Filter()).keep.all()
    assert passing(cluster, confidence, Filter()).left_out == {}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("pending", [1, 1 << 18])
def test_the_best_are_those_of_one_sort_over_everything(
    seed: int, pending: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ties in confidence go by score, ties in both to the earlier row; how rows are cut into batches is nothing."""
    monkeypatch.setattr(top_rows, "PENDING", pending)
    rng = np.random.default_rng(seed)
    m, K, n = 400, 7, 1 + seed
    cluster = rng.integers(0, K, m)
    confidence = rng.integers(0, 4, m) / 4
    confidence[rng.random(m) < 0.2] = np.nan
    score = (rng.integers(0, 3, m) / 3).astype(np.float32)
    best = TopRows(n, K)
    for part in np.array_split(np.arange(m), rng.integers(1, 40)):
        best.add(part, cluster[part], confidence[part], score[part])
    expected = []
    for k in range(K):
        rows = [i for i in range(m) if cluster[i] == k]
        rows.sort(key=lambda i: (-confidence[i] if confidence[i] == confidence[i] else 1, -score[i], i))
        expected += rows[:n]
    assert best.rows().tolist() == sorted(expected)


def test_memory_is_that_of_the_best_not_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top_rows, "PENDING", 100)
    best = TopRows(5, 2)
    for i in range(50):
        rows = np.arange(i * 100, (i + 1) * 100)
        best.add(rows, rows % 2, rows / 5000, np.zeros(100))
        assert sum(part.shape[1] for part in best._parts) <= 210
    assert best.rows().tolist() == list(range(4990, 5000))


def test_no_rows_and_no_sense() -> None:
    assert TopRows(3, 2).rows().tolist() == []
    with pytest.raises(ValueError, match="per_cluster is 0, must be at least 1"):
        TopRows(0, 2)


def test_what_curation_dropped_is_looked_at_first() -> None:
    cluster, confidence = np.array([0, 0, 1, 1]), np.array([0.9, 0.1, 0.9, 0.1])
    found = passing(cluster, confidence, Filter(frozenset({0}), 0.5), {"outlier": np.array([1, 2])})
    assert found.keep.tolist() == [True, False, False, False]
    assert found.left_out == {"dropped by curation: outlier": 2, "of a cluster that was not asked for": 1}


def test_clusters_may_give_different_numbers_and_lots_decide_between_equals() -> None:
    best = TopRows(np.array([2, 0, 1]), 3)
    row, cluster, same = np.arange(7), np.array([0, 0, 0, 1, 2, 2, 2]), np.zeros(7)
    best.add(row, cluster, same, same, np.array([3.0, 1, 2, 0, 5, 4, 6]))
    best.add(row + 7, cluster, same, same, np.array([0.5, 9, 9, 9, 9, 9, 9]))
    assert best.rows().tolist() == [1, 5, 7]
