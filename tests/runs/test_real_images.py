"""Every layout of the real data through the step `encode`: rows, captions, and open_clip's own vectors."""

import io
import json
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import open_clip
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image

from cpp.files.tables import matrix
from cpp.sources.shards import read_images
from pipelines.config.load import load
from pipelines.run import Run

SETS = {
    "cc3m-img2dataset": ["cc3m-img2dataset/*.tar"],
    "flickr8k": ["flickr8k/*.tar"],
    "caltech101": ["caltech101-clip-b32/images/*.tar"],
    "cifar10-test": ["cifar10-test/*.tar"],
    "coco-mini": ["coco-mini/val2017"],
}
CHECKED = 25  # images of a shard that open_clip encodes one by one


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_rows_captions_and_vectors(name: str, real_data: Path, model: Path, tmp_path: Path) -> None:
    weights = str(model / "weights.safetensors")
    images: dict[str, object] = {"format": "webdataset", "path": SETS[name]}
    if name == "coco-mini":
        images |= {"format": "coco", "annotations": ["coco-mini/annotations/*.json"], "shard_size": 40}
    config = {
        "name": name,
        "root": str(tmp_path / "run"),
        "data": str(real_data),
        "images": images,
        "encode": {"model": "cpp-run", "pretrained": weights, "configs": str(model)},
        "partition": {"n_clusters": 10},
        "resources": {"workers": 1, "cpus": 2},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    run = Run(load(tmp_path / "config.yaml"), ["encode"], local=True)
    assert run.go()
    shards = [pq.read_table(path) for path in sorted((tmp_path / "run/features").iterdir())]
    truth = coco_captions(real_data) if name == "coco-mini" else tar_captions(real_data, SETS[name][0])
    captioned = [
        (key, captions) for t in shards for key, captions in zip(t["key"].to_pylist(), captions_of(t), strict=True)
    ]
    assert Counter(key for key, _ in captioned) == Counter(key for key, _ in truth)
    assert sorted(captioned) == sorted(truth)
    counts = run.outcomes["encode"].counts
    assert counts is not None
    assert counts == (len(truth), len(truth), 0)

    network, _, transform = open_clip.create_model_and_transforms("cpp-run", pretrained=weights)
    for table in shards:
        some = table.take(np.random.default_rng(0).choice(len(table), min(len(table), CHECKED), replace=False))
        data = read_images(some["image_shard"][0].as_py(), some["key"].to_pylist())
        pixels = [transform(Image.open(io.BytesIO(data[key]))) for key in some["key"].to_pylist()]
        with torch.no_grad():
            expected = torch.cat([network.eval().encode_image(x[None], normalize=True) for x in pixels]).numpy()
        ours = matrix(some["embedding"]).astype(np.float64)
        cosines = (ours * expected).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(expected, axis=1)
        assert cosines.min() > 0.9999


def captions_of(table: pa.Table) -> list[tuple[str, ...]]:
    """The captions of every row, as the run keeps them."""
    if "captions" in table.column_names:
        return [tuple(sorted(captions)) for captions in table["captions"].to_pylist()]
    texts = table["caption"].to_pylist() if "caption" in table.column_names else [None] * len(table)
    return [(text,) if text else () for text in texts]


def tar_captions(folder: Path, pattern: str) -> list[tuple[str, tuple[str, ...]]]:
    """Key and captions of every image, by the standard library alone."""
    captioned: dict[str, tuple[str, ...]] = {}
    keys = []
    for path in sorted(folder.glob(pattern)):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                file = tar.extractfile(member)
                data = file.read() if file else b""
                if extension == "jpg":
                    keys.append(key)
                elif extension == "txt" and data.strip():
                    captioned.setdefault(key, (data.decode().strip(),))
                elif extension == "json" and (captions := json.loads(data).get("captions")):
                    captioned[key] = tuple(sorted(captions))
    return [(key, captioned.get(key, ())) for key in keys]


def coco_captions(folder: Path) -> list[tuple[str, tuple[str, ...]]]:
    """Name and captions of every image, from COCO's own file."""
    truth = json.loads((folder / "coco-mini/annotations/captions_val2017.json").read_text())
    captions: dict[int, list[str]] = {}
    for annotation in truth["annotations"]:
        captions.setdefault(annotation["image_id"], []).append(annotation["caption"].strip())
    return [(image["file_name"], tuple(sorted(captions[image["id"]]))) for image in truth["images"]]
