"""The command `append` on Ray, and to a run on an object store: the rows of one on a disk in this process."""

import shutil
from pathlib import Path

import pytest

from cpp.files import filesystem
from tests.support.appending import STEPS, new_vectors, rows
from tests.support.datasets import Dataset
from tests.support.object_store import ObjectStore
from tests.support.runs import call


@pytest.fixture
def new(dataset: Dataset) -> list[Path]:
    """Two folders of new shards, beside a data set of one."""
    return [new_vectors(dataset, "first", 2), new_vectors(dataset, "second", 1)]


def append(dataset: Dataset, folder: Path, *more: object) -> str:
    code, output = call("append", dataset.config, "--shards", folder, "--images", folder / "images", *more)
    assert code == 0, output
    return output


@pytest.mark.slow
def test_appending_on_ray_and_s3_equals_appending_on_a_disk(
    dataset: Dataset, new: list[Path], s3: ObjectStore, tmp_path: Path
) -> None:
    root = ("--set", "root=s3://bucket/run")
    assert call("run", dataset.config, *STEPS, "--local")[0] == 0
    filesystem.connect("s3://bucket")[0].put(f"{dataset.root}/", "bucket/run/", recursive=True)
    shutil.copytree(dataset.root, tmp_path / "ray")
    for folder in new:
        append(dataset, folder, "--local")
    expected = rows(dataset.root / "appended/assignments")
    assert len(expected) == 100
    append(dataset, new[0], "--set", f"root={tmp_path}/ray")
    assert rows(tmp_path / "ray/appended/assignments") == {k: v for k, v in expected.items() if k.startswith("2")}
    append(dataset, new[0], "--local", *root)
    assert "100 images appended to 60" in append(dataset, new[1], *root)  # on Ray
    fs = filesystem.connect("s3://bucket")[0]
    fs.get("bucket/run/appended/", f"{tmp_path}/s3/", recursive=True)
    assert rows(tmp_path / "s3/assignments") == expected
    assert {path.name for path in (tmp_path / "s3").iterdir()} >= {"appended.json", "growth.json", "report.html"}
    output = call("append", dataset.config, "--shards", new[1], "--images", new[1] / "images", "--local", *root)[1]
    assert "appended already, as append 2" in output
    assert "Coloured things, appended: done" in call("status", dataset.config, *root)[1]
    assert "160 of 160 images" in call("export", dataset.config, "--format", "csv", "--local", *root)[1]
