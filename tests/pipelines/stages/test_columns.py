"""The metadata of all shards has one schema, and columns that a configuration names are looked for early."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.config.errors import ConfigError
from pipelines.config.load import load
from pipelines.run import Run
from tests.support.appending import append, new_vectors
from tests.support.datasets import Dataset
from tests.support.runs import call
from tests.support.tars import JPEG, write_tar


def add(folder: Path, shard: int, **values: Any) -> None:
    """Add columns to the metadata of a shard, with one value for all its rows."""
    path = folder / f"metadata/metadata_{shard}.parquet"
    table = pq.read_table(path)
    for name, value in values.items():
        table = table.append_column(name, pa.array([value] * len(table)))
    pq.write_table(table, path)


def test_shards_whose_metadata_differ_are_read_together(dataset: Dataset) -> None:
    data = dataset.folder / "data"
    add(data, 0, number=5, mixed=1, null=None, texts=["a", "b"])
    add(data, 1, number=5.5, mixed="x", null=0.5, texts="c", late="hello")
    add(data, 2, late=True, number=True)  # but this shard is empty
    empty = pq.read_table(data / "metadata/metadata_2.parquet").slice(0, 0)
    pq.write_table(empty, data / "metadata/metadata_2.parquet")
    np.save(data / "img_emb/img_emb_2.npy", np.empty((0, 16), np.float16))
    assert Run(load(dataset.config), ["assign"], local=True).go()
    rows = pd.read_parquet(dataset.root / "assignments")
    first, second = rows[rows["key"].str.startswith("0")], rows[rows["key"].str.startswith("1")]
    assert len(first) == len(second) == 60
    assert (first["number"] == 5).all()
    assert (second["number"] == 5.5).all()
    assert set(first["mixed"]) | set(second["mixed"]) == {"1", "x"}
    assert first["null"].isna().all()
    assert (second["null"] == 0.5).all()
    assert set(map(tuple, first["texts"])) | set(map(tuple, second["texts"])) == {("a", "b"), ("c",)}
    assert first["late"].isna().all()
    assert (second["late"] == "hello").all()
    schema = pq.read_schema(dataset.root / "columns.parquet")
    for path in (dataset.root / "assignments").iterdir():
        written = pq.read_schema(path)
        assert [written.field(name) for name in schema.names] == list(schema)


def test_appended_shards_have_the_schema_of_the_run(dataset: Dataset) -> None:
    new = new_vectors(dataset, "new", 2)
    add(dataset.folder / "data", 0, number=5, text="a")
    add(new, 0, number=0.5, text=7, more="only here")
    assert call("run", dataset.config, "labels", "--local")[0] == 0
    code, output = append(dataset, new)
    assert code == 0, output
    assert "/features: number (40 values), more (40 values); a new run over all inputs takes it in" in output
    run, appended = (pq.read_table(folder / "assignments") for folder in (dataset.root, dataset.root / "appended"))
    assert run.schema.remove_metadata() == appended.schema.remove_metadata()
    assert set(appended["text"].to_pylist()) == {"7"}
    assert appended["number"].null_count == 40
    assert set(pq.read_table(dataset.root / "appended/features", columns=["more"])["more"].to_pylist()) == {"only here"}


def test_a_column_of_keys_that_no_file_has_is_named_before_anything_runs(dataset: Dataset) -> None:
    with pytest.raises(ConfigError, match="import.key is 'nope', and .*metadata_0.parquet has no column of this ") as e:
        Run(load(dataset.config, ["import.key=nope"]), local=True)
    assert str(e.value).endswith("name: take one of key, label, url, or null to number the rows")
    assert not dataset.root.exists()
    add(dataset.folder / "data", 2, nope="a")  # one file is enough: the others fail by themselves
    Run(load(dataset.config, ["import.key=nope"]), local=True)


def test_columns_that_no_shard_has_are_named_before_anything_runs(dataset: Dataset) -> None:
    overrides = ["evaluate.label=labl", "evaluate.names=url", "label.captions=caption"]
    with pytest.raises(ConfigError) as error:
        Run(load(dataset.config, overrides), local=True)
    reason = "and no image has a metadata column of this name: take one of label, url, or remove the key"
    keys = ("evaluate.label is 'labl'", "label.captions is 'caption'")
    assert str(error.value).splitlines() == [f"{key}, {reason}" for key in keys]
    assert not dataset.root.exists()
    add(dataset.folder / "data", 2, labl=1, caption="a thing")  # one shard is enough
    Run(load(dataset.config, overrides), local=True)


def test_columns_without_values_are_named_before_anything_runs(dataset: Dataset) -> None:
    add(dataset.folder / "data", 0, empty=None)
    with pytest.raises(ConfigError, match="evaluate.label is 'empty', and no image has a value in this column: take"):
        Run(load(dataset.config, ["evaluate.label=empty"]), local=True)
    add(dataset.folder / "data", 2, empty=1)
    Run(load(dataset.config, ["evaluate.label=empty"]), local=True)


def test_a_column_of_lists_is_no_column_of_classes(dataset: Dataset) -> None:
    add(dataset.folder / "data", 0, kinds=["a", "b"])
    run = Run(load(dataset.config, ["evaluate.label=kinds", "label.captions=kinds"]), local=True)
    message = r"^evaluate.label is 'kinds', which holds list<.*string>, not one class for each image: name a column"
    with pytest.raises(ConfigError, match=message):
        run.go()
    assert list(run.outcomes) == ["import", "columns"]


def test_columns_without_values_in_tars_are_named_before_the_head_is_trained(pictures: Dataset) -> None:
    more = [("more.json", b'{"empty": null}'), ("more.jpg", JPEG)]
    write_tar(pictures.folder / "data/images/00009.tar", more)
    run = Run(load(pictures.config, ["evaluate.label=empty", "images.path=[data/images/*.tar]"]), local=True)
    with pytest.raises(ConfigError, match="evaluate.label is 'empty', and no image has a value in this column: take"):
        run.go()
    assert list(run.outcomes) == ["encode", "columns"]


def test_columns_of_tables_are_known_before_anything_runs(pictures: Dataset) -> None:
    table = pictures.folder / "images.csv"
    table.write_text("url,id,class\na.jpg,1,x\n")
    named = [f"images={{format: table, path: [{table}], column: url, key: id}}"]
    with pytest.raises(ConfigError, match="evaluate.label is 'label', and no .*: take one of url, class, or remove"):
        Run(load(pictures.config, named), local=True)
    Run(load(pictures.config, [*named, "evaluate.label=class"]), local=True)


def test_columns_that_no_tar_has_are_named_before_the_head_is_trained(pictures: Dataset) -> None:
    run = Run(load(pictures.config, ["evaluate.label=labl"]), local=True)
    with pytest.raises(ConfigError, match="evaluate.label is 'labl', and no .*: take one of label, or remove"):
        run.go()
    assert list(run.outcomes) == ["encode", "columns"]
    assert json.loads((pictures.root / "run.json").read_text())["state"] == "failed"
