"""What breaks at scale, each broken on purpose: afterwards the tables are those of an undisturbed run.

Workers and nodes that end are in `test_ray` and `test_cluster`, files and folders in `test_run` and `test_store`.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from cpp.store import Product, Store
from cpp.tables import Counts
from pipelines import events
from pipelines.config import load
from pipelines.plan import Task
from pipelines.run import Run
from pipelines.runner import Pool
from pipelines.settings import Resources
from pipelines.stage import Given, Stage, Work
from tests.conftest import Dataset
from tests.test_run import computed, files, go

GIVEN = Given({}, threads=1, device="cpu", batch=8, image_batch=8, prefetch=1)
PRODUCT = Product("copy", ".txt")


@dataclass(frozen=True)
class Breaking(Stage):
    """Copies its shard's name. One shard takes all memory the first time; one ends its worker every time."""

    version = 1
    products = (PRODUCT,)
    each = ("text",)
    whole = ()
    folder: str
    hungry: str = ""
    poisoned: str = ""

    def open(self, given: Given) -> Work:
        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            name, mark = files["text"], Path(self.folder) / "ate"
            out["copy"].write_text(name)
            if name == self.poisoned:
                os.kill(os.getpid(), signal.SIGKILL)
            if name == self.hungry and not mark.exists():
                mark.touch()
                eaten = []
                for _ in range(40):
                    eaten.append(np.ones(2**25))  # 256 MiB
                    time.sleep(0.1)
                time.sleep(10)
            return Counts(1, 1)

        return work


@pytest.fixture(autouse=True)
def by_value() -> Iterator[None]:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def tasks(store: Store, step: str, n: int) -> list[Task]:
    names = [f"s{i}" for i in range(n)]
    return [Task(step, s, "k", {"text": s}, {"copy": str(store.path(PRODUCT, s, step))}) for s in names]


def test_a_worker_that_takes_all_memory_is_ended_and_its_shard_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's monitor ends it, with the threshold 1 GiB above what the machine uses now."""
    memory = {line.split(":")[0]: int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines()}
    threshold = 1 - (memory["MemAvailable"] - 2**20) / memory["MemTotal"]
    if memory["MemAvailable"] < 4 * 2**20 or threshold <= 0:
        pytest.skip("less than 4 GiB of memory are free")
    monkeypatch.setenv("RAY_memory_usage_threshold", f"{threshold:.4f}")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    store, lines = Store(tmp_path / "store"), list[str]()
    todo = tasks(store, "memory", 4)
    with Pool(store, Resources(workers=1), lines.append) as pool:
        results = list(pool.results(Breaking(str(tmp_path), hungry="s2"), GIVEN, todo))
    assert [r.error for r in results] == [None] * 4
    assert [Path(task.outputs["copy"]).read_text() for task in todo] == ["s0", "s1", "s2", "s3"]
    assert any("memory s2: lost with its worker" in line for line in lines)


def test_one_poisoned_shard_among_a_thousand_is_named_and_the_others_are_done(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    todo = tasks(store, "poison", 1000)
    with Pool(store, Resources(workers=2)) as pool:
        results = list(pool.results(Breaking(str(tmp_path), poisoned="s500"), GIVEN, todo))
    assert [r.shard for r in results if r.error] == ["s500"]
    assert {r.shard for r in results} == {task.shard for task in todo}
    assert sum(Path(task.outputs["copy"]).exists() for task in todo) == 999


def test_mending_one_of_a_thousand_shards_redoes_what_depends_on_it(dataset: Dataset) -> None:
    rng = np.random.default_rng(3)
    for old in (*dataset.folder.glob("data/img_emb/*"), *dataset.folder.glob("data/metadata/*")):
        old.unlink()
    for i in range(1000):
        np.save(dataset.folder / f"data/img_emb/img_emb_{i}.npy", rng.standard_normal((3, 16)).astype(np.float16))
        about = {"key": [f"{i}-{j}" for j in range(3)], "label": [0, 1, 2]}
        pq.write_table(pa.table(about), dataset.folder / f"data/metadata/metadata_{i}.parquet")
    alone = ("import.images=null", "fit={recipe: discriminant}")
    bad = dataset.folder / "data/img_emb/img_emb_617.npy"
    good = bad.read_bytes()
    bad.write_bytes(b"poison")
    first = go(dataset, *alone, names=["project"])
    assert computed(first) == {"import": 999}
    assert [(r.shard, str(r.error).split(":")[0]) for r in first.outcomes["import"].failed] == [("00617", "ValueError")]
    assert first.outcomes["import"].counts == Counts(2997, 2997, 0)
    bad.write_bytes(good)
    assert computed(go(dataset, *alone, names=["project"])) == {"import": 1, "fit": 1, "project": 1000}
    shutil.copytree(dataset.root, dataset.folder / "mended")
    other = f"root={dataset.folder / 'other'}"
    assert go(dataset, *alone, other, names=["project"]).outcomes["project"].counts == Counts(3000, 3000, 0)
    assert files(dataset.folder / "mended") == files(dataset.folder / "other")


def test_results_do_not_depend_on_clocks(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results from nodes whose clocks are a century off, a driver in 1970, inputs from the future."""
    go(dataset)
    before = files(dataset.root)
    results = [path for path in (dataset.root / "cache").rglob("*") if path.is_file()]
    for i, path in enumerate(results):
        os.utime(path, (4e9, 4e9) if i % 2 else (0, 0))
    monkeypatch.setattr(events, "now", lambda: "1970-01-01T00:00:00.000+00:00")
    assert computed(go(dataset)) == {}
    assert files(dataset.root) == before
    for path in dataset.folder.glob("data/img_emb/*"):
        os.utime(path, (4e9, 4e9))
    assert computed(go(dataset))["import"] == 3  # it may be another file
    assert files(dataset.root) == before


def test_a_driver_that_is_killed_and_then_interrupted_goes_on_where_it_was(dataset: Dataset) -> None:
    """With Ray: SIGKILL of the driver, then Ctrl-C, which all processes of a terminal get."""
    program = [sys.executable, "-m", "pipelines", "run", str(dataset.config)]
    for when, number, code, state in (
        ("import 0000", signal.SIGKILL, -9, "running"),
        ("assign 0000", signal.SIGINT, 130, "interrupted"),
    ):
        with subprocess.Popen(
            program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        ) as process:
            assert process.stdout is not None
            said = ""
            for line in process.stdout:
                said += line
                if when in line:
                    if number == signal.SIGINT:
                        os.killpg(process.pid, number)
                    else:
                        process.send_signal(number)
                    break
            rest = process.stdout.read()
        assert process.returncode == code, said + rest
        assert "Traceback" not in rest
        assert json.loads((dataset.root / "run.json").read_text())["state"] == state
    last = Run(load(dataset.config), local=True)
    assert last.go()
    assert last.outcomes["import"].reused == 3
    other = dataset.folder / "other"
    assert Run(load(dataset.config, [f"root={other}"]), local=True).go()
    assert files(dataset.root) == files(other)
    assert json.loads((dataset.root / "run.json").read_text())["totals"]["clustered"] == dataset.rows
