"""The smallest rows of each cluster over batches are those of one sort."""

import numpy as np
import pyarrow as pa
import pytest

from cpp.files import top_rows
from cpp.files.top_rows import SmallestRows


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
    best = SmallestRows(n)
    for part in np.array_split(np.arange(m), rng.integers(1, 40)):
        best.add(-confidence[part], pa.record_batch({"cluster": cluster[part], "row": part}), -score[part])
    expected = []
    for k in range(K):
        rows = [i for i in range(m) if cluster[i] == k]
        rows.sort(key=lambda i: (-confidence[i] if confidence[i] == confidence[i] else 1, -score[i], i))
        expected += rows[:n]
    assert sorted(best.column("row")) == sorted(expected)


def test_memory_is_that_of_the_best_not_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top_rows, "PENDING", 100)
    best = SmallestRows(5)
    for i in range(50):
        rows = np.arange(i * 100, (i + 1) * 100)
        best.add(-rows / 5000, pa.record_batch({"cluster": rows % 2, "row": rows}))
        assert sum(map(len, best._tables)) <= 210
    assert sorted(best.column("row")) == list(range(4990, 5000))


def test_no_rows_and_no_sense() -> None:
    assert SmallestRows(3).rows() == SmallestRows(3).column("row").tolist() == []
    with pytest.raises(ValueError, match="the number of rows of each cluster is 0, must be at least 1"):
        SmallestRows(0)


def test_clusters_may_give_different_numbers_and_lots_decide_between_equals() -> None:
    best = SmallestRows(np.array([2, 0, 1]))
    row, cluster, same = np.arange(7), np.array([0, 0, 0, 1, 2, 2, 2]), np.zeros(7)
    for start, lots in ((0, [3.0, 1, 2, 0, 5, 4, 6]), (7, [0.5, 9, 9, 9, 9, 9, 9])):
        best.add(same, pa.record_batch({"cluster": cluster, "row": row + start}), same, np.array(lots))
    assert sorted(best.column("row")) == [1, 5, 7]
