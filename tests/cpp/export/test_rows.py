"""Rows and images of a shard pair by key and place, and files that do not belong together are an error."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpp.export.classes import classes
from cpp.export.rows import Filter, Layer, Shard, decide, find, metadata, read, schema
from cpp.sources.tar import TarShard
from tests.support.tars import write_tar

MAIN = Layer("cluster", ("cluster", "cluster_2"), main=True)
COARSE = Layer("cluster_2", ("cluster", "cluster_2"), main=False)
NAMES = classes(
    [
        {"cluster": 0, "name": "cat", "size": 2, "status": "named", "guess": "cat"},
        {"cluster": 1, "name": None, "size": 1, "status": "unsure", "guess": "dog"},
    ]
)


def shard(folder: Path, keys: list[str], labels: bool = True, **more: list[object]) -> Shard:
    n = len(keys)
    cluster = np.arange(n, dtype=np.int32) % 2
    pq.write_table(
        pa.table(
            {
                "key": keys,
                "cluster": cluster,
                "score": np.linspace(0, 1, n, dtype=np.float32),
                "second": 1 - cluster,
                "margin": np.full(n, 0.5, np.float32),
                "cluster_2": 1 - cluster,
                "image_shard": [str(folder / "s.tar")] * n,
                **more,
            }
        ),
        folder / "a.parquet",
    )
    if labels:
        said = {"key": keys, "label": ["cat", None] * n, "confidence": [0.75, None] * n}
        table = {name: values[:n] for name, values in said.items()}
        pq.write_table(
            pa.table({**table, "confidence": pa.array(table["confidence"], pa.float32())}), folder / "l.parquet"
        )
    tar = TarShard(str(folder / "s.tar"), "")
    return Shard(str(folder / "a.parquet"), str(folder / "l.parquet") if labels else None, None, tar)


def test_rows_have_the_columns_of_the_schema_and_the_labels_of_the_run(tmp_path: Path) -> None:
    table = read(shard(tmp_path, ["a", "b", "c"]), MAIN, NAMES)
    assert table.schema == schema(MAIN, files=False)
    assert table["class_name"].to_pylist() == ["cat", "cluster-1", "cat"]
    assert table["label"].to_pylist() == ["cat", None, "cat"]
    assert table["confidence"].to_pylist() == [0.75, None, 0.75]
    assert schema(MAIN, files=True).names == ["file", *table.column_names]


def test_each_row_that_does_not_pass_counts_for_one_reason(tmp_path: Path) -> None:
    """Rows dropped by curation first, then those of other clusters, then those without a sure name."""
    files = shard(tmp_path, list("abcdef"))
    dropped = str(tmp_path / "d.parquet")
    pq.write_table(pa.table({"row": [1, 2], "reason": ["outlier", "outlier"]}), dropped)
    table, kept, left_out = decide(replace(files, drop=dropped), MAIN, Filter((0,), 0.8))
    assert (len(table), kept.tolist()) == (6, [])
    assert left_out == {
        "dropped by curation: outlier": 2,
        "of a cluster that was not asked for": 2,
        "of a confidence below 0.8, or without one": 2,
    }
    assert decide(files, MAIN, Filter((0,), 0.5))[1].tolist() == [0, 2, 4]
    assert decide(files, MAIN, Filter(None, 0.5))[2] == {"of a confidence below 0.5, or without one": 3}
    assert decide(files, MAIN, Filter())[1:] == (pytest.approx(range(6)), {})


def test_in_another_layer_the_label_is_the_name_of_the_cluster_and_there_is_no_confidence(tmp_path: Path) -> None:
    table = read(shard(tmp_path, ["a", "b", "c"]), COARSE, NAMES)
    assert table["label"].to_pylist() == [None, "cat", None]
    assert table["confidence"].null_count == 3
    assert np.isnan(decide(shard(tmp_path, ["a", "b", "c"]), COARSE, Filter())[0]["confidence"]).all()


def test_without_labels_there_is_neither_label_nor_confidence_but_a_class(tmp_path: Path) -> None:
    table = read(shard(tmp_path, ["a", "b", "c"], labels=False), MAIN, NAMES)
    assert table["label"].null_count == table["confidence"].null_count == 3
    assert table["class_name"].to_pylist() == ["cat", "cluster-1", "cat"]


def test_labels_of_other_rows_are_an_error(tmp_path: Path) -> None:
    good = shard(tmp_path, ["a", "b", "c"])
    table = pq.read_table(tmp_path / "l.parquet")
    pq.write_table(table.take([1, 0, 2]), tmp_path / "l.parquet")
    with pytest.raises(ValueError, match=r"l.parquet has other rows than .*a.parquet"):
        read(good, MAIN, NAMES)
    pq.write_table(table.slice(1), tmp_path / "l.parquet")
    with pytest.raises(ValueError, match=r"l.parquet has 2 rows, .*a.parquet 3"):
        decide(good, MAIN, Filter())


def test_metadata_with_names_that_exports_use_are_in_columns_of_the_source(tmp_path: Path) -> None:
    """The true class has often the name `label` or `class`, which the export uses for the cluster."""
    given = shard(tmp_path, ["a"], label=["truth"], source_label=["other"], file=["f"], url=["u"])
    table = read(given, MAIN, NAMES).to_pylist()[0]
    assert table["label"] == "cat"
    assert {name: table[name] for name in table if name not in schema(MAIN, files=False).names} == {
        "source_source_label": "truth",
        "source_label": "other",
        "source_file": "f",
        "url": "u",
    }


def test_a_guess_in_place_of_a_general_name_has_its_own_confidence(tmp_path: Path) -> None:
    rows = [
        {"cluster": 0, "name": "bird", "size": 2, "status": "general", "guess": "owl", "guess_confidence": 0.25},
        {"cluster": 1, "name": None, "size": 1, "status": "unsure", "guess": "dog", "guess_confidence": 0.5},
    ]
    files, guessed = shard(tmp_path, ["a", "b", "c"]), classes(rows, use_guess=True)
    table = read(files, MAIN, guessed)
    assert table["label"].to_pylist() == table["class_name"].to_pylist() == ["owl", "dog", "owl"]
    assert table["confidence"].to_pylist() == [0.25, None, 0.25]
    assert decide(files, MAIN, Filter(min_confidence=0.5), guessed)[1].tolist() == []
    assert decide(files, MAIN, Filter(min_confidence=0.5), classes(rows))[1].tolist() == [0, 2]


def test_metadata_is_all_that_is_not_ours(tmp_path: Path) -> None:
    given = shard(tmp_path, ["a"], url=["u"], label=["truth"])
    assert metadata(given, MAIN).to_pylist() == [{"url": "u", "label": "truth"}]


def test_keys_that_repeat_stand_for_the_images_in_their_order(tmp_path: Path) -> None:
    """The second of four was rejected: the key alone would give its bytes to the row of the third."""
    write_tar(
        tmp_path / "s.tar", [(name, f"{i}".encode()) for i, name in enumerate(["a.jpg", "a.jpg", "b.jpg", "a.jpg"])]
    )
    given = shard(tmp_path, ["a", "b", "a"])
    rejected = tmp_path / "r.parquet"
    pq.write_table(pa.table({"key": ["a"], "row": [1], "reason": ["no bytes"]}), rejected)
    with_rejected = Shard(given.assignments, given.labels, str(rejected), given.images)
    assert dict(find(with_rejected, ["a", "b", "a"], np.arange(3))) == {0: b"0", 1: b"2", 2: b"3"}
    assert dict(find(with_rejected, ["a", "b", "a"], np.array([2]))) == {2: b"3"}
    assert dict(find(given, ["a", "b", "a"], np.arange(3))) == {0: b"0", 1: b"2", 2: b"1"}


def test_images_that_are_gone_do_not_come_and_no_more_is_read_than_needed(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "s.tar", [(f"{k}.jpg", k.encode()) for k in "abc"])
    given = shard(tmp_path, ["a", "x", "c"])
    assert dict(find(given, ["a", "x", "c"], np.arange(3))) == {0: b"a", 2: b"c"}
    with open(path, "r+b") as file:
        file.truncate(1024 + 700)  # within b
    assert dict(find(given, ["a", "x", "c"], np.array([0]))) == {0: b"a"}
    with pytest.raises(ValueError, match="is cut short or damaged"):
        dict(find(given, ["a", "x", "c"], np.array([0, 2])))


def test_nothing_wanted_reads_nothing(tmp_path: Path) -> None:
    assert list(find(shard(tmp_path, ["a"]), ["a"], np.array([], np.int64))) == []
