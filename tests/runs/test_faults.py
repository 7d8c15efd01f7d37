"""Faults of storage, each caused: a full disk, files that are cut off, inputs that change, clocks that are wrong."""

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
from pipelines.commands import status
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
    """A finished run, which tests leave as it was."""
    made = write_dataset(tmp_path_factory.mktemp("done"))
    assert go(made).ok
    return made


def test_files_that_are_cut_off_are_told_from_whole_ones(done: Dataset, tmp_path: Path) -> None:
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


def test_files_of_steps_that_are_cut_off_are_made_again(done: Dataset) -> None:
    before = files(done.root)
    products = ("head", "clusters", "report", "map")
    for product in products:
        (path,) = (done.root / "cache" / product).iterdir()
        data = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(data[: len(data) // 2])
    assert computed(go(done)) == {"fit": 1, "label": 1, "report": 1, "map": 1}
    assert (done.root / "run.log").read_text().count("is damaged (it is cut off or overwritten") == len(products)
    assert files(done.root) == before
    assert computed(go(done)) == {}


def test_shards_that_are_cut_off_are_made_again(done: Dataset) -> None:
    before = files(done.root)
    for product, shard in (("codes", "00001"), ("codes", "00002"), ("assignments", "00000"), ("likeness", "00001")):
        (path,) = (done.root / "cache" / product).glob(f"{shard}-*")
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-20])
    (whole,) = (done.root / "cache/votes").glob("00002-*")
    data = whole.read_bytes()
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    whole.chmod(0o644)
    whole.write_bytes(data[:footer] + 8 * b"\xff" + data[footer + 8 :])  # its ends are as they were
    assert computed(go(done)) == {"project": 2, "assign": 1, "vote": 2}
    said = re.findall(r"/cache/(codes|assignments|likeness)/(\d+)-\S+ is damaged", (done.root / "run.log").read_text())
    assert said == [("codes", "00001"), ("codes", "00002"), ("assignments", "00000"), ("likeness", "00001")]
    assert files(done.root) == before
    os.truncate(done.root / "run.json", 9)
    assert next(status.lines(load(done.config))).endswith("never started")
    assert computed(go(done)) == {}


def test_a_shard_that_is_damaged_once_more_is_named_with_the_remedy(
    done: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(path: str) -> NoReturn:
        raise ValueError(f"{path} cannot be read")

    monkeypatch.setattr(row_counts, "read_counts", unreadable)
    with pytest.raises(AccountingError, match=r"import: .*00000-.* is damaged .* and 5 more\. Remove it and run again"):
        go(done)


@pytest.mark.parametrize(
    ("lost", "says"), [("assignments", "assign 00001: FAILED:"), ("moments", "measure all: FAILED:")]
)
def test_a_file_of_which_one_bit_is_another_is_named_when_it_is_read(
    dataset: Dataset, capsys: pytest.CaptureFixture[str], lost: str, says: str
) -> None:
    """Read by a step of shards, and by one that takes all shards."""
    go(dataset)
    before = files(dataset.root)
    (path,) = (dataset.root / "cache/codes").glob("00001-*")
    code = pq.read_metadata(path).row_group(0).column(1)
    at, whole = code.data_page_offset + code.total_compressed_size // 2, path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    for result in (dataset.root / "cache" / lost).iterdir():
        result.unlink()
    assert not go(dataset).ok
    (said,) = [line for line in capsys.readouterr().out.splitlines() if says in line]
    assert f"{path} is damaged (" in said
    assert "Remove it and run again" in said
    path.unlink()
    assert go(dataset).ok
    assert files(dataset.root) == before


def test_a_shard_that_changes_is_done_again_with_all_that_depends_on_it(dataset: Dataset) -> None:
    go(dataset)
    path = dataset.folder / "data/img_emb/img_emb_1.npy"
    np.save(path, -np.load(path))
    done = computed(go(dataset))
    assert done["import"] == 1
    assert done["fit"] == 1
    assert done["project"] == 3  # the head is another


def test_a_shard_that_is_deleted_leaves_the_results(dataset: Dataset) -> None:
    go(dataset)
    for path in ("img_emb/img_emb_2.npy", "metadata/metadata_2.parquet"):
        (dataset.folder / "data" / path).unlink()
    (dataset.folder / "data/images/00002.tar").unlink()
    done = computed(go(dataset))
    assert "import" not in done
    assert done["project"] == 2
    assert sorted(p.name for p in (dataset.root / "assignments").iterdir()) == ["00000.parquet", "00001.parquet"]
    assert json.loads((dataset.root / "run.json").read_text())["totals"]["images"] == 120


def test_what_clocks_say_of_results_does_not_matter(done: Dataset) -> None:
    for i, path in enumerate(sorted((done.root / "cache").rglob("*"))):
        os.utime(path, (4e9, 4e9) if i % 2 else (1, 1))
    assert computed(go(done)) == {}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "full"), "no space left in .*cache/tmp .*free some and run the same command again"),
        (OSError(errno.EDQUOT, "quota"), "no space left in .*cache/tmp .*free some and run the same command again"),
        (ValueError("https://me:hidden@host is bad"), r"ValueError: https://\*\*\*@host is bad$"),
        (KeyError("word"), "KeyError: 'word'$"),
        (None, "RuntimeError: rows do not add up: 3 in, 1 out, 1 rejected$"),
    ],
)
def test_an_attempt_that_fails_says_why_and_leaves_nothing(tmp_path: Path, error: Exception | None, said: str) -> None:
    def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
        out["made"].write_text("made")
        if error:
            raise error
        return Counts(3, 1, 1)

    broken = tmp_path / "metadata.parquet"  # of the inputs: nobody is told to remove it
    broken.write_text("broken")
    task = Task("step", "a", "k", {"metadata": str(broken)}, {"made": str(tmp_path / "run/cache/made/a-k.txt")})
    found = run_task(work, task, Store(tmp_path / "run"))
    assert re.match(said, (found.error or "").removeprefix("OSError: "))
    assert "Traceback" in (found.traceback or "")
    assert "hidden" not in f"{found.error}{found.traceback}"
    assert not list((tmp_path / "run").rglob("*.txt"))
    ours = tmp_path / "run/cache/codes/a-k.parquet"
    ours.parent.mkdir()
    ours.write_text("broken")
    found = run_task(work, replace(task, files={"codes": str(ours)}), Store(tmp_path / "run"))
    assert isinstance(error, OSError) or f"{ours} is damaged: " in (found.error or "")
    assert type(error or RuntimeError()).__name__ in (found.traceback or "")  # the cause is told as well


def test_a_stage_has_its_threads_and_what_it_says_when_it_cannot_be_opened_is_without_credentials(
    tmp_path: Path,
) -> None:
    class Closed(Fitted):
        def open(self, context: Context) -> Work:
            raise FileNotFoundError("https://me:hidden@host is not there")

    with pytest.raises(OpenError, match=r"FileNotFoundError: https://\*\*\*@host is not there") as found:
        list(run_in_process(Closed(), Context({}, 2, "cpu", 1, 1, 1), [], Store(tmp_path)))
    assert torch.get_num_threads() == 2
    assert {library["num_threads"] for library in threadpool_info()} == {2}
    assert "hidden" not in str(found.value)


@pytest.mark.slow
def test_a_full_disk_fails_the_shard_leaves_nothing_half_and_goes_on_with_room(dataset: Dataset) -> None:
    """RLIMIT_FSIZE stands for the disk: a write past it fails as one without room does."""
    command = [sys.executable, "-m", "pipelines", "run", str(dataset.config), "import", "--local"]
    full = subprocess.run(["prlimit", "--fsize=4096", *command], capture_output=True, text=True, check=False)
    assert full.returncode == 1, full.stderr
    assert "no space left in" in full.stdout
    assert "free some and run the same command again" in full.stdout
    assert list((dataset.root / "cache" / "tmp").iterdir()) == []
    small = [path.name[:5] for path in (dataset.root / "cache/features").iterdir()]
    assert small == ["00002"]  # which fits
    again = Run(load(dataset.config), ["import"], local=True)
    assert again.go()
    assert again.outcomes["import"].reused == 1
