"""A run in this process: what comes out, what a second run does, and what happens when things break."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file, save_file

from cpp.clustering.partition import PARTS
from cpp.files.tables import Counts, matrix, write
from cpp.rate_reduction.coding_rate import Moments
from cpp.store.lease import LockedError
from cpp.store.local import Store
from pipelines.commands import terminal
from pipelines.config.errors import ConfigError, ResourceError
from pipelines.config.load import load
from pipelines.engine.row_counts import AccountingError
from pipelines.run import Run, in_ranks
from pipelines.stages.name import Label
from tests.support.datasets import WORDS, Dataset
from tests.support.runs import computed, files, go


def test_a_run_finds_the_clusters_and_their_names(dataset: Dataset) -> None:
    run = go(dataset)
    assert run.ok
    clusters = pd.read_parquet(dataset.root / "clusters.parquet")
    assert sorted(clusters["name"]) == sorted(WORDS[:4])
    assert clusters["size"].sum() == dataset.rows
    scores = json.loads((dataset.root / "scores.json").read_text())
    assert scores["methods"][0]["acc"] == 1
    assert scores["rows"] == dataset.rows


def test_outputs_open_in_every_reader_and_keep_the_order(dataset: Dataset) -> None:
    go(dataset)
    rows = pd.concat([pd.read_parquet(f) for f in sorted((dataset.root / "assignments").glob("*.parquet"))])
    assert rows.columns.tolist() == [
        "key", "cluster", "score", "second", "margin", "image_shard", "label", "url",
    ]  # fmt: skip
    expected = [k for f in sorted(dataset.folder.glob("data/metadata/*")) for k in pd.read_parquet(f)["key"]]
    assert rows["key"].tolist() == expected
    assert rows["image_shard"].map(lambda path: Path(path).exists()).all()
    sql = f"select count(*), count(distinct cluster) from '{dataset.root}/assignments/*.parquet'"
    assert duckdb.sql(sql).fetchall() == [(dataset.rows, 4)]
    assert pl.read_parquet(f"{dataset.root}/assignments/*.parquet").height == dataset.rows
    top = duckdb.sql(f"select top[1].word, name from '{dataset.root}/clusters.parquet'").fetchall()
    assert all(word == name for word, name in top)


def test_repeating_a_finished_run_computes_nothing(dataset: Dataset) -> None:
    go(dataset)
    before = files(dataset.root)
    again = go(dataset)
    assert again.ok
    assert computed(again) == {}
    assert files(dataset.root) == before


def test_a_changed_setting_recomputes_what_depends_on_it(dataset: Dataset) -> None:
    go(dataset)
    assert computed(go(dataset, "label.top=2")) == {"vote": 3, "label": 1, "labels": 3, "report": 1, "plots": 1}
    assert len(pd.read_parquet(dataset.root / "clusters.parquet")["top"][0]) <= 2
    assert computed(go(dataset)) == {}  # and back: the earlier results are still there
    assert computed(go(dataset, names=["project"])) == {}


def test_results_do_not_depend_on_resources(dataset: Dataset) -> None:
    go(dataset)
    go(dataset, f"root={dataset.folder / 'other'}", "resources={workers: 2, batch: 11, prefetch: 1}")
    one, other = files(dataset.root), files(dataset.folder / "other")
    assert one.keys() == other.keys()
    for name in ("clusters.parquet", "assignments/00000.parquet"):
        a, b = (pd.read_parquet(root / name) for root in (dataset.root, dataset.folder / "other"))
        pd.testing.assert_frame_equal(a, b, check_exact=False, atol=1e-3)
        assert a["cluster"].tolist() == b["cluster"].tolist()


def test_named_steps_run_with_their_upstream_steps(dataset: Dataset) -> None:
    run = go(dataset, names=["project"])
    assert list(run.outcomes) == ["import", "fit", "project"]
    assert (dataset.root / "codes" / "00002.parquet").exists()
    assert not (dataset.root / "clusters.parquet").exists()


def test_a_run_without_names_labels_and_images(dataset: Dataset) -> None:
    assert go(dataset, "label=null", "evaluate=null", "import.images=null").ok
    assert pd.read_parquet(dataset.root / "clusters.parquet")["name"].isna().all()
    assert ">cluster 3</a>" in (dataset.root / "report.html").read_text()


@pytest.mark.parametrize(
    "overrides", [["partition.method=spectral", "fit.share_heads=true"], ["partition.method=kmeans", "fit.columns=8"]]
)
def test_both_partitions_shared_heads_and_drawn_columns(dataset: Dataset, overrides: list[str]) -> None:
    assert go(dataset, *overrides).ok


def test_the_default_recipe_finds_the_clusters(dataset: Dataset) -> None:
    assert go(dataset, "fit={recipe: discriminant}").ok
    assert json.loads((dataset.root / "scores.json").read_text())["methods"][0]["acc"] == 1
    assert len(pd.read_parquet(dataset.root / "loss.parquet")) == 2


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


def test_allow_failed_continues_and_a_repaired_input_is_added_later(dataset: Dataset) -> None:
    path = dataset.folder / "data/img_emb/img_emb_1.npy"
    good = path.read_bytes()
    path.write_bytes(b"broken")
    run = go(dataset, allow_failed=True)
    assert not run.ok
    assert run.outcomes["report"].ok
    assert pd.read_parquet(dataset.root / "clusters.parquet")["size"].sum() == 100
    path.write_bytes(good)
    assert (dataset.root / "failed/import-00001.txt").exists()
    repaired = go(dataset)
    assert repaired.ok
    assert not (dataset.root / "failed").exists()
    assert computed(repaired)["import"] == 1
    assert pd.read_parquet(dataset.root / "clusters.parquet")["size"].sum() == dataset.rows


@pytest.mark.slow
def test_stable_names_show_one_complete_run(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    go(dataset)
    before, page = files(dataset.root), (dataset.root / "report.html").read_bytes()
    path = dataset.folder / "data/img_emb/img_emb_1.npy"
    good = path.read_bytes()
    np.save(path, -np.load(path))

    def broken(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Label, "open", broken)
        with pytest.raises(KeyboardInterrupt):
            go(dataset)
    path.write_bytes(b"broken")
    assert not go(dataset).ok
    seen = files(dataset.root)
    assert seen.pop("failed/import-00001.txt")
    assert (seen, (dataset.root / "report.html").read_bytes()) == (before, page)
    assert re.search(
        r"run shows the run of 20.* until one is complete$", "".join(terminal.failures(load(dataset.config)))
    )
    go(dataset, allow_failed=True)
    assert not any("00001" in name for name in files(dataset.root) if not name.startswith("failed/"))
    assert "shows the run" not in "".join(terminal.failures(load(dataset.config)))
    path.write_bytes(good)
    assert go(dataset).ok
    assert files(dataset.root) == before


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
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ResourceError, match="resources.gpus is 1 and this machine has no GPU: set it to 0"):
        Run(load(dataset.config, ["resources.gpus=1"]), local=True)


def test_a_run_with_unknown_k_and_layers(dataset: Dataset) -> None:
    """Nested columns, a row for each cluster and layer with its parent, names at every layer, and the page."""
    run = go(dataset, "partition={layers: [2, 9], fine: 20}")
    table = pq.read_table(dataset.root / "clusters.parquet").to_pylist()
    (main,) = {row["layer"] for row in table if row["main"]}
    parts = [pq.read_table(path) for path in sorted((dataset.root / "assignments").iterdir())]
    columns = {K: np.concatenate([p[f"cluster_{K}"].to_numpy() for p in parts]) for K in (2, 9)}
    columns[main] = np.concatenate([p["cluster"].to_numpy() for p in parts])
    rows = {(row["layer"], row["cluster"]): row for row in table}
    order = sorted(columns)
    for coarser, finer in pairwise(order):
        for above, below in set(zip(columns[coarser].tolist(), columns[finer].tolist(), strict=True)):
            assert rows[finer, below]["parent"] == above
    for layer, column in columns.items():
        assert [rows[layer, k]["size"] for k in range(layer)] == np.bincount(column, minlength=layer).tolist()
        assert sum(rows[layer, k]["rate_share"] for k in range(layer)) == pytest.approx(1)
    assert {rows[2, k]["parent"] for k in range(2)} == {None}
    assert all(row["name"] for row in table)
    page = (dataset.root / "report.html").read_text()
    assert "Number of clusters" in page
    assert page.count("<details") >= 2
    assert run.ok

    assert computed(go(dataset, "partition={layers: [3], fine: 20}")).keys() == {
        "layers",
        "assign",
        "vote",
        "label",
        "labels",
        "evaluate",
        "examples",
        "map",
        "thumbnails",
        "confusion",
        "report",
        "plots",
    }


def test_moments_are_those_of_all_codes(dataset: Dataset) -> None:
    """Each row once, in the group whose centroid is nearest, in the basis that was kept."""
    go(dataset)
    cache = dataset.root / "cache"
    (groups,), (moments,) = ([load_file(path) for path in (cache / n).iterdir()] for n in ("groups", "moments"))
    shards = [pq.read_table(path)["code"] for path in sorted((dataset.root / "codes").iterdir())]
    Z = np.concatenate([matrix(column).astype(np.float32) for column in shards])
    group = (Z @ groups["centroids"].T).argmax(1)
    expected = Moments.of(torch.from_numpy(Z @ groups["basis"]), torch.from_numpy(group), len(groups["centroids"]))
    assert moments["count"].sum() == dataset.rows
    by_group = (len(groups["centroids"]), PARTS)
    np.testing.assert_array_equal(moments["count"].reshape(by_group).sum(1), expected.count_K)
    gram = moments["gram"].reshape(*by_group, *moments["gram"].shape[1:]).sum(1)
    np.testing.assert_allclose(gram, expected.gram_Kdd, atol=1e-9)


def test_copies_count_once_and_are_reported(dataset: Dataset, capfd: pytest.CaptureFixture[str]) -> None:
    path = dataset.folder / "data/img_emb/img_emb_2.npy"
    X = np.load(path)
    X[:] = X[0]
    np.save(path, X)
    assert go(dataset, "fit={recipe: discriminant}", "partition={n_clusters: 150}").ok
    said = "39 of 160 {} are copies{} of others; they count once for K"
    output = capfd.readouterr().out
    assert said.format("rows", "") in output
    assert "n_clusters is 150, but only 121 groups have different rows, so there are 121 clusters" in output
    assert said.format("images", " or near-copies") in (dataset.root / "report.html").read_text()
    assert load_file(dataset.root / "moments.safetensors")["count"].sum() == 121
    labels = pq.read_table(dataset.root / "assignments/00002.parquet")["cluster"].to_pylist()
    assert len(labels) == 40
    assert len(set(labels)) == 1


def test_a_second_run_on_the_folder_is_refused(dataset: Dataset) -> None:
    with Store(dataset.root).lock(), pytest.raises(LockedError, match="another run is writing to"):
        go(dataset)


def test_a_file_deleted_from_the_cache_is_recomputed(dataset: Dataset) -> None:
    go(dataset)
    before = files(dataset.root)
    next((dataset.root / "cache" / "assignments").glob("00001-*")).unlink()
    assert computed(go(dataset)) == {"assign": 1}
    assert files(dataset.root) == before


def test_logs_contain_every_shard(dataset: Dataset) -> None:
    go(dataset)
    events = [json.loads(line) for line in (dataset.root / "events.jsonl").read_text().splitlines()]
    shards = [(e["step"], e["shard"]) for e in events if e["event"] == "shard"]
    assert len(shards) == len(set(shards)) == 3 * 6 + 13
    log = (dataset.root / "run.log").read_text()
    assert "import 00000: 60 rows in" in log
    assert "1/3 shards" in log
    document = json.loads((dataset.root / "run.json").read_text())
    assert document["steps"]["import"]["rows_in"] == 160
    assert document["steps"]["fit"]["seconds"] > 0
    assert document["config"]["partition"]["n_clusters"] == 4
    assert document["versions"]["torch"]
