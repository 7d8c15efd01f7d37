"""An append that is stopped or killed resumes to the same bytes, and only one works at a time."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cpp.store.lease import LockedError
from cpp.store.local import Store
from pipelines.commands import parts
from pipelines.config.load import load
from tests.support.appending import STEPS, append, new_vectors, result_files
from tests.support.datasets import Dataset
from tests.support.runs import call

STOPPING = """
import sys, time
from cpp.store.local import Store
from pipelines.__main__ import app

appear, made = Store._move, [0]

def late(store, written):
    made[0] += any(f"/cache/{sys.argv[1]}/" in target for target in written)
    if made[0] == 5:
        print("NOW", flush=True)
        time.sleep(600)
    appear(store, written)

Store._move = late
app(sys.argv[2:])
"""  # the program with the fifth file of a product, finished and not there yet, at which it is stopped


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in result_files(folder)}


@pytest.mark.slow
def test_an_append_that_is_stopped_and_killed_goes_on_to_the_same_bytes(dataset: Dataset) -> None:
    new = new_vectors(dataset, "new", 2)
    for number in range(1, 8):  # enough of them to be stopped within a step
        for name in ("img_emb/img_emb_{}.npy", "metadata/metadata_{}.parquet", "images/{:05d}.tar"):
            shutil.copy(new / name.format(0), new / name.format(number))  # a link would not be taken twice
    call("run", dataset.config, *STEPS, "--local")
    undisturbed = shutil.copytree(dataset.root, dataset.folder / "undisturbed")
    assert append(dataset, new, more=("--set", f"root={undisturbed}"))[0] == 0
    here, named = dataset.root / "appended", ["--shards", new, "--images", new / "images"]
    command = ["append", dataset.config, "--local", *named]
    for made, number, code in (("codes", signal.SIGINT, 130), ("votes", signal.SIGKILL, -9)):
        program = [sys.executable, "-c", STOPPING, made, *command]
        with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            assert process.stdout is not None
            next(line for line in process.stdout if "NOW" in line)
            process.send_signal(number)
            rest = process.stdout.read()
        assert process.returncode == code, rest
        assert len(list((here / "cache" / made).iterdir())) == 4
    assert "appended: stopped; run the same command again" in call("status", dataset.config)[1]
    code, said = append(dataset, new)
    assert code == 0, said
    assert "appended already, as append 1" in said
    assert contents(here) == contents(undisturbed / "appended")


def test_two_appends_at_once_are_refused(dataset: Dataset) -> None:
    new = new_vectors(dataset, "new", 2)
    call("run", dataset.config, *STEPS, "--local")
    with Store(dataset.root / "appended").lock():
        code, said = append(dataset, new)
    assert code == 2
    assert "another run is writing to" in said
    assert parts.recorded(load(dataset.config)) == []
    one, other = parts.Batch(shards=["one"]), parts.Batch(shards=["other"])
    parts.save_record(load(dataset.config), [], [one])
    with pytest.raises(LockedError, match="something else was appended to .* just now: run the same command again"):
        parts.save_record(load(dataset.config), [], [other])
    assert parts.recorded(load(dataset.config)) == [one]
