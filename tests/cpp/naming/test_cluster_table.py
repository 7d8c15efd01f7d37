"""Rows of `clusters.parquet`, and the confidence of the label of an image."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import torch

from cpp.clustering.quality import measures
from cpp.naming.cluster_table import CLUSTERS, confidence, layer_table
from cpp.naming.decided import Decided
from cpp.naming.layer_titles import Layer
from cpp.naming.names import EMPTY, Name, Word
from cpp.rate_reduction.coding_rate import Moments

NOT_DECIDED = Decided({}, {}, {})
MEASURES = measures(Moments.of(torch.eye(3), torch.tensor([0, 1, 1]), 2), 0.1)


def layer(names: list[Name] | None) -> pa.Table:
    return layer_table(
        main=True,
        layer=Layer(np.array([1, 2]), [None, 0], names),
        titles=["first", "second"],
        measures=MEASURES,
        captions=[[("sofa", 0.5)], []],
        examples={1: ["b", "c"]},
        small_margin=[0.5, None],
        decided=NOT_DECIDED,
    )


def test_a_row_describes_its_cluster() -> None:
    sure = Name("cat", 0.5, "animal 2", 0.75, "general", 0.5, "dog", 0.25, 0.5, [Word("cat", 3.0, 0.5)], "animal")
    table = layer([sure, replace(EMPTY, guess="car", guess_confidence=0.25, confidence=0.25)])
    first, second = table.to_pylist()
    assert table.schema == CLUSTERS
    assert (first["layer"], first["main"], first["cluster"], first["parent"], first["size"]) == (2, True, 0, None, 1)
    assert (first["title"], first["name"], first["status"], first["confidence"]) == (
        "first",
        "animal 2",
        "general",
        0.75,
    )
    assert (first["guess"], first["guess_confidence"], first["general"]) == ("cat", 0.5, "animal")
    assert (first["runner_up"], first["margin"], first["agree"]) == ("dog", 0.25, 0.5)
    assert first["top"] == [{"word": "cat", "votes": 3.0, "share": 0.5}]
    assert (first["captions"], second["captions"]) == ([{"word": "sofa", "score": 0.5}], [])
    assert (first["examples"], first["small_margin"]) == ([], 0.5)
    assert (second["name"], second["status"], second["guess"], second["top"]) == (None, "unsure", "car", [])
    assert (second["examples"], second["parent"]) == (["b", "c"], 0)


def test_name_columns_are_null_without_a_vocabulary() -> None:
    row = layer(None).to_pylist()[0]
    assert [row[key] for key in ("name", "status", "confidence", "guess", "guess_confidence", "agree")] == [None] * 6
    assert row["top"] == []


def test_confidence_of_a_label_increases_with_its_evidence() -> None:
    no, yes = np.array([False]), np.array([True])
    base = confidence(np.array([0.8]), no)
    assert base.dtype == np.float32
    assert confidence(np.array([0.9]), no) > base
    assert confidence(np.array([0.8]), yes) > base
    ends = confidence(np.array([0.0, 1.0]), np.array([False, True]))
    assert 0 <= ends[0] < 0.01
    assert 0.99 < ends[1] <= 1
