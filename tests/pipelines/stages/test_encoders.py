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
from pipelines.commands.append import append
from pipelines.config.errors import ConfigError, RunStateError
from pipelines.config.load import load
from pipelines.graph import plan
from pipelines.run import Run
from tests.support.appending import new_vectors
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


def with_second_vectors(dataset: Dataset) -> list[str]:
    """Overrides that import vectors of a second encoder: in each file the rows of the first, longer and mirrored."""
    (dataset.folder / "second/img_emb").mkdir(parents=True)
    for path in (dataset.folder / "data/img_emb").iterdir():
        X = np.load(path)
        np.save(dataset.folder / "second/img_emb" / path.name, np.concatenate([-5 * X, X[:, :3]], axis=1))
    return ["import.encoders=[second]"]


def test_existing_vectors_of_two_encoders_are_clustered_together(dataset: Dataset) -> None:
    second = with_second_vectors(dataset)
    path = dataset.folder / "second/img_emb/img_emb_0.npy"
    X = np.load(path)
    X[7] = 0
    np.save(path, X)
    run = Run(load(dataset.config, [*second, "fit.embeddings=[embedding, embedding_2]"]), local=True)
    assert run.go()
    table = pq.read_table(dataset.root / "features/00000.parquet")
    assert table.column_names[:4] == ["key", "embedding", "embedding_2", "image_shard"]
    keys = table["key"].to_pylist()
    unit = tables.matrix(table["embedding_2"])[keys.index("00009")].astype(np.float64)
    np.testing.assert_allclose(unit, X[9] / np.linalg.norm(X[9].astype(np.float64)), atol=1e-3)
    rejected = pd.read_parquet(dataset.root / "rejected")
    assert rejected[["key", "reason"]].values.tolist() == [["00007", "vector is zero"]]
    assert "00007" not in keys
    assert Head.load(dataset.root / "head.safetensors").in_dim == 16 + 19
    assert json.loads((dataset.root / "scores.json").read_text())["methods"][0]["acc"] == 1


def test_vectors_of_a_second_encoder_that_do_not_fit_are_errors(dataset: Dataset) -> None:
    second = with_second_vectors(dataset)
    first = [step.fingerprints.tolist() for step in plan(load(dataset.config))]
    assert first != [step.fingerprints.tolist() for step in plan(load(dataset.config, second))]
    with pytest.raises(ConfigError, match="fit.embeddings names 'embedding_3', this run has embedding, embedding_2"):
        load(dataset.config, [*second, "fit.embeddings=[embedding_3]"])
    path = dataset.folder / "second/img_emb/img_emb_1.npy"
    np.save(path, np.load(path)[1:])
    run = Run(load(dataset.config, second), ["import"], local=True)
    assert not run.go()
    assert "img_emb_1.npy has 59 rows" in (dataset.root / "run.log").read_text()
    path.unlink()
    with pytest.raises(ConfigError, match="img_emb_1.npy has no partner of number 1 among the vectors_2: add"):
        plan(load(dataset.config, second))


def test_append_refuses_a_run_with_vectors_of_several_encoders(dataset: Dataset) -> None:
    new_vectors(dataset, "more", 2)
    config = load(dataset.config, with_second_vectors(dataset))
    assert Run(config, local=True).go()
    with pytest.raises(RunStateError, match="vectors of several encoders .import.encoders., and append takes those of"):
        append(config, [str(dataset.folder / "more")], str(dataset.folder / "more/images"))
