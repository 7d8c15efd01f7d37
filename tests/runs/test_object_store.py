"""Whole runs with the run folder on an object store: the bytes of a run on a disk, whatever happens meanwhile."""

import itertools
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cpp.files import filesystem
from pipelines.__main__ import app
from pipelines.config.load import load
from pipelines.run import Run
from tests.support.datasets import Dataset
from tests.support.leases import PROGRAM
from tests.support.object_store import Fault, ObjectStore
from tests.support.runs import files

ROOT = "root=s3://bucket/run"
LOGS = ("bucket/run/run.json", "bucket/run/run.log", "bucket/run/events.jsonl", "bucket/run/cache/lease/")


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, dict[str, bytes]]:
    """A data set, and what a run of it on a disk shows."""
    from tests.support.datasets import write_dataset

    dataset = write_dataset(tmp_path_factory.mktemp("on-disk"))
    dataset.config.write_text(dataset.config.read_text().replace("workers: 1", "workers: 2"))
    assert Run(load(dataset.config), local=True).go()
    return dataset, files(dataset.root)


def shown(folder: Path) -> dict[str, bytes]:
    """What a person opens of the run in the bucket."""
    fs, name = filesystem.connect("s3://bucket/run")
    fs.get(f"{name}/", f"{folder}/", recursive=True)
    return files(folder)


@pytest.mark.slow
def test_a_slow_and_failing_s3_changes_no_byte(
    on_disk: tuple[Dataset, dict[str, bytes]], s3: ObjectStore, tmp_path: Path
) -> None:
    dataset, expected = on_disk
    number = itertools.count()
    faults: dict[int, Fault] = {7: "500", 13: "503", 19: 0.2}

    s3.fault = lambda method, path: faults.get(next(number) % 101)
    assert Run(load(dataset.config, [ROOT])).go()  # on Ray
    s3.reset()
    assert shown(tmp_path) == expected
    assert '<th scope="row">thumbnails</th>' in (tmp_path / "report.html").read_text()  # which is told from the log
    s3.requests.clear()
    assert Run(load(dataset.config, [ROOT]), local=True).go()
    changes = [path.lstrip("/") for method, path in s3.requests if method in ("PUT", "DELETE", "POST")]
    assert [path for path in changes if not path.startswith(LOGS)] == []
    output = CliRunner().invoke(app, ["status", str(dataset.config), "--set", ROOT]).output
    assert output.startswith("Coloured things: done")
    fs = filesystem.connect("s3://bucket")[0]
    for path in fs.find("bucket/run"):
        for secret in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            assert s3.environment[secret].encode() not in fs.cat_file(path), path


@pytest.mark.slow
def test_a_killed_run_leaves_no_partial_results_and_is_resumed(
    on_disk: tuple[Dataset, dict[str, bytes]], s3: ObjectStore, impatient: None, tmp_path: Path
) -> None:
    dataset, expected = on_disk
    program = [sys.executable, "-c", PROGRAM, "run", dataset.config, "--local", "--set", ROOT]
    s3.fault = lambda method, path: 600.0 if method == "PUT" and "/cache/assignments/00001" in path else None
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        while not any("/cache/assignments/00001" in path for _, path in s3.requests):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    s3.settle()
    s3.reset()
    output = CliRunner().invoke(app, ["status", str(dataset.config), "--set", ROOT]).output
    assert output.startswith("Coloured things: stopped")
    again = Run(load(dataset.config, [ROOT]), local=True)
    assert again.go()
    assert again.outcomes["project"].reused == 3
    assert shown(tmp_path / "shown") == expected
