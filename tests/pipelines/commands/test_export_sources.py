"""Images of an export come from every kind of source, as copies or links, in the rows that they belong to."""

import io
import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from PIL import Image
from torchvision.datasets import ImageFolder

from cpp.export.format import Format
from cpp.sources.shards import read_images
from pipelines.commands.export import go
from pipelines.commands.export_plan import Wanted
from pipelines.config.load import Config, load
from pipelines.run import Run
from tests.support.datasets import Dataset
from tests.support.runs import QUICK


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
