"""The command `export` on runs: what it needs, what it says, and how it goes on where it stopped."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
import yaml
from PIL import Image
from torchvision.datasets import ImageFolder

from cpp.export.classes import classes
from cpp.export.dataset import Export, Format
from cpp.export.rows import Filter, Layer
from cpp.sources.shards import read_images
from cpp.store.lease import LockedError
from cpp.store.local import Store
from cpp.store.results import fingerprint
from pipelines.commands.export import Summary, Write, go
from pipelines.commands.export_plan import Wanted
from pipelines.config.errors import RunStateError, UsageError
from pipelines.config.load import Config, load
from pipelines.run import Run
from tests.support.datasets import WORDS, Dataset, write_dataset
from tests.support.runs import QUICK, call


def finish(dataset: Dataset) -> Dataset:
    """Run it to its end, with names for its clusters and a coarser layer that is too mixed for names."""
    config = yaml.safe_load(dataset.config.read_text())
    config |= {"fit": {"recipe": "discriminant"}, "partition": {"n_clusters": 4, "layers": [2]}, "evaluate": None}
    config["label"]["min_confidence"] = 0.2
    dataset.config.write_text(yaml.safe_dump(config))
    assert Run(load(dataset.config), local=True).go()
    return dataset


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return finish(write_dataset(tmp_path_factory.mktemp("once")))


@pytest.fixture
def done(once: Dataset, tmp_path: Path) -> Dataset:
    """A finished run of three shards, not to be changed, and a folder of the test's own."""
    return replace(once, folder=tmp_path)


@pytest.fixture
def mine(dataset: Dataset) -> Dataset:
    """A finished run that a test may change."""
    return finish(dataset)


def export(dataset: Dataset, format: str, to: str = "out", layer: int | None = None, **more: object) -> Summary:
    links = bool(more.pop("links", False))
    wanted = Wanted(Format(format), f"{dataset.folder}/{to}", layer, Filter(**more), links)  # type: ignore[arg-type]
    return go(load(dataset.config), wanted, local=True)


def images_of(dataset: Dataset) -> pd.DataFrame:
    """The rows of the run with their labels and the bytes of their images, by the products that a person reads."""
    parts = {name: sorted((dataset.root / name).iterdir()) for name in ("assignments", "labels")}
    frame, said = (pd.concat(map(pd.read_parquet, paths), ignore_index=True) for paths in parts.values())
    of_shards = [read_images(shard, part["key"]) for shard, part in frame.groupby("image_shard", sort=False)]
    images = {key: image for part in of_shards for key, image in part.items()}
    about = {"label": said["label"], "confidence": said["confidence"], "image": [images[key] for key in frame["key"]]}
    return frame.assign(**about)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


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
    assert [(done.folder / "out" / file).read_bytes() for file in index["file"]] == expected["image"].tolist()
    assert ImageFolder(str(done.folder / "out")).classes == sorted(WORDS[:4])
    assert json.loads((done.folder / "out/export.json").read_text())["state"] == "done"


def test_an_export_again_writes_no_image_and_equal_tables(done: Dataset) -> None:
    export(done, "webdataset")
    before = files(done.folder / "out")
    times = {path: path.stat().st_mtime_ns for path in (done.folder / "out").glob("*.tar")}
    again = export(done, "webdataset")
    assert (again.reused, again.images) == (3, 160)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert files(done.folder / "out") == before


@pytest.mark.parametrize("format", ["webdataset", "imagefolder"])
def test_what_is_lost_is_made_again_and_only_that(done: Dataset, format: str) -> None:
    export(done, format)
    before = files(done.folder / "out")
    next((done.folder / "out").rglob("00001.tar" if format == "webdataset" else "00001-000007.jpg")).unlink()
    (done.folder / "out/classes.csv").unlink()
    assert export(done, format).reused == 2
    assert files(done.folder / "out") == before


@pytest.mark.parametrize("format", ["webdataset", "imagefolder", "huggingface", "csv"])
def test_other_filters_leave_nothing_of_the_earlier_ones(done: Dataset, format: str) -> None:
    export(
        done,
        format,
        "fresh",
        clusters=(
            1,
            2,
        ),
    )
    export(done, format)
    assert (
        export(
            done,
            format,
            clusters=(
                1,
                2,
            ),
        ).reused
        == 0
    )
    assert files(done.folder / "out") == files(done.folder / "fresh")
    assert export(done, format).images == 160


def test_other_names_are_another_export(mine: Dataset) -> None:
    """The numbers of the clusters are the same, so the assignments are: the names are what changed."""
    export(mine, "imagefolder")
    words = mine.folder / "words/names.txt"
    words.write_text(words.read_text().replace("red thing", "blood"))
    assert Run(load(mine.config), local=True).go()
    assert export(mine, "imagefolder").reused == 0
    assert "blood" in ImageFolder(str(mine.folder / "out")).classes
    assert "red thing" not in ImageFolder(str(mine.folder / "out")).classes


def test_the_fingerprint_follows_every_setting_but_the_place() -> None:
    plain = Export(Format.CSV, Layer("cluster", ("cluster",), main=True), (), Filter())
    others = [
        replace(plain, format=Format.PARQUET),
        replace(plain, layer=Layer("cluster_2", ("cluster",), main=False)),
        replace(plain, classes=tuple(classes([{"cluster": 0, "name": "cat", "size": 1}]))),
        *(replace(plain, filter=f) for f in (Filter(()), Filter(None, 0.5), Filter(None, None, 3))),
        replace(plain, links=True),
        replace(plain, max_bytes=1),
    ]
    settings = [Write(export=export, root="r", to="t").settings() for export in (plain, *others)]
    assert len(set(map(fingerprint, settings))) == 1 + len(others)
    assert Write(export=plain, root="elsewhere", to="there").settings() == settings[0]


def test_layers_clusters_and_confidence(done: Dataset) -> None:
    expected = images_of(done)
    summary = export(done, "parquet", layer=2)
    assert (summary.classes, summary.images) == (2, 160)
    coarse = pd.read_parquet(done.folder / "out/images.parquet")
    assert coarse["class_name"].tolist() == [f"cluster-{k}" for k in expected["cluster_2"]]  # of which none is sure
    assert coarse["label"].isna().all()
    assert coarse["confidence"].isna().all()
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


def test_the_classes_are_those_that_have_an_image(done: Dataset) -> None:
    """ImageFolder numbers the folders that are there: `classes.csv` and a head of the network must not have more."""
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
    with pytest.raises(UsageError, match="--min-confidence: this run has no confidences: it needs `label:`"):
        go(config, Wanted(Format.CSV, str(to), None, Filter(min_confidence=0.5)), local=True)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ([], r"is not a finished run with these settings, step import has 0 of 3 shards done.* run \S+/config.yaml"),
        (["label.top=2"], r"step vote has 0 of 3 shards done. What makes it: python -m pipelines run \S+/config.yaml"),
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


def test_the_folder_of_the_source_is_refused(mine: Dataset) -> None:
    before = files(mine.folder / "data/images")
    with pytest.raises(PermissionError, match="holds files and is not an export"):
        export(mine, "webdataset", "data/images")
    assert files(mine.folder / "data/images") == before


def test_an_export_waits_for_no_run(done: Dataset) -> None:
    with Store(done.root).lock(), pytest.raises(LockedError, match="another run is writing to"):
        export(done, "csv")


def test_a_damaged_shard_is_set_aside_and_the_others_are_written(mine: Dataset) -> None:
    path = mine.folder / "data/images/00001.tar"
    good, stat = path.read_bytes(), path.stat()
    path.write_bytes(good[: len(good) // 2].ljust(len(good), b"?"))  # of the same size and time: the run does not know
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    summary = export(mine, "webdataset")
    assert [result.shard for result in summary.failed] == ["00001"]
    assert "1 of 3 shards failed" in list(summary.lines())[-1]
    assert not (mine.folder / "out/classes.csv").exists()
    assert json.loads((mine.folder / "out/export.json").read_text())["state"] == "unfinished"
    path.write_bytes(good)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert export(mine, "webdataset").reused == 2


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


def images_run(pictures: Dataset, images: str) -> Config:
    config = load(pictures.config, [*QUICK, images])
    assert Run(config, local=True).go()
    return config


def loose(dataset: Dataset) -> None:
    """The pictures as files, in folders that are named by no class, with names that ask for trouble."""
    (dataset.folder / "loose/test").mkdir(parents=True)
    for tar in sorted(dataset.folder.glob("data/images/*.tar")):
        frame = pd.read_parquet(dataset.folder / f"data/metadata/metadata_{int(tar.stem)}.parquet")
        for key, data in read_images(str(tar), frame["key"]).items():
            (dataset.folder / f"loose/{'test/' if key.endswith('3') else ''}{key}.a b.jpeg").write_bytes(data)


def test_links_to_the_files_of_a_folder(pictures: Dataset) -> None:
    loose(pictures)
    config = images_run(pictures, "images={format: folder, path: [loose], shard_size: 50}")
    to = pictures.folder / "out"
    assert go(config, Wanted(Format.IMAGEFOLDER, str(to), links=True), local=True).images == 160
    index = pd.read_parquet(to / "images.parquet")
    for file, key in zip(index["file"], index["key"], strict=True):
        assert (to / file).is_symlink()
        assert (to / file).resolve() == pictures.folder / "loose" / key
        assert file.endswith(".jpg")
    assert len(ImageFolder(str(to))) == 160
    assert go(config, Wanted(Format.IMAGEFOLDER, str(to)), local=True).reused == 0
    assert not any((to / file).is_symlink() for file in pd.read_parquet(to / "images.parquet")["file"])
    assert len(list((pictures.folder / "loose").rglob("*.jpeg"))) == 160  # links went, not what they led to


@pytest.mark.parametrize("format", ["parquet", "table", "coco"])
def test_images_come_from_every_kind_of_source(pictures: Dataset, format: str) -> None:
    loose(pictures)
    found = sorted((pictures.folder / "loose").rglob("*.jpeg"))
    names = [str(path.relative_to(pictures.folder / "loose")) for path in found]
    where = "path: [t.parquet], column: image, key: name"
    if format == "coco":
        said = {"images": [{"id": i, "file_name": name} for i, name in enumerate(names)], "annotations": []}
        (pictures.folder / "a.json").write_text(json.dumps(said))
        where = "path: [loose], annotations: [a.json]"
    elif format == "table":
        where = "path: [t.parquet], column: where, key: null"
    table = {
        "name": ["twice"] * 2 + names[2:],
        "where": [f"loose/{n}" for n in names],
        "image": [p.read_bytes() for p in found],
    }
    pq.write_table(pa.table(table), pictures.folder / "t.parquet", row_group_size=30)
    config = images_run(pictures, f"images={{format: {format}, {where}, shard_size: 70}}")
    to = pictures.folder / "out"
    assert go(config, Wanted(Format.HUGGINGFACE, str(to)), local=True).images == 160
    files = pd.read_parquet(to / "images.parquet")["file"]
    assert [(to / file).read_bytes() for file in files] == [path.read_bytes() for path in found]


def test_rejected_images_do_not_move_the_others(pictures: Dataset) -> None:
    """Rows with one key, of which the first has no image: the second row is the second image."""
    rows = [("same", b""), ("same", colour("red")), ("same", colour("blue")), ("x", b"no"), ("x", colour("green"))]
    rows += [(f"{i}", colour("red")) for i in range(40)]
    table = {"name": [key for key, _ in rows], "image": [image for _, image in rows]}
    pq.write_table(pa.table(table), pictures.folder / "t.parquet")
    config = load(
        pictures.config,
        ["fit={recipe: discriminant}", "partition={n_clusters: 2}", "evaluate=null",
         "images={format: parquet, path: [t.parquet], column: image, key: name}"],
    )  # fmt: skip
    assert Run(config, local=True).go()
    assert go(config, Wanted(Format.WEBDATASET), local=True).images == 43
    samples = list(webdataset.WebDataset(str(pictures.root / "export/webdataset/t.tar"), shardshuffle=False))
    assert [sample["png"] for sample in samples] == [image for _, image in rows if len(image) > 2]


def colour(name: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (30, 30), name).save(file, "PNG")
    return file.getvalue()


@pytest.mark.slow
def test_ray_and_this_process_write_equal_bytes(done: Dataset) -> None:
    export(done, "webdataset")
    code, said = call("export", done.config, "--format", "webdataset", "--to", done.folder / "ray")
    assert code == 0, said
    assert files(done.folder / "out") == files(done.folder / "ray")


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
    assert f"python -m pipelines run {done.config} --set label.top=2" in said
    assert call("export", done.config, "--format", "tfrecord")[0] == 2


def test_an_export_that_is_killed_goes_on_where_it_was(done: Dataset) -> None:
    """Killed in the middle of the second shard, with images of it written."""
    slow = (
        "import sys, time\n"
        "from cpp.export.target import Target\n"
        "place, n = Target.place, [0]\n"
        "def counted(images):\n"
        "    for image in images:\n"
        "        if n[0] == 90:\n"
        "            print('NOW', flush=True); time.sleep(600)\n"
        "        yield image\n"
        "        n[0] += 1\n"
        "Target.place = lambda self, images: place(self, counted(images))\n"
        "from pipelines.__main__ import app\n"
        "app()\n"
    )
    out = done.folder / "out"
    arguments = ["export", done.config, "--format", "imagefolder", "--to", out, "--local"]
    with subprocess.Popen([sys.executable, "-c", slow, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "NOW" in line:
                process.send_signal(signal.SIGKILL)
                break
    assert len(list(out.rglob("*.jpg"))) == 90
    only = min(path.parent.name for path in out.rglob("*.jpg"))
    clusters = pd.read_parquet(done.root / "clusters.parquet").query("main").set_index("name")["cluster"]
    shutil.copytree(out, done.folder / "other")
    assert export(done, "imagefolder", "other", clusters=(int(clusters[only]),)).reused == 0
    assert {path.parent.name for path in (done.folder / "other").rglob("*.jpg")} == {only}
    assert export(done, "imagefolder").reused == 1
    export(done, "imagefolder", "fresh")
    assert files(out) == files(done.folder / "fresh")
