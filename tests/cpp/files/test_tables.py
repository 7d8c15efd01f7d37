"""Matrices as columns, counts in the metadata, samples over many files."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpp.files.tables import (
    Counts,
    align_batches,
    batches,
    join_vectors,
    matrix,
    matrix_column,
    read_counts,
    sample_rows,
    write,
    write_rejected,
)
from cpp.files.top_rows import SmallestRows


def files(tmp_path: Path, rows: tuple[int, ...]) -> list[str]:
    """Files of vectors whose entries are the number of the row over all files."""
    paths, start = [], 0
    for i, n in enumerate(rows):
        X = np.repeat(np.arange(start, start + n)[:, None], 3, axis=1).astype(np.float16)
        path = tmp_path / f"{i}.parquet"
        write(pa.table({"v": matrix_column(X), "n": np.arange(start, start + n)}), path, Counts(n, n))
        paths.append(str(path))
        start += n
    return paths


def test_a_matrix_survives_the_file_in_every_reader(tmp_path: Path) -> None:
    X = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float16)
    path = tmp_path / "x.parquet"
    write(pa.table({"v": matrix_column(X)}), path)
    assert np.array_equal(matrix(pq.read_table(path)["v"]), X)
    assert np.array_equal(np.stack(pd.read_parquet(path)["v"].to_list()), X)
    assert np.array_equal(
        np.array(duckdb.sql(f"select v from '{path}'").fetchall()).reshape(5, 4).astype(np.float16), X
    )
    assert np.array_equal(pl.read_parquet(path)["v"].to_numpy(), X)


def test_matrix_of_slices_chunks_and_nothing() -> None:
    X = np.arange(12, dtype=np.float16).reshape(4, 3)
    column = matrix_column(X)
    assert np.array_equal(matrix(column[1:3]), X[1:3])
    assert np.array_equal(matrix(pa.chunked_array([column[:1], column[1:]])), X)
    assert matrix(column[:0]).shape == (0, 3)


def test_another_type_and_a_null_are_errors() -> None:
    with pytest.raises(ValueError, match="fixed_size_list column without nulls, got double"):
        matrix(pa.array([1.0]))
    with pytest.raises(ValueError, match="without nulls"):
        matrix(pa.array([[1.0], None], pa.list_(pa.float16(), 1)))


def test_counts_come_back_and_a_foreign_file_is_an_error(tmp_path: Path) -> None:
    write(pa.table({"a": [1, 2]}), tmp_path / "a.parquet", Counts(3, 2, 1))
    assert read_counts(str(tmp_path / "a.parquet")) == (Counts(3, 2, 1), 2, {})
    rejected = pa.table({"key": ["a", "b", "c"], "row": [1, 2, 3], "reason": ["no bytes", "no bytes", "damaged"]})
    write_rejected(rejected, tmp_path / "c.parquet", Counts(5, 2, 3))
    assert read_counts(str(tmp_path / "c.parquet")) == (Counts(5, 2, 3), 3, {"no bytes": 2, "damaged": 1})
    pq.write_table(pa.table({"a": [1]}), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"b\.parquet has no row counts"):
        read_counts(str(tmp_path / "b.parquet"))
    assert Counts(3, 2, 1).balanced
    assert not Counts(3, 2, 0).balanced


def test_batches_keep_the_order_of_rows_and_files(tmp_path: Path) -> None:
    paths = files(tmp_path, (5, 0, 7, 1))
    assert [n for batch in batches(paths, ["n"], prefetch=3) for n in batch["n"].to_pylist()] == list(range(13))
    assert list(batches([], ["n"], prefetch=3)) == []


def test_a_sample_is_seeded_ordered_and_without_replacement(tmp_path: Path) -> None:
    paths = files(tmp_path, (40, 0, 60))
    first = sample_rows(paths, ["v"], 30, seed=1, prefetch=2)[:, 0]
    assert len(set(first)) == 30
    assert (np.diff(first) > 0).all()
    assert np.array_equal(first, sample_rows(paths, ["v"], 30, seed=1, prefetch=4)[:, 0])
    assert not np.array_equal(first, sample_rows(paths, ["v"], 30, seed=2, prefetch=2)[:, 0])


def test_a_sample_larger_than_the_data_is_the_data(tmp_path: Path) -> None:
    assert sample_rows(files(tmp_path, (4, 3)), ["v"], 100, seed=0, prefetch=2)[:, 0].tolist() == list(range(7))


def test_a_sample_is_uniform(tmp_path: Path) -> None:
    paths = files(tmp_path, (10, 10))
    drawn = np.concatenate([sample_rows(paths, ["v"], 5, seed=s, prefetch=1)[:, 0] for s in range(400)])
    counts = np.bincount(drawn.astype(int), minlength=20)
    assert counts.min() > 60  # 100 expected, deviation 9
    assert counts.max() < 140


def test_joined_columns_are_unit_rows_in_which_each_counts_the_same() -> None:
    A, B = np.eye(3, 4, dtype=np.float16), np.roll(np.eye(3, 2, dtype=np.float16), 1, axis=0)
    B[0] = 0, 1
    table = pa.table({"a": matrix_column(A), "b": matrix_column(B)})
    both = join_vectors(table, ["b", "a"])
    np.testing.assert_allclose(both * np.sqrt(2), np.concatenate([B, A], axis=1), atol=1e-3)
    assert np.array_equal(join_vectors(table, ["a"]), A)


def test_no_rows_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no rows to sample in the 1 files of v"):
        sample_rows(files(tmp_path, (0,)), ["v"], 5, seed=0, prefetch=1)


def test_least_keeps_the_least_of_each_cluster_over_batches() -> None:
    rng = np.random.default_rng(0)
    value, cluster = rng.permutation(200).astype(float), rng.integers(0, 5, 200)
    least = SmallestRows(3)
    for part in np.array_split(np.arange(200), 7):
        least.add(value[part], pa.record_batch({"cluster": cluster[part], "row": part}))
    for k in range(5):
        mine = np.flatnonzero(cluster == k)
        expected = mine[np.argsort(value[mine])][:3].tolist()
        assert [row["row"] for row in least.rows() if row["cluster"] == k] == expected


def test_streams_of_rows_that_belong_together_are_cut_alike() -> None:
    def stream(name: str, *sizes: int) -> Iterator[pa.RecordBatch]:
        first = 0
        for n in sizes:
            yield pa.record_batch({name: np.arange(first, first := first + n)})

    found = list(align_batches(stream("a", 3, 0, 4), stream("b", 1, 6)))
    assert [batch.num_rows for batch, _ in found] == [1, 2, 4]
    assert all(a["a"].equals(b["b"]) for a, b in found)
    assert list(align_batches(stream("a"), stream("b", 0))) == []
    with pytest.raises(ValueError, match="1 of 2 streams of rows are longer"):
        list(align_batches(stream("a", 3), stream("b", 2)))
