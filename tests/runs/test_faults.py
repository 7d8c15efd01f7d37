"""Faults of storage: a full disk, cut off files, changing inputs, wrong clocks."""

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from threadpoolctl import threadpool_info

from cpp.files.integrity import damage
from cpp.files.tables import Counts
from cpp.store.local import Store
from pipelines.commands import terminal
from pipelines.config.load import load
from pipelines.engine import row_counts
from pipelines.engine.executor import OpenError, run_in_process, run_task
from pipelines.engine.plan import Task
from pipelines.engine.stage import Context, Work
from pipelines.run import AccountingError, Run
from pipelines.stages.drift import Fitted
from tests.support.datasets import Dataset, write_dataset
from tests.support.runs import computed, files, go


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A finished run, which tests restore."""
    dataset = write_dataset(tmp_path_factory.mktemp("done"))
    assert go(dataset).ok
    return dataset


def test_cut_off_files_are_detected(done: Dataset, tmp_path: Path) -> None:
    kinds = set()
    for path in (done.root / "cache").rglob("*"):
        if path.suffix not in {".parquet", ".safetensors", ".json", ".html"}:
            continue
        assert damage(str(path)) is None, path
        data = path.read_bytes()
        for size in (0, 5, len(data) // 2, len(data) - 9):
            (tmp_path / f"cut{path.suffix}").write_bytes(data[:size])
            assert damage(str(tmp_path / f"cut{path.suffix}")), (path, size)
        kinds.add(path.suffix)
    assert len(kinds) == 4


def test_cut_off_files_of_steps_that_run_once_are_recomputed(done: Dataset) -> None:
    before = files(done.root)
    products = ("head", "clusters", "report", "map")
    for product in products:
        (path,) = (done.root / "cache" / product).iterdir()
        data = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(data[: len(data) // 2])
    assert computed(go(done)) == {"fit": 1, "label": 1, "report": 1, "map_points": 1}
    assert (done.root / "run.log").read_text().count("is damaged (it is cut off or overwritten") == len(products)
    assert files(done.root) == before
    assert computed(go(done)) == {}


def test_cut_off_shards_are_recomputed(done: Dataset) -> None:
    before = files(done.root)
    for product, shard in (("codes", "00001"), ("codes", "00002"), ("assignments", "00000"), ("likeness", "00001")):
        (path,) = (done.root / "cache" / product).glob(f"{shard}-*")
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-20])
    (original,) = (done.root / "cache/votes").glob("00002-*")
    data = original.read_bytes()
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    original.chmod(0o644)
    original.write_bytes(data[:footer] + 8 * b"\xff" + data[footer + 8 :])  # the magic bytes at both ends stay
    assert computed(go(done)) == {"project": 2, "assign": 1, "vote": 2}
    damaged = re.findall(
        r"/cache/(codes|assignments|likeness)/(\d+)-\S+ is damaged", (done.root / "run.log").read_text()
    )
    assert damaged == [("codes", "00001"), ("codes", "00002"), ("assignments", "00000"), ("likeness", "00001")]
    assert files(done.root) == before
    os.truncate(done.root / "run.json", 9)
    assert next(terminal.state(load(done.config))).endswith("never started")
    assert computed(go(done)) == {}


def test_a_shard_that_is_damaged_again_is_named_with_the_fix(done: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(path: str) -> NoReturn:
        raise ValueError(f"{path} cannot be read")

    monkeypatch.setattr(row_counts, "read_counts", unreadable)
    with pytest.raises(AccountingError, match=r"import: .*00000-.* is damaged .* and 5 more\. Remove it and run again"):
        go(done)


@pytest.mark.parametrize(
    ("lost", "says"), [("assignments", "assign 00001: FAILED:"), ("moments", "measure all: FAILED:")]
)
def test_a_file_with_a_flipped_bit_is_named_when_it_is_read(
    dataset: Dataset, capsys: pytest.CaptureFixture[str], lost: str, says: str
) -> None:
    """Read by a step of shards, and by one that takes all shards."""
    go(dataset)
    before = files(dataset.root)
    (path,) = (dataset.root / "cache/codes").glob("00001-*")
    code = pq.read_metadata(path).row_group(0).column(1)
    at, original = code.data_page_offset + code.total_compressed_size // 2, path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(original[:at] + bytes([original[at] ^ 1]) + original[at + 1 :])
    for result in (dataset.root / "cache" / lost).iterdir():
        result.unlink()
    assert not go(dataset).ok
    (message,) = [line for line in capsys.readouterr().out.splitlines() if says in line]
    assert f"{path} is damaged (" in message
    assert "Remove it and run again" in message
    path.unlink()
    assert go(dataset).ok
    assert files(dataset.root) == before


def test_a_changed_shard_is_recomputed_with_its_dependents(dataset: Dataset) -> None:
    go(dataset)
    path = dataset.folder / "data/img_emb/img_emb_1.npy"
    np.save(path, -np.load(path))
    done = computed(go(dataset))
    assert done["import"] == 1
    assert done["fit"] == 1
    assert done["project"] == 3  # the head is another


def test_a_deleted_shard_disappears_from_the_results(dataset: Dataset) -> None:
    go(dataset)
    for path in ("img_emb/img_emb_2.npy", "metadata/metadata_2.parquet"):
        (dataset.folder / "data" / path).unlink()
    (dataset.folder / "data/images/00002.tar").unlink()
    done = computed(go(dataset))
    assert "import" not in done
    assert done["project"] == 2
    assert sorted(p.name for p in (dataset.root / "assignments").iterdir()) == ["00000.parquet", "00001.parquet"]
    assert json.loads((dataset.root / "run.json").read_text())["totals"]["images"] == 120


def test_times_of_result_files_do_not_matter(done: Dataset) -> None:
    for i, path in enumerate(sorted((done.root / "cache").rglob("*"))):
        os.utime(path, (4e9, 4e9) if i % 2 else (1, 1))
    assert computed(go(done)) == {}


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "full"), "no space left in .*cache/tmp .*free some and run the same command again"),
        (OSError(errno.EDQUOT, "quota"), "no space left in .*cache/tmp .*free some and run the same command again"),
        (ValueError("https://me:hidden@host is bad"), r"ValueError: https://\*\*\*@host is bad$"),
        (KeyError("word"), "KeyError: 'word'$"),
        (None, "RuntimeError: rows do not add up: 3 in, 1 out, 1 rejected$"),
    ],
)
def test_a_failed_task_has_a_reason_and_leaves_no_files(tmp_path: Path, error: Exception | None, message: str) -> None:
    def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
        out["made"].write_text("made")
        if error:
            raise error
        return Counts(3, 1, 1)

    broken = tmp_path / "metadata.parquet"  # an input, so no message says to remove it
    broken.write_text("broken")
    task = Task("step", "a", "k", {"metadata": str(broken)}, {"made": str(tmp_path / "run/cache/made/a-k.txt")})
    result = run_task(work, task, Store(tmp_path / "run"))
    assert re.match(message, (result.error or "").removeprefix("OSError: "))
    assert "Traceback" in (result.traceback or "")
    assert "hidden" not in f"{result.error}{result.traceback}"
    assert not list((tmp_path / "run").rglob("*.txt"))
    ours = tmp_path / "run/cache/codes/a-k.parquet"
    ours.parent.mkdir()
    ours.write_text("broken")
    result = run_task(work, replace(task, files={"codes": str(ours)}), Store(tmp_path / "run"))
    assert isinstance(error, OSError) or f"{ours} is damaged: " in (result.error or "")
    assert type(error or RuntimeError()).__name__ in (result.traceback or "")  # with its cause


def test_a_stage_gets_its_threads_and_its_open_error_has_no_credentials(
    tmp_path: Path,
) -> None:
    class Closed(Fitted):
        def open(self, context: Context) -> Work:
            raise FileNotFoundError("https://me:hidden@host is not there")

    with pytest.raises(OpenError, match=r"FileNotFoundError: https://\*\*\*@host is not there") as raised:
        list(run_in_process(Closed(), Context({}, 2, "cpu", 1, 1, 1), [], Store(tmp_path)))
    assert torch.get_num_threads() == 2
    assert {library["num_threads"] for library in threadpool_info()} == {2}
    assert "hidden" not in str(raised.value)


@pytest.mark.slow
def test_a_full_disk_fails_the_shard_and_the_next_run_resumes(dataset: Dataset) -> None:
    """RLIMIT_FSIZE simulates a full disk: a write past the limit fails."""
    command = [sys.executable, "-m", "pipelines", "run", str(dataset.config), "import", "--local"]
    full = subprocess.run(["prlimit", "--fsize=4096", *command], capture_output=True, text=True, check=False)
    assert full.returncode == 1, full.stderr
    assert "no space left in" in full.stdout
    assert "free some and run the same command again" in full.stdout
    assert not list((dataset.root / "cache" / "tmp").glob("*"))
    small = [path.name[:5] for path in (dataset.root / "cache/features").iterdir()]
    assert small == ["00002"]  # which fits
    again = Run(load(dataset.config), ["import"], local=True)
    assert again.go()
    assert again.outcomes["import"].reused == 1
