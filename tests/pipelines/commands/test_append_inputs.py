"""Inputs of an append that do not fit the run, changed, are gone, or are appended already."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cpp.sources.table import TableShard
from pipelines.commands import append as appending
from pipelines.commands import parts
from pipelines.config.errors import RunStateError
from pipelines.config.load import load
from tests.support.appending import STEPS, append, new_vectors, rows
from tests.support.datasets import Dataset
from tests.support.runs import call


def test_an_earlier_append_that_does_not_fit_any_more_is_an_error(dataset: Dataset) -> None:
    first, second = new_vectors(dataset, "first", 2), new_vectors(dataset, "second", 1)
    without = ("--set", "import.images=null")
    assert call("run", dataset.config, *STEPS, "--local", *without)[0] == 0
    assert call("append", dataset.config, "--shards", first, "--local", *without)[0] == 0
    assert call("run", dataset.config, *STEPS, "--local")[0] == 0  # the run has images now
    code, said = append(dataset, second)
    assert code == 2
    assert f"append 1, {first}: was appended with images null, and import.images of the run is data/images:" in said
    assert len(rows(dataset.root / "appended/assignments")) == 40
    for kind, name in (("img_emb", "img_emb_3.npy"), ("metadata", "metadata_3.parquet")):
        shutil.copy(next((first / kind).iterdir()), first / kind / name)
    assert call("append", dataset.config, "--shards", first, "--local", *without)[0] == 0  # a file more is appended
    for path in (first / "img_emb/img_emb_3.npy", first / "metadata/metadata_3.parquet"):
        path.unlink()
    code, said = call("append", dataset.config, "--shards", second, "--local", *without)
    assert code == 2
    assert f"append 1, {first}: has 2 files, and had 4 when it was appended" in said


def test_replaced_files_of_an_earlier_append_are_named(dataset: Dataset) -> None:
    new = new_vectors(dataset, "new", 2)
    assert call("run", dataset.config, *STEPS, "--local")[0] == 0
    assert append(dataset, new)[0] == 0
    vectors, metadata = new / "img_emb/img_emb_0.npy", new / "metadata/metadata_0.parquet"
    np.save(vectors, np.load(vectors)[::-1])
    code, output = call("append", dataset.config, "--local")
    assert code == 0
    assert f"append 1, {new}: 1 inputs changed since it was appended, and are read again: {vectors}" in output
    assert "inputs changed" not in call("append", dataset.config, "--local")[1]
    metadata.rename(metadata.with_name("another_0.parquet"))
    code, output = call("append", dataset.config, "--local")
    assert code == 2
    assert f"append 1, {new}: had {metadata} when it was appended; rows would be lost: put it back, or change" in output


def test_replaced_inputs_of_the_run_are_named(dataset: Dataset) -> None:
    new = new_vectors(dataset, "new", 2)
    assert call("run", dataset.config, *STEPS, "--local")[0] == 0
    metadata = dataset.folder / "data/metadata/metadata_1.parquet"
    pq.write_table(pq.read_table(metadata), metadata)
    code, output = append(dataset, new)
    assert code == 2
    output = " ".join(output.split())
    assert "step import has 1 of 2 shards done; new, changed or failed is 00001 (" in output
    assert str(metadata) in output


@pytest.mark.parametrize("option", ["--images", "--shards"])
def test_an_empty_path_is_not_appended(dataset: Dataset, option: str) -> None:
    other = "--shards" if option == "--images" else "--images"
    code, said = call("append", dataset.config, other, "new", option, "")
    assert code == 2
    assert f"{option} is an empty text" in said
    code, said = call("append", dataset.config, f"{option}=")
    assert code == 2
    assert f"{option} is an empty text" in said


def test_a_shard_of_the_run_is_not_appended_and_wrong_use_changes_nothing(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    new = new_vectors(dataset, "new", 2)
    code, said = append(dataset, new)
    assert code == 2
    assert "is not a finished run" in said
    with pytest.raises(RunStateError, match="What makes it: cpp-at-scale run 'my run.yaml'\n"):
        appending.append(load(shutil.copy(dataset.config, "my run.yaml")), [str(new)], None)
    call("run", dataset.config, *STEPS, "--local")
    for args, expected in (
        ((dataset.folder / "data",), "there is nothing to append (2 shards, 00000, 00001, are appended already or"),
        ((new, new), "--shards names 2 folders; a run that starts from `import` takes one at a time"),
        ((dataset.folder / "gone",), f"append 1, {dataset.folder}/gone: the folder"),
        ((), "there is nothing to append: name new shards"),
    ):
        code, said = append(dataset, *args)
        assert code == 2, said
        assert expected in said
    code, said = call("append", dataset.config, "--shards", new, "--local")
    assert code == 2
    assert "with --images" in said
    assert not (dataset.root / "appended").exists()
    (dataset.root / "appended").mkdir()
    (dataset.root / "appended/appended.json").write_text("[{}]")
    code, said = call("append", dataset.config, "--local")
    assert code == 2
    assert "appended.json cannot be read" in said


def test_a_changed_appended_input_is_noticed_and_a_failed_one_is_set_aside(dataset: Dataset) -> None:
    new = new_vectors(dataset, "new", 2)
    call("run", dataset.config, *STEPS, "--local")
    whole = (new / "img_emb/img_emb_0.npy").read_bytes()
    (new / "img_emb/img_emb_0.npy").write_bytes(b"broken")
    code, said = append(dataset, new)
    assert code == 1
    assert "failed: import append-001-00000: ValueError" in said
    code, said = call("export", dataset.config, "--format", "csv", "--local")
    assert code == 2
    assert "is not up to date" in said
    new.rename(new.with_name("gone"))
    code, said = call("append", dataset.config, "--local")
    assert code == 2
    assert f"({dataset.root}/appended/appended.json lists the earlier appends: remove an entry" in said
    new.with_name("gone").rename(new)
    (new / "img_emb/img_emb_0.npy").write_bytes(whole)
    assert call("append", dataset.config, "--local")[0] == 0


def test_a_link_to_a_table_is_the_table(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").touch()
    (tmp_path / "link.parquet").symlink_to("a.parquet")
    shards = [TableShard(str(tmp_path / name), "", 0, 9, "url", True) for name in ("a.parquet", "link.parquet")]
    one, other = map(parts._location, shards)
    assert one == other != parts._location(replace(shards[0], start=5))
