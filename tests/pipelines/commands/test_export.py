"""What the command `export` writes of a run, and what it refuses."""

import io
import json
import os
import re
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torchvision.datasets import ImageFolder

from cpp.export.format import Format
from cpp.export.rows import Filter
from cpp.sources.shards import read_images
from pipelines.commands.export import go
from pipelines.commands.export_plan import Wanted
from pipelines.config.errors import RunStateError, UsageError
from pipelines.config.load import load
from pipelines.run import Run
from tests.support.datasets import WORDS, Dataset
from tests.support.exports import export
from tests.support.runs import QUICK, call


def images_of(dataset: Dataset) -> pd.DataFrame:
    """The rows of the run with their labels and the bytes of their images, by the products that a person reads."""
    parts = {name: sorted((dataset.root / name).iterdir()) for name in ("assignments", "labels")}
    frame, said = (pd.concat(map(pd.read_parquet, paths), ignore_index=True) for paths in parts.values())
    of_shards = [read_images(shard, part["key"]) for shard, part in frame.groupby("image_shard", sort=False)]
    images = {key: image for part in of_shards for key, image in part.items()}
    about = {
        "true_class": frame["label"],
        "label": said["label"],
        "confidence": said["confidence"],
        "image": [images[key] for key in frame["key"]],
    }
    return frame.assign(**about)


def test_every_image_of_a_run_is_in_the_folder_of_its_cluster(done: Dataset) -> None:
    summary = export(done, "imagefolder")
    assert (summary.images, summary.rows, summary.classes, summary.shards) == (160, 160, 4, 3)
    expected = images_of(done)
    clusters = pd.read_parquet(done.root / "clusters.parquet").query("main").set_index("cluster")["name"]
    index = pd.read_parquet(done.folder / "out/images.parquet")
    assert index["key"].tolist() == expected["key"].tolist()
    assert index["cluster"].tolist() == expected["cluster"].tolist()
    assert index["cluster_2"].tolist() == expected["cluster_2"].tolist()
    assert [file.partition("/")[0] for file in index["file"]] == clusters[expected["cluster"]].tolist()
    assert index["label"].tolist() == expected["label"].tolist() == index["class_name"].tolist()
    assert index["confidence"].tolist() == expected["confidence"].tolist()
    assert index["url"].tolist() == expected["url"].tolist()
    assert index["source_label"].tolist() == expected["true_class"].tolist()
    assert [(done.folder / "out" / file).read_bytes() for file in index["file"]] == expected["image"].tolist()
    assert ImageFolder(str(done.folder / "out")).classes == sorted(WORDS[:4])
    assert json.loads((done.folder / "out/export.json").read_text())["state"] == "done"


def vary_confidence(dataset: Dataset) -> Dataset:
    """Give the labels of the images of cluster k confidences about (k + 1) / 5, which decrease from row to row."""
    for path in (dataset.root / "labels").iterdir():
        table = pq.read_table(path)
        cluster = pq.read_table(dataset.root / "assignments" / path.name)["cluster"].to_numpy()
        confidence = pa.array((cluster + 1) / 5 - np.arange(len(table)) / 1000, pa.float32())
        pq.write_table(table.set_column(table.column_names.index("confidence"), "confidence", confidence), path)
    return dataset


def test_layers_clusters_and_confidence(mine: Dataset) -> None:
    done = vary_confidence(mine)
    expected = images_of(done)
    summary = export(done, "parquet", layer=2)
    assert (summary.classes, summary.images) == (2, 160)
    coarse = pd.read_parquet(done.folder / "out/images.parquet")
    clusters = pd.read_parquet(done.root / "clusters.parquet").query("layer == 2").set_index("cluster")
    titles = {k: name or f"cluster-{k}" for k, name in clusters["name"].items()}
    assert coarse["class_name"].tolist() == [titles[k] for k in expected["cluster_2"]]
    assert coarse["label"].tolist() == [clusters["name"][k] for k in expected["cluster_2"]]
    summary = export(
        done,
        "parquet",
        "some",
        clusters=(
            0,
            3,
        ),
        min_confidence=0.45,
    )
    some = pd.read_parquet(done.folder / "some/images.parquet")
    rows = expected[expected["cluster"].isin([0, 3]) & (expected["confidence"] >= 0.45)]
    assert some["key"].tolist() == rows["key"].tolist()
    assert 0 < len(some) < 80
    assert sum(summary.left_out.values()) == 160 - len(some)
    assert len(summary.left_out) == 2


def test_the_classes_are_those_that_have_an_image(mine: Dataset) -> None:
    """ImageFolder numbers the folders that are there: `classes.csv` and a head of the network must not have more."""
    done = vary_confidence(mine)
    rows = images_of(done)
    surest = float(rows.groupby("cluster")["confidence"].max().sort_values().iloc[1])
    summary = export(done, "imagefolder", min_confidence=surest + 1e-6)
    read = ImageFolder(str(done.folder / "out"))
    table = pd.read_csv(done.folder / "out/classes.csv")
    assert summary.classes == len(table) < 4
    assert read.classes == table["folder"].tolist()
    index = pd.read_parquet(done.folder / "out/images.parquet").set_index("file")["class"]
    assert [index[str(Path(path).relative_to(done.folder / "out"))] for path, _ in read.samples] == read.targets


def test_at_most_n_of_a_cluster_are_the_surest_of_the_whole_set(done: Dataset) -> None:
    summary = export(done, "webdataset", per_cluster=5, min_confidence=0.2)
    rows = images_of(done)
    best = rows.sort_values(["confidence", "score"], ascending=False, kind="stable").groupby("cluster").head(5)
    found = pd.read_parquet(done.folder / "out/images.parquet")
    assert sorted(found["key"]) == sorted(best["key"])
    assert found["cluster"].value_counts().tolist() == [5] * 4
    assert summary.images + sum(summary.left_out.values()) == 160


def test_a_run_without_labels_has_neither_and_the_surest_are_those_nearest_to_the_centre(dataset: Dataset) -> None:
    config = load(dataset.config, [*QUICK, "label=null"])
    assert Run(config, ["label"], local=True).go()
    to = dataset.folder / "out"
    assert go(config, Wanted(Format.CSV, str(to), None, Filter(per_cluster=3)), local=True).images == 12
    rows = pd.concat(map(pd.read_parquet, sorted((dataset.root / "assignments").iterdir())))
    best = rows.sort_values("score", ascending=False, kind="stable").groupby("cluster").head(3)
    found = pd.read_csv(to / "images.csv", dtype={"key": str})
    assert sorted(found["key"]) == sorted(best["key"])
    assert found["label"].isna().all()
    assert found["confidence"].isna().all()
    assert found["class_name"].tolist() == [f"cluster-{k}" for k in found["cluster"]]
    with pytest.raises(UsageError, match="--use-guess: this run has no guesses: it needs `label:`"):
        go(config, Wanted(Format.CSV, str(to), use_guess=True), local=True)
    with pytest.raises(UsageError, match="--min-confidence: this run has no confidences: it needs `label:`"):
        go(config, Wanted(Format.CSV, str(to), None, Filter(min_confidence=0.5)), local=True)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ([], r"is not a finished run with these settings, step import has 0 of 3 shards done.* run \S+/config.yaml"),
        (["label.top=2"], r"step vote has 0 of 3 shards done. What makes it: cpp-at-scale run \S+/config.yaml"),
    ],
)
def test_a_run_that_is_not_finished_is_an_error_with_the_step_and_the_command(
    dataset: Dataset, override: list[str], said: str
) -> None:
    if override:
        Run(load(dataset.config, QUICK), local=True).go()
    with pytest.raises(RunStateError, match=said):
        go(load(dataset.config, [*QUICK, *override]), Wanted(Format.CSV), local=True)


def test_a_run_that_went_on_without_a_shard_is_exported_without_it(dataset: Dataset) -> None:
    (dataset.folder / "data/img_emb/img_emb_1.npy").write_bytes(b"broken")
    config = load(dataset.config, QUICK)
    Run(config, local=True, allow_failed=True).go()
    summary = go(config, Wanted(Format.WEBDATASET, str(dataset.folder / "out")), local=True)
    assert (summary.images, summary.shards) == (100, 2)
    assert sorted(path.name for path in (dataset.folder / "out").glob("*.tar")) == ["00000.tar", "00002.tar"]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"format": "csv", "layer": 3}, "--layer is 3; the layers of this run have 2, 4 clusters"),
        (
            {
                "format": "csv",
                "clusters": (
                    0,
                    4,
                ),
            },
            "--clusters names 4; the clusters of this layer are 0 to 3",
        ),
        ({"format": "csv", "links": True}, "--links is for --format imagefolder, not for csv"),
        ({"format": "imagefolder", "links": True}, "--links needs images that are files of a folder"),
    ],
)
def test_what_does_not_fit_the_run_is_said_before_anything_is_written(
    done: Dataset, wanted: dict[str, object], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        export(done, **wanted)  # type: ignore[arg-type]
    assert not (done.folder / "out").exists()


def test_with_guesses_every_cluster_has_a_word(dataset: Dataset) -> None:
    config = load(dataset.config, [*QUICK, "label.min_confidence=1"])
    assert Run(config, local=True).go()
    clusters = pd.read_parquet(dataset.root / "clusters.parquet").query("main").set_index("cluster")
    assert set(clusters["status"]) == {"unsure"}
    tables = []
    for use_guess in (False, True):
        to = dataset.folder / f"guess-{use_guess}"
        go(config, Wanted(Format.CSV, str(to), use_guess=use_guess), local=True)
        tables.append(pd.read_csv(to / "images.csv", dtype={"key": str}))
        assert json.loads((to / "export.json").read_text())["use_guess"] is use_guess
    assert tables[0]["label"].isna().all()
    assert tables[1]["label"].tolist() == [clusters["guess"][k] for k in tables[1]["cluster"]]
    assert tables[1]["confidence"].tolist() == tables[0]["confidence"].tolist()


def test_confidences_are_of_the_main_layer(done: Dataset) -> None:
    with pytest.raises(UsageError, match="--min-confidence: confidences are of the layer of 4 clusters, not of 2"):
        export(done, "csv", layer=2, min_confidence=0.5)


def test_a_run_of_vectors_only_has_tables_and_says_so_of_the_others(dataset: Dataset) -> None:
    config = load(dataset.config, [*QUICK, "import.images=null"])
    assert Run(config, local=True).go()
    assert go(config, Wanted(Format.PARQUET), local=True).images == 160
    assert len(pd.read_parquet(dataset.root / "export/parquet/images.parquet")) == 160
    with pytest.raises(UsageError, match="--format webdataset needs images and this run has vectors only"):
        go(config, Wanted(Format.WEBDATASET), local=True)


def test_images_that_are_gone_are_counted(mine: Dataset) -> None:
    path = mine.folder / "data/images/00000.tar"
    stat = path.stat()
    with tarfile.open(path) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    with tarfile.open(path, "w") as tar:
        for member, data in members[10:]:  # five samples of two files each
            tar.addfile(member, io.BytesIO(data))
    os.truncate(path, stat.st_size)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    summary = export(mine, "imagefolder")
    assert summary.images == 155
    assert summary.left_out == {"whose image is no longer in its shard": 5}
    assert "  left out: 5 whose image is no longer in its shard" in list(summary.lines())


def test_the_command_line(done: Dataset) -> None:
    code, said = call("export", done.config, "--format", "csv", "--clusters", "0,2", "--per-cluster", 7, "--local")
    assert code == 0
    assert f"14 of 160 images in 2 classes: {done.root}/export/csv" in said
    assert re.search(r"left out: \d+ of a cluster that was not asked for", said)
    assert re.search(r"left out: \d+ beyond the 7 of its cluster", said)
    code, said = call("export", done.config, "--format", "csv", "--clusters", "zero", "--local")
    assert (code, "--clusters is 'zero'" in said) == (2, True)
    code, said = call("export", done.config, "--format", "webdataset", "--set", "label.top=2", "--local")
    assert code == 2
    assert f"cpp-at-scale run {done.config} --set label.top=2" in said
    assert call("export", done.config, "--format", "tfrecord")[0] == 2
