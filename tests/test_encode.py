"""From images to named clusters: the encode and words steps, with a small model of random weights."""

import json
from pathlib import Path

import numpy as np
import open_clip
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from cpp import encoder
from cpp.sources import read_images
from cpp.tables import Counts, matrix
from pipelines.config import ConfigError, load
from pipelines.plan import plan
from pipelines.run import Run
from tests.conftest import WORDS, Dataset
from tests.test_encoder import TINY
from tests.test_run import computed


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a registered model and its weights."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "cpp-run.json").write_text(json.dumps(TINY))
    encoder.register(str(folder))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = open_clip.create_model("cpp-run").state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "weights.safetensors")
    return folder


@pytest.fixture
def pictures(dataset: Dataset, model: Path) -> Dataset:
    """The data set, started from its pictures and a list of words."""
    config = yaml.safe_load(dataset.config.read_text())
    del config["import"]
    config["images"] = {"format": "webdataset", "path": ["data/images/{00000..00002}.tar"]}
    config["encode"] = {
        "model": "cpp-run", "pretrained": str(model / "weights.safetensors"), "configs": str(model),
    }  # fmt: skip
    config["label"] = {"vocabulary": ["words.txt"], "templates": ["a photo of a {}."]}
    (dataset.folder / "words.txt").write_text("\n".join([*WORDS, "", WORDS[0]]) + "\n")
    dataset.config.write_text(yaml.safe_dump(config, sort_keys=False))
    return dataset


def test_pictures_become_vectors_clusters_and_a_page(pictures: Dataset) -> None:
    run = Run(load(pictures.config), local=True)
    assert run.go()
    assert run.outcomes["encode"].counts == Counts(160, 160, 0)
    assert list(run.outcomes) == [
        "encode", "fit", "project", "partition", "assign", "words", "vote", "label", "evaluate", "report",
    ]  # fmt: skip
    clusters = pd.read_parquet(pictures.root / "clusters.parquet")
    assert clusters["size"].sum() == 160
    assert clusters["name"].isin(WORDS).all()
    assert json.loads((pictures.root / "scores.json").read_text())["methods"][0]["acc"] == 1  # four colours
    assert "were not found" not in (pictures.root / "report.html").read_text()


def test_vectors_are_those_of_open_clip_image_by_image(pictures: Dataset, model: Path) -> None:
    assert Run(load(pictures.config), ["encode"], local=True).go()
    network, _, transform = open_clip.create_model_and_transforms(
        "cpp-run", pretrained=str(model / "weights.safetensors")
    )
    path = pictures.root / "features" / "00001.parquet"
    table = pq.read_table(path)
    data = read_images(table["image_shard"][0].as_py(), table["key"].to_pylist())
    for key, row in zip(table["key"].to_pylist(), matrix(table["embedding"]), strict=True):
        (pictures.folder / "x.jpg").write_bytes(data[key])
        with torch.no_grad():
            expected = network.eval().encode_image(transform(Image.open(pictures.folder / "x.jpg"))[None])[0].numpy()
        found = row.astype(np.float32)
        assert found @ expected / np.linalg.norm(expected) / np.linalg.norm(found) > 0.9999
    metadata = pq.read_schema(path).metadata
    assert metadata[b"cpp.model"] == b"cpp-run"
    assert len(metadata[b"cpp.weights"]) == 64


def test_bad_pictures_are_rejected_with_a_reason(
    pictures: Dataset,
) -> None:
    folder = pictures.folder / "loose"
    for kind in ("red", "blue"):
        (folder / kind).mkdir(parents=True)
        for i in range(40):
            Image.new("RGB", (30, 30), kind).save(folder / kind / f"{i:02d}.png")
    (folder / "red/10.png").write_bytes(b"no picture")
    (folder / "red/11.png").write_bytes(b"")
    overrides = ["images={format: folder, path: [loose], labels: true, shard_size: 50}", "partition.n_clusters=2"]
    run = Run(load(pictures.config, [*overrides, "evaluate.label=label"]), local=True)
    assert run.go()
    assert run.outcomes["encode"].counts == Counts(80, 78, 2)
    rejected = pd.read_parquet(pictures.root / "rejected")
    assert rejected[["key", "reason"]].values.tolist() == [
        ["red/10.png", "not an image"], ["red/11.png", "no bytes"],
    ]  # fmt: skip
    assert json.loads((pictures.root / "scores.json").read_text())["methods"][0]["acc"] == 1
    assert "were not found" not in (pictures.root / "report.html").read_text()


def test_a_vector_that_is_not_finite_is_rejected(pictures: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = encoder.Encoder.begin

    def spoilt(self: encoder.Encoder, rows: list[np.ndarray]) -> object:
        X = begin(self, rows)()
        X[3:4] = np.inf
        return lambda: X

    monkeypatch.setattr(encoder.Encoder, "begin", spoilt)
    run = Run(load(pictures.config), ["encode"], local=True)
    assert run.go()
    assert run.outcomes["encode"].counts == Counts(160, 157, 3)
    rejected = pd.read_parquet(pictures.root / "rejected")
    assert rejected[["row", "reason"]].values.tolist() == [[3, "vector is not finite"]] * 3


def test_what_changes_recomputes_only_what_it_must(pictures: Dataset) -> None:
    assert Run(load(pictures.config), local=True).go()
    (pictures.folder / "words.txt").write_text("sea\nsky\n")
    again = Run(load(pictures.config), local=True)
    assert again.go()
    assert computed(again) == {"words": 1, "vote": 3, "label": 1, "report": 1}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("encode.model=ViT-B-23", "encode: encode.model is 'ViT-B-23', which open_clip does not know; .*ViT-B-32"),
        ("encode.pretrained=gone.safetensors", "encode: encode.pretrained is .*gone.safetensors.* nor a file"),
        ("images.path=[gone.tar]", "images: 1 of the 1 paths of images.path are not there"),
    ],
)
def test_what_is_not_there_is_said_before_anything_starts(pictures: Dataset, override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        plan(load(pictures.config, [override]))


def test_a_list_of_words_needs_an_encoder(dataset: Dataset) -> None:
    with pytest.raises(ConfigError, match="is a list of words, which only a run with `encode` can use"):
        plan(load(dataset.config, ["label.vocabulary=[words.txt]"]))
