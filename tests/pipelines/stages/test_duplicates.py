"""Duplicates through a whole run: what is found, what is read again, what adds up."""

import json
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpp.curation import cells
from cpp.curation.decisions import DropReason
from pipelines.config.errors import ConfigError
from pipelines.config.load import load
from pipelines.run import Run
from pipelines.stages import duplicate_pairs
from pipelines.stages.duplicate_pairs import buckets
from tests.support.browser import opened
from tests.support.datasets import Dataset
from tests.support.runs import computed, files

CURATE = "curate={duplicates: {threshold: 0.999, lowest: 0.9, pictures: false}}"


def go(dataset: Dataset, *overrides: str, step: str = "duplicates_page") -> Run:
    run = Run(load(dataset.config, overrides), [step], local=True)
    run.go()
    return run


def plant(dataset: Dataset) -> list[tuple[str, str]]:
    """Equal and nearly equal vectors, within shards and across: the keys of the pairs."""
    paths = [dataset.folder / f"data/img_emb/img_emb_{i}.npy" for i in range(3)]
    X = [np.load(path) for path in paths]
    X[2][5] = X[0][3]
    X[2][6] = X[0][3]
    X[1][9] = X[1][8]
    X[1][20] = X[0][20] * np.float16(2)  # the same direction
    X[2][0] = X[0][0] + 0.02 * np.random.default_rng(0).standard_normal(16).astype(np.float16)
    for path, rows in zip(paths, X, strict=True):
        np.save(path, rows)
    return [("00003", "20005"), ("00003", "20006"), ("10008", "10009"), ("00020", "10020"), ("00000", "20000")]


def found(dataset: Dataset) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(path) for path in sorted((dataset.root / "duplicates").iterdir())])


def test_planted_duplicates_are_found_across_shards_and_one_of_each_is_kept(dataset: Dataset) -> None:
    pairs = plant(dataset)
    assert go(dataset, CURATE).ok
    rows = found(dataset)
    assert rows.columns.tolist() == ["key", "group", "kept", "similarity", "kind", "kept_key", "kept_image_shard"]
    assert rows["key"].tolist() == [f"{i}{j:04d}" for i, n in enumerate((60, 60, 40)) for j in range(n)]
    group = rows.set_index("key")["group"]
    for a, b in pairs:
        assert group[a] == group[b]
    assert rows["group"].notna().sum() == 9
    assert (~rows["kept"]).sum() == 5
    assert rows.groupby("group")["kept"].sum().tolist() == [1, 1, 1, 1]
    scores = pd.concat([pd.read_parquet(p) for p in sorted((dataset.root / "assignments").iterdir())])["score"]
    rows["score"] = scores.to_numpy()
    for _, members in rows.groupby("group"):
        assert members["score"][members["kept"]].max() == members["score"].max()
        assert members["kept_key"][~members["kept"]].unique().tolist() == members["key"][members["kept"]].tolist()
    assert rows.loc[rows["kept"], ["kept_key", "kept_image_shard"]].isna().all(axis=None)
    alone = rows[rows["group"].isna()]
    assert alone["kept"].all()
    assert alone[["similarity", "kind"]].isna().all(axis=None)


def test_counts_curve_and_page_say_the_same(dataset: Dataset) -> None:
    plant(dataset)
    go(dataset, CURATE)
    counts = json.loads((dataset.root / "duplicate_counts.json").read_text())
    assert counts == {"rows": 160, "groups": 4, "dropped": {"near": 1, "vector": 4, "bytes": 0}, "largest": 3}
    curve = pd.read_parquet(dataset.root / "duplicate_curve.parquet")
    assert curve["dropped"].iloc[[0, -1]].tolist() == [116, 4]
    assert curve.loc[(curve["threshold"] - 0.995).abs().idxmin(), "dropped"] == 5
    html = (dataset.root / "duplicates_page.html").read_text()
    assert "5 of 160 images (3.1" in html
    assert "The largest groups" in html
    assert html.count("data:image/webp;base64,UklG") > 10


def test_pairs_do_not_depend_on_cells_and_tasks(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(dataset)
    go(dataset, CURATE)
    one = found(dataset)
    monkeypatch.setattr(duplicate_pairs, "BUCKET", 50)
    monkeypatch.setattr(duplicate_pairs, "ROW_GROUP", 3)
    monkeypatch.setattr(cells, "ROWS", 20)
    go(dataset, CURATE, f"root={dataset.folder / 'other'}")
    rows = pd.concat([pd.read_parquet(path) for path in sorted((dataset.folder / "other/duplicates").iterdir())])
    shared = [pq.read_metadata(p).num_rows for p in (dataset.folder / "other/similar_rows").iterdir()]
    assert sum(n > 0 for n in shared) == 3
    assert rows[["key", "kept", "similarity"]].equals(one[["key", "kept", "similarity"]])
    both = pd.DataFrame({"one": one["group"], "other": rows["group"]}).dropna().drop_duplicates()
    assert len(both) == both["one"].nunique() == both["other"].nunique()


def test_pairs_that_the_border_of_cells_cuts_are_found(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten rows between two classes, whose means are the centroids of two cells."""
    path = dataset.folder / "data/img_emb/img_emb_0.npy"
    X = np.load(path).astype(np.float32)
    label = pd.read_parquet(dataset.folder / "data/metadata/metadata_0.parquet")["label"]
    a, b = (X[label == k].mean(axis=0) for k in (0, 1))
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    between = a + b
    monkeypatch.setattr(cells, "train_centroids", lambda *_: np.stack([a, b]).astype(np.float32))
    for i, t in enumerate(np.linspace(-0.03, 0.03, 10)):
        X[i] = between + t * (a - b)
    np.save(path, X.astype(np.float16))
    go(dataset, "curate={duplicates: {threshold: 0.99, lowest: 0.9, pictures: false, keep: first}}")
    scattered = pd.concat(
        [pd.read_parquet(p, columns=["cell", "guest", "row"]) for p in sorted((dataset.root / "scattered").iterdir())]
    )
    home = scattered[~scattered["guest"]][:60].set_index("row")["cell"]
    assert home[list(range(10))].nunique() > 1
    first = found(dataset)[:10]
    assert first["group"].nunique() == 1
    assert first["kept"].tolist() == [True, *[False] * 9]


def test_another_choice_searches_nothing_again(dataset: Dataset) -> None:
    plant(dataset)
    go(dataset, step="assign")
    steps = {"pictures": 3, "cells": 1, "scatter": 3, "search": 3, "group": 1, "duplicates": 3, "duplicates_page": 1}
    assert computed(go(dataset, CURATE)) == steps
    again = {"group": 1, "duplicates": 3, "duplicates_page": 1}
    other = CURATE.replace("pictures", "keep: first, pictures")
    assert computed(go(dataset, other)) == again
    assert computed(go(dataset, other)) == {}
    before = files(dataset.root)
    assert go(dataset, other, "resources={workers: 2, batch: 3, prefetch: 1}").ok
    assert files(dataset.root) == before


def test_files_and_pixels_are_those_of_the_images(pictures: Dataset) -> None:
    """Pictures of one colour are one file; which are the same is known from their bytes, and the largest is kept."""
    assert go(pictures, "curate={duplicates: {keep: resolution}}").ok
    rows = found(pictures)
    assert rows["kind"].value_counts().to_dict() == {"bytes": 160}
    assert rows["kept"].sum() == 4
    table = pd.concat([pd.read_parquet(p) for p in (pictures.root / "scattered").iterdir()])
    assert set(table["pixels"]) == {32 * 24}


def test_a_run_without_images_or_without_curate(dataset: Dataset) -> None:
    assert go(dataset, CURATE, "import.images=null").ok
    assert set(found(dataset)["kind"].dropna()) <= {"near", "vector"}
    for without in ("curate=null", "curate={duplicates: null}"):
        assert not {"scatter", "duplicates"} & set(Run(load(dataset.config, [without]), local=True).stages)


def test_a_column_that_is_no_score_is_named(dataset: Dataset) -> None:
    run = go(dataset, "curate={similarity: url, duplicates: {keep: caption}}")
    message = "curate.similarity: the metadata column 'url' holds string, not numbers"
    assert message in str(run.outcomes["caption_match"].failed[0].error)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            "{keep: caption}",
            "curate.duplicates: keep is caption, and it is unknown how well captions fit: set curate.captions to",
        ),
        (
            "{threshold: 0.5}",
            "threshold is 0.5, below lowest, 0.9, from which pairs are searched: set lowest to 0.5 or less",
        ),
        ("{thresh: 0.5}", "nearest valid key: curate.duplicates.threshold"),
    ],
)
def test_settings_that_cannot_be_are_said(dataset: Dataset, settings: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        load(dataset.config, [f"curate={{duplicates: {settings}}}"])


def test_the_best_caption_is_kept(dataset: Dataset) -> None:
    pairs = plant(dataset)
    for i in range(3):
        path = dataset.folder / f"data/metadata/metadata_{i}.parquet"
        table = pq.read_table(path)
        pq.write_table(table.append_column("similarity", pa.array(np.arange(len(table)) / 100 + i)), path)
    go(dataset, "curate={similarity: similarity, duplicates: {threshold: 0.999, pictures: false, keep: caption}}")
    rows = found(dataset)
    assert rows[rows["key"].isin([key for pair in pairs for key in pair]) & rows["kept"]]["key"].tolist() == [
        "10009", "10020", "20000", "20006",
    ]  # fmt: skip


def test_the_image_that_stands_for_a_duplicate_is_no_outlier(dataset: Dataset) -> None:
    duplicates = "duplicates: {threshold: 0.91, pictures: false, keep: farthest}"
    assert go(dataset, f"curate={{{duplicates}, outliers: {{threshold: 0.5}}}}", step="curate").ok
    kept, dropped = (
        pd.concat(map(pd.read_parquet, (dataset.root / name).iterdir())).set_index("key") for name in ("keep", "drop")
    )
    duplicate = dropped.index[dropped["reason"] == DropReason.DUPLICATE.value]
    outlier = pd.concat(map(pd.read_parquet, (dataset.root / "outliers").iterdir())).set_index("key")["outlier"]
    stands = found(dataset).set_index("key")["kept_key"][duplicate]
    normal = duplicate[outlier[duplicate] <= 0.5]
    assert len(normal) > 10
    assert stands[normal].isin(kept.index).all()


def test_buckets_are_of_like_size_and_hold_every_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicate_pairs, "BUCKET", 10)
    assert buckets(np.full(8, 5.0), 4).tolist() == [0, 2, 4, 6, 8]
    assert buckets(np.full(8, 5.0), 9).tolist() == [0, 2, 4, 6, 8, 8, 8, 8, 8, 8]
    assert buckets(np.array([100.0, 1, 1]), 3).tolist()[-1] == 3
    assert buckets(np.zeros(3), 2).tolist() == [0, 3, 3]


@pytest.mark.browser
def test_the_page_is_readable_in_a_browser(dataset: Dataset) -> None:
    plant(dataset)
    go(dataset, CURATE)
    with opened(dataset.root / "duplicates_page.html") as tab:
        parts = tab.page.locator("h2").all_inner_texts()
        assert parts == ["Images that would be dropped", "Duplicates by kind", "Pairs", "The largest groups"]
        assert tab.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        tab.shot("duplicates")
