"""Scores by hand."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpp.evaluation.metrics import accuracy, kmeans_baseline, labelled, scores


def test_a_renamed_perfect_clustering_scores_one() -> None:
    assert scores(["a", "a", "b", "c"], [2, 2, 0, 1]) == pytest.approx((1, 1, 1))


def test_accuracy_by_hand() -> None:
    # clusters 0 and 1 both hold class a: only one of them can stand for it
    assert accuracy([0, 0, 0, 1, 1], [0, 0, 1, 2, 2]) == pytest.approx(4 / 5)
    assert accuracy([0, 0, 0, 1], [0, 0, 0, 0]) == pytest.approx(3 / 4)
    assert accuracy([0, 1, 2, 3], [0, 0, 0, 0]) == pytest.approx(1 / 4)


def test_a_random_clustering_has_no_adjusted_rand_index() -> None:
    rng = np.random.default_rng(0)
    assert abs(scores(rng.integers(0, 10, 5000), rng.integers(0, 10, 5000)).ari) < 0.01


def test_labels_come_out_of_files_with_unknown_ones_marked(tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    table = {"cluster": pa.array([0, 1, 1], pa.int32()), "kind": ["x", None, "y"], "none": pa.nulls(3, pa.string())}
    pq.write_table(pa.table(table), path)
    rows = labelled([path, path], "kind", prefetch=2)
    assert rows.known.tolist() == [True, False, True] * 2
    assert rows.label[rows.known].tolist() == ["x", "y", "x", "y"]
    with pytest.raises(ValueError, match=r"no column 'label' \(evaluate.label\); it has cluster, kind, none"):
        labelled([path], "label", 1)
    with pytest.raises(ValueError, match="'none' .* has no values"):
        labelled([path], "none", 1)


@pytest.mark.parametrize(
    ("values", "classes"),
    [([1, None, 2], ["1", "2"]), ([True, None, False], ["true", "false"]), ([0.5, None, 1.5], ["0.5", "1.5"])],
)
def test_classes_of_any_type_are_texts_and_can_be_scored(
    tmp_path: Path, values: list[object], classes: list[str]
) -> None:
    path = str(tmp_path / "a.parquet")
    pq.write_table(pa.table({"cluster": pa.array([0, 1, 1], pa.int32()), "kind": values}), path)
    rows = labelled([path], "kind", 1)
    assert rows.label[rows.known].tolist() == classes
    assert scores(rows.label[rows.known], rows.cluster[rows.known]).acc == 1


def test_the_baseline_clusters_rows_beyond_its_sample() -> None:
    X = np.repeat(np.eye(3, dtype=np.float16), 20, axis=0)
    clusters = kmeans_baseline(X[::2], iter([X[:30], X[30:]]), 3, seed=0)
    assert scores(np.repeat(np.arange(3), 20), clusters).acc == 1
