"""Small data sets that tests draw and write to disk."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image

COLOURS = [(200, 30, 30), (30, 160, 60), (40, 60, 200), (220, 190, 40)]


TINY: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 48, "layers": 2, "width": 64, "patch_size": 16, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


SMALL = {**TINY, "embed_dim": 24, "vision_cfg": {**TINY["vision_cfg"], "image_size": 32, "layers": 1}}


SMALL_TRAINING = {
    "recipe": "paper",
    "hidden": 32,
    "dim": 8,
    "batch": 64,
    "epochs": 4,
    "warmup_steps": 5,
    "lr": 0.01,
    "lr_cluster": 0.01,
}


WORDS = ["red thing", "green thing", "blue thing", "yellow thing", "teapot", "cloud"]


@dataclass(frozen=True)
class Dataset:
    """A small data set on disk with everything that a run can use, and its config file."""

    folder: Path
    config: Path
    root: Path
    rows: int

    def override(self, **values: object) -> list[str]:
        return [f"{key.replace('__', '.')}={value}" for key, value in values.items()]


def write_dataset(folder: Path, rows: tuple[int, ...] = (60, 60, 40), dim: int = 16) -> Dataset:
    """Vectors around four centres, a coloured picture for each row, words at the centres and two far from them."""
    rng = np.random.default_rng(7)
    centres = np.linalg.qr(rng.standard_normal((dim, 6)))[0].T
    for name in ("data/img_emb", "data/metadata", "data/images", "words"):
        (folder / name).mkdir(parents=True)
    for number, n in enumerate(rows):
        label = rng.permutation(np.arange(n) % 4)
        X = 3.0 * (centres[label] + 0.1 * rng.standard_normal((n, dim)))
        keys = [f"{number}{i:04d}" for i in range(n)]
        np.save(folder / f"data/img_emb/img_emb_{number}.npy", X.astype(np.float16))
        about = {"key": keys, "label": label, "url": [f"https://example.org/{key}?a=1&b=<2>" for key in keys]}
        pq.write_table(pa.table(about), folder / f"data/metadata/metadata_{number}.parquet")
        with tarfile.open(folder / f"data/images/{number:05d}.tar", "w") as tar:
            for key, k in zip(keys, label, strict=True):
                buffer = io.BytesIO()
                Image.new("RGB", (32, 24), COLOURS[k]).save(buffer, "JPEG")
                for suffix, data in (("jpg", buffer.getvalue()), ("json", json.dumps({"label": int(k)}).encode())):
                    member = tarfile.TarInfo(f"{key}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    (folder / "words/names.txt").write_text("\n".join(WORDS) + "\n")
    np.save(folder / "words/embeddings.npy", centres.astype(np.float16))
    config = {
        "name": "Coloured things",
        "root": str(folder / "run"),
        "data": str(folder),
        "import": {"path": "data", "images": "data/images"},
        "fit": SMALL_TRAINING,
        "partition": {"n_clusters": 4},
        "label": {"vocabulary": ["words"], "min_confidence": 0},  # with four clusters no word can lead by much
        "evaluate": {"label": "label"},
        "resources": {"workers": 1},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return Dataset(folder, path, folder / "run", sum(rows))


def from_pictures(dataset: Dataset, model: Path) -> Dataset:
    """The data set, started from its pictures and a list of words."""
    config = yaml.safe_load(dataset.config.read_text())
    del config["import"]
    config["images"] = {"format": "webdataset", "path": ["data/images/{00000..00002}.tar"]}
    config["encode"] = {
        "model": "cpp-run", "pretrained": str(model / "weights.safetensors"), "configs": str(model),
    }  # fmt: skip
    config["label"] = {"vocabulary": ["words.txt"], "templates": ["a photo of a {}."], "min_confidence": 0}
    (dataset.folder / "words.txt").write_text("\n".join([*WORDS, "", WORDS[0]]) + "\n")
    dataset.config.write_text(yaml.safe_dump(config, sort_keys=False))
    return dataset
