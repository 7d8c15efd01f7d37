"""Attention on the page: for the pictures shown alone, kept for later runs, and a sentence where there is none."""

import json
import re
from collections.abc import Iterator

import numpy as np
import open_clip
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from cpp.encoding import pretrained
from pipelines.config.errors import ConfigError
from pipelines.config.load import load
from pipelines.run import Run
from pipelines.stages import attention as stage
from tests.support.datasets import TINY, Dataset
from tests.support.runs import computed

SHOWN = 4 * 16  # pictures of four clusters


@pytest.fixture(scope="module")
def finer(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides that take a model with 6 x 6 patches, and show its attention."""
    folder = tmp_path_factory.mktemp("finer")
    config = {**TINY, "vision_cfg": {**TINY["vision_cfg"], "patch_size": 8}}
    (folder / "cpp-finer.json").write_text(json.dumps(config))
    pretrained.register(str(folder))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = open_clip.create_model("cpp-finer").state_dict()
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, folder / "finer.safetensors")
    model = f"encode={{model: cpp-finer, pretrained: {folder / 'finer.safetensors'}, configs: {folder}}}"
    return [model, "report.attention=true", "label=null", "evaluate=null"]


def go(dataset: Dataset, overrides: list[str]) -> Run:
    run = Run(load(dataset.config, overrides), local=True)
    assert run.go()
    return run


def test_pictures_on_the_page_have_the_attention_of_the_class_token(pictures: Dataset, finer: list[str]) -> None:
    go(pictures, finer)
    table = pd.read_parquet(pictures.root / "attention")
    shown = pd.read_parquet(pictures.root / "examples.parquet")
    assert sorted(table["key"]) == sorted(shown["key"])
    assert len(table) == SHOWN
    assert (table[["width", "height", "rows", "columns"]] == [32, 24, 6, 6]).all(axis=None)
    for row in table.itertuples():
        assert max(row.attention) == 255
        assert np.allclose(row.view, [1 / 8, 0, 7 / 8, 1], atol=0.02)  # the square in the middle
    html = (pictures.root / "report.html").read_text()
    assert html.count('id="attention"') == 1
    assert len(re.findall(r'<svg class="heat-map"', html)) >= SHOWN  # those in pairs of clusters too
    assert "that of its class token in the last layer" in html
    assert "not why a picture is in its cluster" in html


def test_maps_are_computed_once(pictures: Dataset, finer: list[str]) -> None:
    go(pictures, finer)
    assert computed(go(pictures, [*finer, "name=other"])) == {"report": 1, "plots": 1, "map_page": 1}
    assert computed(go(pictures, finer[:1] + finer[2:])) == {"report": 1}  # a page without them
    assert 'class="heat-map"' not in (pictures.root / "report.html").read_text()


def test_an_encoder_without_attention_gets_a_sentence(pictures: Dataset) -> None:
    go(pictures, ["report.attention=true", "label=null", "evaluate=null"])
    html = (pictures.root / "report.html").read_text()
    assert "There is no attention to show for cpp-run: its 3 x 3 places are too few for a heat map." in html
    assert 'id="attention"' not in html
    assert pd.read_parquet(pictures.root / "attention").empty


def test_a_picture_that_cannot_be_read_any_more_has_no_map(
    pictures: Dataset, finer: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = stage.iter_images

    def damaged(shard: str, keys: list[str]) -> Iterator[tuple[str, bytes]]:
        yield from ((key, data if i else data[:300]) for i, (key, data) in enumerate(read(shard, keys)))

    monkeypatch.setattr(stage, "iter_images", damaged)
    go(pictures, finer)
    n_shards = pd.read_parquet(pictures.root / "examples.parquet")["image_shard"].nunique()
    assert len(pd.read_parquet(pictures.root / "attention")) == SHOWN - n_shards


def test_a_run_that_shows_no_pictures_refuses(pictures: Dataset) -> None:
    with pytest.raises(ConfigError, match=r"report.attention is true, and this run shows no pictures"):
        load(pictures.config, ["report={images: false, attention: true}"])


def test_a_run_from_vectors_refuses(dataset: Dataset) -> None:
    with pytest.raises(ConfigError, match=r"report.attention is true, and this run starts from vectors"):
        load(dataset.config, ["report.attention=true"])
