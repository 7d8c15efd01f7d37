"""Commands on a run folder instead of a configuration."""

import json
import shutil
from pathlib import Path

import pytest

from tests.support.datasets import Dataset
from tests.support.exports import finish
from tests.support.runs import call


def test_a_run_folder_has_the_settings_of_its_run(done: Dataset) -> None:
    code, output = call("plan", done.root)
    assert code == 0
    assert "0 of" in output.splitlines()[0]
    assert call("names", done.root)[1] == call("names", done.config)[1]


def test_overrides_apply_to_a_run_folder(done: Dataset) -> None:
    output = call("plan", done.root, "--set", "label.top=3")[1]
    assert "changed since the last run: label.top from 5 to 3" in output


def test_a_moved_run_folder_is_where_it_is_now(mine: Dataset) -> None:
    moved = mine.folder / "moved"
    shutil.move(mine.root, moved)
    code, output = call("run", moved, "--local")
    assert code == 0
    assert f"open {moved}/report.html" in output
    assert not mine.root.exists()


def test_relative_inputs_start_where_the_run_was_started(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.chdir(dataset.folder)
    config = dataset.config.read_text().replace(str(dataset.folder), ".")
    dataset.config.write_text(config)
    finish(dataset)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    code, output = call("plan", dataset.root)
    assert code == 0
    # the page shows the configuration, in which `data` is another text now
    assert output.splitlines()[0] == "Coloured things: 1 of 20 steps have shards to do; the first is report"


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    code, output = call("names", tmp_path)
    assert code == 2
    assert output.strip() == f"{tmp_path}: has no run.json, so it is no run folder: give one, or a YAML file"


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"config": 3}'])
def test_a_damaged_record_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    code, output = call("names", tmp_path)
    assert code == 2
    assert output.startswith(f"{tmp_path}/run.json: cannot be read (")


def test_a_record_with_a_key_that_no_longer_exists_names_it(tmp_path: Path) -> None:
    record = {"config": {"name": "old", "root": "r", "data": ".", "import": {"path": "v"}, "colour": "red"}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    code, output = call("names", tmp_path)
    assert code == 2
    assert f"{tmp_path}: colour: unknown key" in output
    assert output.strip().endswith("made by another version: give its YAML file instead")
