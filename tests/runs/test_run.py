"""A run in this process: the clusters, names, layers, tables, page and logs that come out."""

import json
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file

from cpp.clustering.partition import PARTS
from cpp.files.tables import matrix
from cpp.rate_reduction.coding_rate import Moments
from tests.support.datasets import WORDS, Dataset
from tests.support.runs import computed, go


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


def test_a_layer_may_be_finer_than_the_estimated_clusters(dataset: Dataset) -> None:
    assert go(dataset, "fit={recipe: discriminant}", "partition={n_clusters: null, layers: [9]}").ok
    clusters = pd.concat(map(pd.read_parquet, (dataset.root / "assignments").iterdir()))
    assert clusters["cluster"].nunique() == 4
    assert clusters["cluster_9"].nunique() == 9
    assert (clusters.groupby("cluster_9")["cluster"].nunique() == 1).all()
    loss = pd.read_parquet(dataset.root / "loss.parquet")
    assert loss["n_clusters"].isna().tolist() == (loss["round"] == 0).tolist()
    assert loss["n_clusters"].iloc[-1] == 4


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

    assert computed(go(dataset, "partition={layers: [3, 9], fine: 20}")).keys() == {
        "layers",
        "assign",
        "vote",
        "label",
        "labels",
        "evaluate",
        "examples",
        "members",
        "map",
        "thumbnails",
        "confusion",
        "report",
        "plots",
        "map_points",
        "map_page",
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


def test_logs_contain_every_shard(dataset: Dataset) -> None:
    go(dataset)
    events = [json.loads(line) for line in (dataset.root / "events.jsonl").read_text().splitlines()]
    shards = [(e["step"], e["shard"]) for e in events if e["event"] == "shard"]
    assert len(shards) == len(set(shards)) == 3 * 6 + 16
    log = (dataset.root / "run.log").read_text()
    assert "import 00000: 60 rows in" in log
    assert "1/3 shards" in log
    document = json.loads((dataset.root / "run.json").read_text())
    assert document["steps"]["import"]["rows_in"] == 160
    assert document["steps"]["fit"]["seconds"] > 0
    assert document["config"]["partition"]["n_clusters"] == 4
    assert document["versions"]["torch"]
