"""Runs that fail or are refused: each error names its cause, and steps that do not need the result go on."""

import json
import re

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import save_file

from cpp.files.tables import Counts, write
from cpp.store.lease import LockedError
from cpp.store.local import Store
from pipelines.config.errors import ConfigError, ResourceError
from pipelines.config.load import load
from pipelines.engine.row_counts import AccountingError
from pipelines.run import Run, in_ranks
from tests.support.datasets import Dataset
from tests.support.runs import go


def test_a_corrupt_input_fails_its_shard_only(dataset: Dataset) -> None:
    (dataset.folder / "data/img_emb/img_emb_0.npy").write_bytes(b"\x93NUMPY broken")
    run = go(dataset)
    assert not run.ok
    assert [r.shard for r in run.outcomes["import"].failed] == ["00000"]
    assert "img_emb_0.npy is not a readable .npy file" in str(run.outcomes["import"].failed[0].error)
    assert "Traceback" in (dataset.root / "failed" / "import-00000.txt").read_text()
    assert sorted(p.name for p in (dataset.root / "features").iterdir()) == ["00001.parquet", "00002.parquet"]
    assert run.outcomes["fit"].waits_for == "import"
    document = json.loads((dataset.root / "run.json").read_text())
    assert document["state"] == "failed"
    assert document["failed"][0]["step"] == "import"


def test_metadata_of_another_length_is_an_error(dataset: Dataset) -> None:
    path = dataset.folder / "data/metadata/metadata_2.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    run = go(dataset)
    assert "has 40 rows" in str(run.outcomes["import"].failed[0].error)
    assert "they must be equal" in str(run.outcomes["import"].failed[0].error)


def test_invalid_vectors_are_rejected_and_counted(dataset: Dataset) -> None:
    path = dataset.folder / "data/img_emb/img_emb_1.npy"
    X = np.load(path)
    X[3], X[7] = np.nan, 0
    np.save(path, X)
    run = go(dataset)
    assert run.outcomes["import"].counts == Counts(160, 158, 2)
    assert run.outcomes["vote"].counts == Counts(158, 158, 0)
    rejected = duckdb.sql(f"select row, reason from '{dataset.root}/rejected/*.parquet'").fetchall()
    assert rejected == [(3, "vector is not finite"), (7, "vector is zero")]
    record = json.loads((dataset.root / "run.json").read_text())
    assert record["totals"] == {"images": 160, "rejected": 2, "clustered": 158}
    assert record["sources"] == {
        "files": 9, "pictures": 160, "rows": 158, "rejected": 2, "ignored": 0,
        "rejected_reasons": {"vector is not finite": 1, "vector is zero": 1}, "ignored_reasons": {},
    }  # fmt: skip
    assert re.search(r"vector is zero <span class=.soft.>1<", (dataset.root / "report.html").read_text())


def test_missing_rows_fail_the_run(dataset: Dataset) -> None:
    go(dataset, names=["project"])
    path = next((dataset.root / "cache" / "codes").glob("00001-*"))
    table = pq.read_table(path).slice(1)
    path.unlink()
    write(table, path, Counts(59, 59))
    with pytest.raises(AccountingError, match="project, shard 00001: rows do not add up: {'features': 60} came in"):
        go(dataset)
    assert json.loads((dataset.root / "run.json").read_text())["state"] == "failed"


def test_clusters_with_missing_images_fail_the_run(dataset: Dataset) -> None:
    run = go(dataset)
    path = next((dataset.root / "cache" / "clusters").iterdir())
    table = pq.read_table(path)
    path.unlink()
    write(table.set_column(4, "size", pa.array([1] * len(table))), path)
    with pytest.raises(AccountingError, match="160 images were assigned, but the clusters have 4"):
        run.totals()


def test_a_failed_stage_has_a_reason_and_stops_its_dependents(dataset: Dataset) -> None:
    run = go(dataset, "partition.n_clusters=500", allow_failed=True)  # of nothing there is nothing to go on with
    assert "partition.n_clusters is 500, must be from 1 to the number of sample rows, 160" in str(
        run.outcomes["partition"].failed[0].error
    )
    assert run.outcomes["assign"].waits_for == "partition"
    path = dataset.folder / "data/metadata/metadata_0.parquet"
    table = pq.read_table(path)
    pq.write_table(table.append_column("klass", pa.nulls(len(table))), path)
    with pytest.raises(
        ConfigError, match="evaluate.label is 'klass', and no image has a value in this column: take one"
    ):
        go(dataset, "evaluate.label=klass")


def test_a_stage_that_cannot_be_opened_fails_at_once(dataset: Dataset) -> None:
    go(dataset, names=["fit"])
    head = next((dataset.root / "cache" / "head").iterdir())
    head.unlink()
    save_file({"x": np.zeros(1)}, head)  # whole, and not a head
    run = go(dataset)
    assert [r.shard for r in run.outcomes["project"].failed] == ["00000", "00001", "00002"]
    assert "the step could not start" in str(run.outcomes["project"].failed[0].error)


def test_words_of_another_dimension_are_an_error(dataset: Dataset) -> None:
    np.save(dataset.folder / "words/embeddings.npy", np.eye(6, dtype=np.float16))
    run = go(dataset)
    assert "the images have dimension 16, the words 6" in str(run.outcomes["vote"].failed[0].error)


def test_only_training_on_whole_gpus_runs_in_ranks(dataset: Dataset) -> None:
    for overrides, together in (
        ([], True),
        (["root=s3://bucket/run"], True),
        (["root=/run", "resources.ray_address=auto"], True),
        (["root=s3://bucket/run", "resources.ray_address=auto"], False),
        (["fit={recipe: discriminant}"], False),
        (["resources.workers=1"], False),
        (["resources.gpus=0.5"], False),
    ):
        config = load(dataset.config, ["resources={workers: 2, gpus: 1}", *overrides])
        assert in_ranks(config, "fit") == together, overrides
        assert not in_ranks(config, "project")


def test_missing_gpus_are_refused_at_the_start(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ResourceError, match="resources.gpus is 1 and this machine has no GPU: set it to 0"):
        Run(load(dataset.config, ["resources.gpus=1"]), local=True)


def test_a_second_run_on_the_folder_is_refused(dataset: Dataset) -> None:
    with Store(dataset.root).lock(), pytest.raises(LockedError, match="another run is writing to"):
        go(dataset)
