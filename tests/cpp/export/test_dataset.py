"""Round trips: what is exported is read back by the libraries that it is for, and equals. Images are equal in bytes."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import webdataset
import yaml
from PIL import Image
from torchvision.datasets import ImageFolder

from cpp.export import dataset
from cpp.export.classes import classes
from cpp.export.dataset import Export
from cpp.export.format import Format
from cpp.export.rows import Filter, Layer, Shard
from cpp.sources.tar import TarShard
from tests.support.tars import write_tar

NAMES = ["cat", "../dog", None, "train"]  # cluster by cluster; `train` and `test` are splits for `datasets`
LAYER = Layer("cluster", ("cluster", "cluster_2"), main=True)
KEYS = [
    ["000000", "test", "a.b", "x/../../y", "same", "same", "UPPER", "upper"],
    ["000000", "train_1", "猫", "e", "f", "gif", "cut", "gone"],
]
METADATA = ("caption", "label", "url", "file_name", "tags", "area", "taken")  # a `label` that is the true class
KINDS = ["JPEG", "PNG", "WEBP", "BMP", "TIFF"]


def picture(i: int, kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8 + i, 9), (i * 16 % 256, 99, 255 - i)).save(file, kind)
    return file.getvalue()


@pytest.fixture
def source(tmp_path: Path) -> list[Shard]:
    """Two shards of images, in tars by hostile and repeated keys, and what a run says of them."""
    found = []
    for s, keys in enumerate(KEYS):
        images = [picture(8 * s + i, KINDS[i % len(KINDS)]) for i in range(8)]
        if s == 1:
            images[5], images[6] = picture(13, "GIF"), b"no image"
        there = [(f"{key}.jpg", image) for key, image in zip(keys, images, strict=True) if key != "gone"]
        cluster = np.arange(8, dtype=np.int32) % 4
        known = {
            "key": keys,
            "cluster": cluster,
            "score": np.linspace(0.5, 1, 8, dtype=np.float32),
            "second": (cluster + 1) % 4,
            "margin": np.full(8, 0.25, np.float32),
            "cluster_2": cluster // 2,
            "image_shard": [str(tmp_path / f"{s}.tar")] * 8,
            "caption": [f"caption {i}" for i in range(8)],
            "label": ["the truth"] * 8,
            "url": [None if i else "https://example.org/x?a=1&b=<2>" for i in range(8)],
            "file_name": [f"val2017/{i}.jpg" for i in range(8)],
            "tags": pa.array([["a,b", str(i)] for i in range(8)]),
            "area": [i / 3 for i in range(8)],
            "taken": pa.array([1_700_000_000 + i for i in range(8)], pa.timestamp("s")),
        }
        confidence = pa.array(np.linspace(0, 1, 8), pa.float32())
        labels = {"key": keys, "label": [NAMES[k] for k in cluster], "confidence": confidence}
        pq.write_table(pa.table(known), tmp_path / f"a{s}.parquet")
        pq.write_table(pa.table(labels), tmp_path / f"l{s}.parquet")
        tar = TarShard(write_tar(tmp_path / f"{s}.tar", there), "")
        found.append(Shard(str(tmp_path / f"a{s}.parquet"), str(tmp_path / f"l{s}.parquet"), None, tar))
    return found


def exported(
    source: list[Shard], to: Path, format: str, chosen: list[np.ndarray] | None = None, **filters: object
) -> list[dict[str, object]]:
    """Export all shards; the rows that ought to be there, from the inputs alone, with the bytes of their images."""
    wanted = Filter(**filters)  # type: ignore[arg-type]
    rows = [{"cluster": k, "name": name, "size": 4, "status": None, "guess": None} for k, name in enumerate(NAMES)]
    whole = Export(Format(format), LAYER, tuple(classes(rows, wanted.clusters)), wanted)
    target = whole.target(str(to))
    lists = []
    for i, shard in enumerate(source):
        name, path = whole.name(f"s{i}", i), target.path(dataset.LISTS, f"s{i}", "0" * 16)
        with target.commit({"lists": path}) as out:
            dataset.write(whole, shard, name, target, out["lists"], None if chosen is None else chosen[i])
        lists.append(path)
    images, left_out = dataset.finish(whole, target, lists)
    (to / ".tmp").rmdir()
    titles = {c.cluster: (c.number, c.title) for c in whole.classes}
    expected = []
    for s, shard in enumerate(source):
        known, said = pq.read_table(shard.assignments).to_pylist(), pq.read_table(shard.labels).to_pylist()
        for i, (row, label) in enumerate(zip(known, said, strict=True)):
            image = picture(8 * s + i, KINDS[i % len(KINDS)])
            if (s, i) == (1, 5):
                image = picture(13, "GIF")
            if whole.format.pictured and row["key"] in ("gone", "cut", *(["gif"] if format == "imagefolder" else [])):
                continue
            if chosen is not None and i not in chosen[s]:
                continue
            if wanted.clusters is not None and row["cluster"] not in wanted.clusters:
                continue
            if wanted.min_confidence is not None and label["confidence"] < wanted.min_confidence:
                continue
            number, title = titles[row["cluster"]]
            about = {name: row[name] for name in ("key", "cluster", "cluster_2", "score", "margin", "image_shard")}
            classed = {"class": number, "class_name": title, "label": label["label"], "confidence": label["confidence"]}
            more = {"source_label" if name == "label" else name: row[name] for name in METADATA}
            expected.append({**about, **classed, **more, "image": image})
    assert images == len(expected)
    assert images + sum(left_out.values()) == 16
    return expected


def compared(rows: list[dict[str, object]], *without: str) -> list[dict[str, object]]:
    return [{name: value for name, value in row.items() if name not in without} for row in rows]


def index(to: Path) -> list[dict[str, object]]:
    """The rows of `images.parquet`."""
    rows: list[dict[str, object]] = pq.read_table(to / "images.parquet").to_pylist()
    return rows


def test_webdataset(source: list[Shard], tmp_path: Path) -> None:
    expected = exported(source, tmp_path / "out", "webdataset")
    urls = [str(path) for path in sorted((tmp_path / "out").glob("*.tar"))]
    assert [Path(url).name for url in urls] == ["s0.tar", "s1.tar"]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [
        "000000", "test", "row-000002", "row-000003", "row-000004", "row-000005", "row-000006", "row-000007",
        "000000", "train_1", "row-000002", "e", "f", "gif",
    ]  # fmt: skip
    found = []
    for sample in samples:
        (kind,) = {"jpg", "png", "webp", "bmp", "tif", "gif"} & set(sample)
        said = json.loads(sample["json"])
        assert int(sample["cls"]) == said["class"]
        metadata = said.pop("metadata")
        assert tuple(metadata) == METADATA
        metadata["source_label"] = metadata.pop("label")
        found.append({**said, **metadata, "image": sample[kind]})
    assert found == [{**row, "taken": str(row["taken"])} for row in expected]
    assert compared(index(tmp_path / "out"), "file") == compared(expected, "image")
    decoded = list(
        webdataset.WebDataset(urls, shardshuffle=False)
        .decode("pil")
        .to_tuple("jpg;png", "cls", handler=webdataset.ignore_and_continue)
    )
    assert all(isinstance(image, Image.Image) and isinstance(number, int) for image, number in decoded)
    assert len(decoded) == 6
    assert [row["file"] for row in index(tmp_path / "out")][:3] == [
        "s0.tar/000000.jpg",
        "s0.tar/test.png",
        "s0.tar/row-000002.webp",
    ]


def test_imagefolder(source: list[Shard], tmp_path: Path) -> None:
    expected = exported(source, tmp_path / "out", "imagefolder")
    read = ImageFolder(str(tmp_path / "out"))
    with (tmp_path / "out/classes.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert read.classes == [row["folder"] for row in table]
    assert [(row["cluster"], row["name"] or None) for row in sorted(table, key=lambda row: row["cluster"])] == [
        (str(k), name) for k, name in enumerate(NAMES)
    ]
    by_file = {str(tmp_path / "out" / str(row["file"])): row for row in index(tmp_path / "out")}
    assert by_file.keys() == {path for path, _ in read.samples}
    found = [{**by_file[path], "class": number, "image": Path(path).read_bytes()} for path, number in read.samples]
    found.sort(key=lambda row: str(row["file"]).rpartition("/")[2])
    assert compared(found, "file") == expected
    assert {Path(path).parent.parent for path, _ in read.samples} == {tmp_path / "out"}
    assert all(read[i][0].size for i in range(len(read)))


@pytest.mark.parametrize("by_card", [True, False])
def test_huggingface(source: list[Shard], tmp_path: Path, by_card: bool) -> None:
    """Keys and classes called `test` and `train` do not become splits, and the label is a ClassLabel."""
    expected = exported(source, tmp_path / "out", "huggingface")
    address = {"path": str(tmp_path / "out")} if by_card else {"path": "imagefolder", "data_dir": str(tmp_path / "out")}
    read = datasets.load_dataset(**address, cache_dir=str(tmp_path / "cache"))
    assert list(read) == ["train"]
    titles = pd.read_csv(tmp_path / "out/classes.csv")["class_name"].tolist()
    assert read["train"].features["label"] == datasets.ClassLabel(names=titles)
    rows = read["train"].cast_column("image", datasets.Image(decode=False)).to_list()
    for row in rows:
        row["image"] = Path(row["image"]["path"]).read_bytes()
        row["class"], row["file_name"] = row.pop("label"), row.pop("filename")
        row["class_name"] = titles[row["class"]]
    assert rows == compared(expected, "label")
    assert read["train"][0]["image"].size == (8, 9)
    assert compared(index(tmp_path / "out"), "file") == compared(expected, "image")


def test_the_data_card_of_an_export_names_files_that_exist(source: list[Shard], tmp_path: Path) -> None:
    exported(source, tmp_path / "out", "huggingface")
    card = yaml.safe_load((tmp_path / "out/README.md").read_text().split("---")[1])
    patterns = card["configs"][0]["data_files"][0]["path"]
    assert [bool(list((tmp_path / "out").glob(pattern))) for pattern in patterns] == [True, True]


def test_fiftyone(source: list[Shard], tmp_path: Path) -> None:
    expected = exported(source, tmp_path / "out", "fiftyone")
    said = json.loads((tmp_path / "out/labels.json").read_text())
    files = {path.stem: path.read_bytes() for path in (tmp_path / "out/data").iterdir()}
    assert files.keys() == said["labels"].keys()
    found = [
        {
            **target["attributes"],
            "confidence": target["confidence"],
            "class": target["label"],
            "class_name": said["classes"][target["label"]],
            "image": files[uuid],
        }
        for uuid, target in said["labels"].items()
    ]
    for row in expected:
        row["source_tags"], row["taken"] = row.pop("tags"), str(row["taken"])  # a Classification has tags already
        if row["url"] is None:
            del row["url"]
    assert found == compared(expected, "label")


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_tables(source: list[Shard], tmp_path: Path, format: str) -> None:
    """Rows without an image are in them too; and no image is needed."""
    expected = exported([Shard(s.assignments, s.labels) for s in source], tmp_path / "out", format)
    assert len(expected) == 16
    if format == "parquet":
        frame = pd.read_parquet(tmp_path / "out/images.parquet")
        frame["tags"] = frame["tags"].map(list)
    else:
        frame = pd.read_csv(tmp_path / "out/images.csv", dtype={"key": str})
        frame = frame.astype({"confidence": np.float32, "score": np.float32, "margin": np.float32})
        frame["tags"], frame["taken"] = frame["tags"].map(json.loads), pd.to_datetime(frame["taken"])
    found = frame.astype(object).where(frame.notna(), None).to_dict("records")
    assert found == compared(expected, "image")
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if not p.name.startswith(".")) == [
        "classes.csv",
        f"images.{format}",
    ]


@pytest.mark.parametrize("format", list(Format))
def test_filters(source: list[Shard], tmp_path: Path, format: str) -> None:
    """What is left out is counted (in `exported`), classes that were not asked for are no classes."""
    expected = exported(source, tmp_path / "out", format, clusters=(0, 2), min_confidence=0.4)
    table = pq.read_table if format != "csv" else pa.csv.read_csv
    found = table(tmp_path / "out" / ("images.csv" if format == "csv" else "images.parquet"))
    assert found["key"].to_pylist() == [row["key"] for row in expected]
    assert pd.read_csv(tmp_path / "out/classes.csv")["cluster"].tolist() == [0, 2]
    chosen = [np.array([0]), np.array([4])]
    rest = exported(source, tmp_path / "best", format, chosen, per_cluster=2)
    assert [row["key"] for row in rest] == ["000000", "f"]


def files(folder: Path) -> Iterator[tuple[str, bytes]]:
    return ((str(p.relative_to(folder)), p.read_bytes()) for p in sorted(folder.rglob("*")) if p.is_file())


@pytest.mark.parametrize("format", list(Format))
def test_no_file_leaves_the_folder_or_overwrites_another_and_equal_inputs_give_equal_bytes(
    source: list[Shard], tmp_path: Path, format: str
) -> None:
    before = dict(files(tmp_path))
    exported(source, tmp_path / "one", format)
    exported(source, tmp_path / "two", format)
    assert dict(files(tmp_path / "one")) == dict(files(tmp_path / "two"))
    outside = {name: data for name, data in files(tmp_path) if not name.startswith(("one/", "two/"))}
    assert outside == before


def test_a_shard_of_which_nothing_is_left_has_no_tar(source: list[Shard], tmp_path: Path) -> None:
    """An empty tar ends a loader that gives each worker one."""
    exported(source, tmp_path / "out", "webdataset", [np.array([0]), np.array([], int)], per_cluster=1)
    assert [path.name for path in (tmp_path / "out").glob("*.tar")] == ["s0.tar"]
