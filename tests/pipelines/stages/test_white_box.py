"""A run with a CRATE encoder measures what its blocks do, and shows it. Clusters are named by another encoder."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from cpp.encoding.crate import ALPHA, FIRST, Crate, Shape
from cpp.files import tables
from pipelines.config.load import load
from pipelines.graph import fitted
from pipelines.run import Run
from pipelines.stages.schemas import WHITE_BOX
from pipelines.stages.white_box import measure
from tests.support.datasets import Dataset


def crate(variant: str) -> Crate:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Crate(Shape(variant, dim=24, depth=3, heads=3, patch=8, side=32)).eval()


@pytest.mark.parametrize("variant", [FIRST, ALPHA])
def test_measures_equal_their_definitions(variant: str) -> None:
    encoder = crate(variant)
    pixels = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    rows = measure(encoder, pixels.split(2))
    assert [(row["block"], row["images"]) for row in rows] == [(1, 5), (2, 5), (3, 5)]
    with torch.inference_mode():
        steps = list(encoder.steps(pixels))
    for row, step in zip(rows, steps, strict=True):
        for name, projected in (("rate_before", step.before), ("rate", step.after)):
            rates = []
            for W in projected.double().flatten(0, 1).numpy():  # [17 tokens, 8 dimensions] of a head
                unit = W / np.linalg.norm(W, axis=1, keepdims=True)
                rates.append(np.linalg.slogdet(np.eye(17) + 8 / (17 * 0.01) * unit @ unit.T)[1] / 2)
            assert row[name] == pytest.approx(sum(rates) / 5, rel=1e-5)
        assert row["nonzero"] == pytest.approx(float((step.code > 0).float().mean()))


def test_a_run_with_crate_and_a_text_tower(pictures: Dataset, tmp_path: Path) -> None:
    save_file(crate(FIRST).state_dict(), tmp_path / "crate.safetensors")
    config = load(pictures.config)
    named = config.encode.model_dump(exclude={"encoders", "pool"}) if config.encode else {}
    settings = {
        "encode": {"model": "crate/24x3x3", "pretrained": str(tmp_path / "crate.safetensors"), "encoders": [named]},
        "label.embedding": "embedding_2",
    }
    overrides = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    assert Run(load(pictures.config, overrides), local=True).go()

    identity = json.loads(
        (tables.read_schema(str(pictures.root / "features/00000.parquet")).metadata)[b"cpp.embedding"]
    )
    assert identity["model"] == "crate/24x3x3"
    assert len(pq.read_table(pictures.root / "features/00000.parquet")["embedding"][0]) == 24
    assert pq.read_table(pictures.root / "clusters.parquet")["guess"].null_count == 0
    table = pq.read_table(pictures.root / "white_box.parquet")
    assert table.schema == WHITE_BOX
    assert table["block"].to_pylist() == [1, 2, 3]
    assert set(table["images"].to_pylist()) == {pictures.rows}
    page = (pictures.root / "report.html").read_text()
    assert "Inside the encoder" in page
    assert {"rates_embedding.svg", "sparsity_embedding.svg"} <= {p.name for p in (pictures.root / "plots").iterdir()}


def test_a_run_without_crate_has_no_inside_of_the_encoder(dataset: Dataset) -> None:
    assert "white_box" not in fitted(load(dataset.config)).stages
