"""What became of clusters, and how much two runs agree: cases by hand, and scikit-learn's scores of the same labels."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

from cpp.evaluation import comparison
from cpp.evaluation.comparison import Group, agreement, groups, table
from cpp.evaluation.overlaps import COLUMNS, Overlaps, count_overlaps


def of_labels(a: object, b: object) -> Overlaps:
    pairs, images = np.unique(np.stack([np.asarray(a), np.asarray(b)]), axis=1, return_counts=True)
    return Overlaps(pairs[0], pairs[1], images)


def batch(rows: list[tuple[str, str, int]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([dict(zip(COLUMNS.names, row, strict=True)) for row in rows], COLUMNS)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([0] * 5 + [1] * 5, [7] * 5 + [3] * 5, {("stayed", (0,), (7,)), ("stayed", (1,), (3,))}),
        ([0] * 9, [0] * 3 + [1] * 3 + [2] * 3, {("split", (0,), (0, 1, 2))}),
        ([0] * 6 + [1] * 3, [4] * 9, {("merged", (0, 1), (4,))}),
        ([0] * 4 + [1] * 4 + [2] * 4, [0, 1, 2, 3] * 3, {("vanished", (k,), ()) for k in range(3)}
         | {("appeared", (), (k,)) for k in range(4)}),
        ([0] * 4 + [1] * 3 + [2] * 3, [0] * 10, {("merged", (0, 1, 2), (0,))}),
        # most of 0 is in 1, but 1 comes mostly from elsewhere, in parts
        ([0] * 4 + [1] * 10 + [2] * 10, [0] * 4 + [0] * 3 + [1] * 7 + [0] * 3 + [2] * 7,
         {("regrouped", (0,), (0,)), ("stayed", (1,), (1,)), ("stayed", (2,), (2,))}),
        ([0] * 5, [-1] * 5, {("vanished", (0,), ())}),
        ([-1] * 5, [2] * 5, {("appeared", (), (2,))}),
    ],
)  # fmt: skip
def test_groups_by_hand(a: list[int], b: list[int], expected: set[object]) -> None:
    assert {(group.change, group.a, group.b) for group in groups(of_labels(a, b))} == expected


def test_every_cluster_is_in_one_group() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(-1, 40, 2000)
    b = np.where(rng.random(2000) < 0.6, a // 2, rng.integers(-1, 30, 2000))
    found = groups(of_labels(a, b))
    for run, labels in (("a", a), ("b", b)):
        numbers = [k for group in found for k in getattr(group, run)]
        assert sorted(numbers) == sorted({*labels.tolist()} - {-1})


@pytest.mark.parametrize("limit", [10**9, 4000])
def test_agreement_is_that_of_the_labels_that_both_runs_have(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "AMI_IMAGES", limit)
    rng = np.random.default_rng(1)
    a = rng.integers(-1, 12, 20_000)
    b = np.where(rng.random(20_000) < 0.5, a, rng.integers(-1, 9, 20_000))
    both = (a >= 0) & (b >= 0)
    result = agreement(of_labels(a, b))
    assert result is not None
    assert result.ari == pytest.approx(adjusted_rand_score(a[both], b[both]), abs=1e-12)
    assert result.ami == pytest.approx(adjusted_mutual_info_score(a[both], b[both]), abs=1e-9 if limit > 4000 else 0.02)
    assert result.measured == min(limit, both.sum())


def test_no_image_in_both_runs_has_no_agreement() -> None:
    assert agreement(of_labels([0, -1], [-1, 0])) is None


def test_the_table_has_every_pair_and_every_single_cluster() -> None:
    overlaps = of_labels([0] * 6 + [1] * 4 + [-1], [0] * 6 + [0, 1, 2, 3] + [4])
    found = groups(overlaps)
    rows = table(overlaps, found, {0: "cat", 1: "owl"}, dict(enumerate("vwxyz"))).to_pylist()
    stayed = {"group": found.index(Group("stayed", (0,), (0,), 6)), "change": "stayed", "images": 6}
    pair = {"cluster_a": 0, "title_a": "cat", "cluster_b": 0, "title_b": "v", "share_a": 1.0, "share_b": 6 / 7}
    assert rows[0] == {**stayed, **pair}
    assert [row["images"] for row in rows if row["cluster_a"] == 1 and row["cluster_b"] is not None] == [1] * 4
    assert {row["cluster_b"]: row["change"] for row in rows if row["cluster_a"] is None} == {4: "appeared"}


def test_keys_match_images_in_any_order_and_shard() -> None:
    a = [batch([("x", "s", 0), ("y", "s", 1)]), batch([("z", "t", 2)])]
    b = [batch([("z", "u", 5), ("y", "u", 6), ("new", "u", 6)])]
    counted = count_overlaps(a, b, 1)
    rows = {*zip(*(column.tolist() for column in counted), strict=True)}
    assert rows == {(0, -1, 1), (1, 6, 1), (2, 5, 1), (-1, 6, 1)}
    assert (counted.only("a"), counted.only("b"), counted.common.images.sum()) == (1, 1, 2)


def test_keys_that_repeat_are_matched_by_shard_and_then_by_order() -> None:
    a = [batch([("1", "s", 0), ("1", "t", 1), ("1", "t", 2), ("2", "s", 3)])]
    b = [batch([("1", "t", 11), ("1", "t", 12), ("1", "s", 10), ("2", "moved", 13)])]
    counted = count_overlaps(a, b, 1)
    assert {*zip(*(column.tolist() for column in counted), strict=True)} == {(k, 10 + k, 1) for k in range(4)}


def test_a_join_that_does_not_fit_in_memory_spills(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpp.evaluation.overlaps.MEMORY", "60MB")
    n, size = 600_000, 50_000
    numbers = np.arange(n)

    def batches(shift: int) -> list[pa.RecordBatch]:
        keys = [f"a key that is as long as the address of a picture on the web {i}" for i in numbers]
        return [
            pa.record_batch([keys[i : i + size], ["s"] * size, (numbers[i : i + size] + shift) % 7], COLUMNS)
            for i in range(0, n, size)
        ]

    counted = count_overlaps(batches(0), batches(1), 2)
    assert counted.images.sum() == n
    assert ((counted.a + 1) % 7 == counted.b).all()
