"""Whole runs with decisions: on Ray, in a bucket and with layers finer than the main one, against a run on a disk."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from cpp.files import filesystem
from pipelines.config.load import load
from pipelines.run import Run
from tests.support.datasets import Dataset, write_dataset
from tests.support.deciding import main_clusters, refer, write
from tests.support.object_store import ObjectStore
from tests.support.runs import call, files

pytestmark = pytest.mark.slow


def decisions(dataset: Dataset) -> Path:
    """A file with a merge, a split, a drop and a name."""
    return write(
        dataset,
        "decisions.yaml",
        {"action": "merge", "clusters": [refer(dataset, 1), refer(dataset, 2)]},
        {"action": "split", "clusters": [refer(dataset, 0)]},
        {"action": "drop", "clusters": [refer(dataset, 3)]},
        {"action": "rename", "clusters": [refer(dataset, 1)], "name": "plant"},
    )


class Decided(NamedTuple):
    """A run, a copy of its folder without decisions, their file, and what the run shows without and with them."""

    dataset: Dataset
    undecided: Path
    decisions: Path
    before: dict[str, bytes]
    after: dict[str, bytes]


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> Decided:
    """The decisions are undone."""
    folder = tmp_path_factory.mktemp("decided")
    dataset = write_dataset(folder)
    assert Run(load(dataset.config), local=True).go()
    shutil.copytree(dataset.root, folder / "undecided")
    before, file = files(dataset.root), decisions(dataset)
    status, output = call("decide", dataset.config, file, "--local")
    assert status == 0, output
    after = files(dataset.root)
    assert call("decide", dataset.config, "--undo", "--local")[0] == 0
    assert files(dataset.root) == before
    return Decided(dataset, folder / "undecided", file, before, after)


@pytest.mark.ray
def test_a_ray_pool_applies_and_undoes_decisions_with_the_same_bytes(decided: Decided, tmp_path: Path) -> None:
    dataset, undecided, file, before, after = decided
    root = tmp_path / "run"
    shutil.copytree(undecided, root)
    status, output = call("decide", dataset.config, file, "--set", f"root={root}")
    assert status == 0, output
    assert files(root) == after
    status, output = call("decide", dataset.config, "--undo", "--set", f"root={root}")
    assert status == 0, output
    assert files(root) == before


def test_a_run_in_a_bucket_is_decided_and_undone_there(decided: Decided, s3: ObjectStore, tmp_path: Path) -> None:
    dataset, _, file, before, after = decided
    in_bucket = ("--set", "root=s3://bucket/run", "--local")

    def shown(name: str) -> dict[str, bytes]:
        filesystem.connect("s3://bucket")[0].get("bucket/run/", f"{tmp_path / name}/", recursive=True)
        return files(tmp_path / name)

    status, output = call("run", dataset.config, *in_bucket)
    assert status == 0, output
    status, output = call("decide", dataset.config, file, *in_bucket)
    assert status == 0, output
    assert shown("after") == after
    status, output = call("decide", dataset.config, "--undo", *in_bucket)
    assert status == 0, output
    assert shown("before") == before
    status, output = call("decide", dataset.config, "--undo", *in_bucket)
    assert (status, "no decisions are recorded" in output) == (2, True)


def test_finer_layers_follow_merges_and_splits(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path)
    assert Run(load(dataset.config, ["partition.layers=[2, 8]"]), local=True).go()
    before = files(dataset.root)
    assert sorted(pd.read_parquet(dataset.root / "clusters.parquet")["layer"].unique()) == [2, 4, 8]
    status, output = call("decide", dataset.root, decisions(dataset), "--local")
    assert status == 0, output
    clusters = pd.read_parquet(dataset.root / "clusters.parquet")
    counts = clusters.groupby(["layer", "main"]).size()
    assert counts.to_dict() == {(2, False): 2, (4, True): 4, (8, False): 8}
    finest, main = clusters[clusters["layer"] == 8], main_clusters(dataset)
    assert set(finest["parent"]) == set(main.index)
    assert finest.groupby("parent")["size"].sum().to_dict() == main["size"].to_dict()
    assert np.isin(main["parent"], clusters.loc[clusters["layer"] == 2, "cluster"]).all()
    assert main["title"].eq("plant").sum() == 1
    status, output = call("decide", dataset.root, "--undo", "--local")
    assert status == 0, output
    assert files(dataset.root) == before
