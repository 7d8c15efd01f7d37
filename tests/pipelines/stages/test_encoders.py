"""Runs with several encoders: cluster on one or on both, name with the one that has a text tower."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import timm
import torch
from safetensors.torch import save_file

from cpp.files import tables
from cpp.rate_reduction.head import Head
from pipelines.config.errors import ConfigError
from pipelines.config.load import load
from pipelines.graph import plan
from pipelines.run import Run
from tests.support.datasets import TINY, WORDS, Dataset

VIT = "test_vit3"  # timm's smallest model with a class token


@pytest.fixture(scope="session")
def vit(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of random weights of a timm model."""
    path = tmp_path_factory.mktemp("vit") / "vit.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_file(timm.create_model(VIT, num_classes=0).state_dict(), path)
    return str(path)


def with_clip(vit: str, model: Path, pool: str = "null") -> list[str]:
    """Overrides: the timm model fills `embedding`, the CLIP model `embedding_2`."""
    clip = f"{{model: cpp-run, pretrained: {model / 'weights.safetensors'}, configs: {model}}}"
    return [f"encode={{model: timm/{VIT}, pretrained: {vit}, pool: {pool}, encoders: [{clip}]}}"]


def test_clusters_of_a_timm_model_are_named_by_the_text_tower_of_another(
    pictures: Dataset, model: Path, vit: str
) -> None:
    run = Run(load(pictures.config, [*with_clip(vit, model), "label.embedding=embedding_2"]), local=True)
    assert run.go()
    path = pictures.root / "features/00000.parquet"
    table, metadata = pq.read_table(path), pq.read_schema(path).metadata
    identity = json.loads(metadata[b"cpp.embedding"])
    assert identity | {"sha256": ""} == {"model": f"timm/{VIT}", "pretrained": "vit.safetensors", "sha256": ""}
    assert json.loads(metadata[b"cpp.embedding_2"])["model"] == "cpp-run"
    dims = [table.schema.field(column).type.list_size for column in ("embedding", "embedding_2")]
    assert dims == [timm.create_model(VIT).num_features, TINY["embed_dim"]]
    assert Head.load(pictures.root / "head.safetensors").in_dim == dims[0]
    clusters = pd.read_parquet(pictures.root / "clusters.parquet")
    assert clusters["top"].map(lambda top: top[0]["word"]).isin(WORDS).all()
    assert json.loads((pictures.root / "scores.json").read_text())["methods"][0]["acc"] == 1  # four colours
    page = (pictures.root / "report.html").read_text()
    assert f"The encoder of embedding is timm/{VIT} with weights vit.safetensors" in page
    assert "The encoder of embedding_2 is cpp-run" in page


def test_weights_are_shares_of_the_cosine(pictures: Dataset, model: Path, vit: str) -> None:
    weighted = [*with_clip(vit, model, "mean"), "fit.embeddings={embedding_2: 3, embedding: 1}", "label=null"]
    config = load(pictures.config, weighted)
    assert config.fit.embeddings == {"embedding": 1, "embedding_2": 3}
    assert Run(config, ["assign"], local=True).go()
    table = pq.read_table(pictures.root / "features/00000.parquet")
    vit_rows, clip_rows = (tables.matrix(table[c]).astype(np.float64) for c in ("embedding", "embedding_2"))
    joined = tables.join_vectors(table, config.fit.embeddings).astype(np.float64)
    np.testing.assert_allclose(joined @ joined.T, (vit_rows @ vit_rows.T + 3 * clip_rows @ clip_rows.T) / 4, atol=4e-3)
    assert Head.load(pictures.root / "head.safetensors").in_dim == joined.shape[1]
    metadata = pq.read_schema(pictures.root / "features/00000.parquet").metadata
    assert json.loads(metadata[b"cpp.embedding"])["pool"] == "mean"


def test_captions_are_compared_with_the_column_of_the_text_tower(pictures: Dataset, model: Path, vit: str) -> None:
    overrides = [*with_clip(vit, model), "label.embedding=embedding_2", "curate={captions: caption}"]
    (step,) = (step for step in plan(load(pictures.config, overrides)) if step.name == "caption_match")
    assert step.stage.settings()["column"] == "embedding_2"
    first = [*overrides[1:], "label.embedding=embedding"]
    (step,) = (step for step in plan(load(pictures.config, first)) if step.name == "caption_match")
    assert "column" not in step.stage.settings()  # results of older versions stay valid


def test_words_without_a_text_tower_are_an_error_that_names_the_fix(pictures: Dataset, model: Path, vit: str) -> None:
    alone = [f"encode={{model: timm/{VIT}, pretrained: {vit}}}"]
    with pytest.raises(ConfigError) as caught:
        plan(load(pictures.config, alone))
    assert str(caught.value) == (
        "label.vocabulary has words.txt, and timm/test_vit3, the encoder of the column embedding, has no text tower: "
        "add an open_clip model to encode.encoders and set label.embedding to its column, such as embedding_2; or "
        "remove the section `label`, and the clusters have no names"
    )
    with pytest.raises(ConfigError, match="has no text tower: set label.embedding to embedding_2, whose encoder has"):
        plan(load(pictures.config, with_clip(vit, model)))
    with pytest.raises(ConfigError, match="curate.captions is 'caption', and timm/test_vit3, .* no text tower"):
        plan(load(pictures.config, [*alone, "label=null", "curate={captions: caption}"]))
    assert plan(load(pictures.config, [*alone, "label=null"]))


def test_weights_that_are_not_positive_are_an_error(dataset: Dataset) -> None:
    with pytest.raises(ConfigError, match=r"fit\.embeddings: the weights \{'embedding': 0\.0\} must be positive"):
        load(dataset.config, ["fit.embeddings={embedding: 0}"])
