"""The runner on real Ray: the same bytes as without it, and workers that die."""

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import ray
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from cpp.store import Product, Store
from cpp.tables import Counts
from pipelines.attempt import OpenError
from pipelines.config import ConfigError, load
from pipelines.plan import Task
from pipelines.run import Run
from pipelines.runner import Pool
from pipelines.settings import Resources
from pipelines.stage import Given, Stage, Work
from tests.conftest import Dataset
from tests.test_run import files

GIVEN = Given({}, threads=1, device="cpu", batch=8, image_batch=8, prefetch=1)
PRODUCT = Product("copy", ".txt")


@dataclass(frozen=True)
class Fragile(Stage):
    """Writes its shard's name; kills its own worker half-way on some shards, and raises or cannot be opened."""

    version = 1
    products = (PRODUCT,)
    each = ("text",)
    whole = ()
    folder: str
    lethal: tuple[str, ...] = ()
    deaths: int = 1
    raises: str = ""
    closed: bool = False

    def open(self, given: Given) -> Work:
        if self.closed:
            raise FileNotFoundError("the weights are not there")

        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            name = files["text"]
            out["copy"].write_text(f"half of {name}")
            if name == self.raises:
                raise ValueError(f"{name} is bad")
            marks = Path(self.folder) / f"deaths-{name}"
            if name in self.lethal and (not marks.exists() or len(marks.read_text()) < self.deaths):
                with marks.open("a") as file:
                    file.write("x")
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.05)
            out["copy"].write_text(name)
            return Counts(1, 1)

        return work


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Pool, Store]]:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    store = Store(tmp_path_factory.mktemp("store"))
    with Pool(store, Resources(workers=2)) as made:
        yield made, store
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def tasks(store: Store, step: str, n: int = 8) -> list[Task]:
    names = [f"s{i}" for i in range(n)]
    return [Task(step, s, "k", {"text": s}, {"copy": str(store.path(PRODUCT, s, step))}) for s in names]


def test_a_killed_worker_is_replaced_and_its_shard_made_whole(pool: tuple[Pool, Store], tmp_path: Path) -> None:
    workers, store = pool
    todo = tasks(store, "once")
    results = list(workers.results(Fragile(str(tmp_path), lethal=("s2",)), GIVEN, todo))
    assert sorted(r.shard for r in results if r.error is None) == [t.shard for t in todo]
    assert [Path(t.outputs["copy"]).read_text() for t in todo] == [t.shard for t in todo]
    assert (tmp_path / "deaths-s2").read_text() == "x"


def test_a_shard_that_kills_three_times_is_given_up_and_the_rest_finish(
    pool: tuple[Pool, Store], tmp_path: Path
) -> None:
    workers, store = pool
    results = list(workers.results(Fragile(str(tmp_path), lethal=("s1",), deaths=99), GIVEN, tasks(store, "poison")))
    assert {r.shard for r in results if r.error is None} == {f"s{i}" for i in range(8)} - {"s1"}
    (lost,) = [r for r in results if r.error]
    assert lost.shard == "s1"
    assert "given up: it ended its worker 3 times" in str(lost.error)
    assert (tmp_path / "deaths-s1").read_text() == "xxx"
    assert not Path(store.path(PRODUCT, "s1", "poison")).exists()


def test_an_exception_is_not_tried_again(pool: tuple[Pool, Store], tmp_path: Path) -> None:
    workers, store = pool
    results = list(workers.results(Fragile(str(tmp_path), raises="s3"), GIVEN, tasks(store, "raises")))
    assert len(results) == 8
    (bad,) = [r for r in results if r.error]
    assert bad.error == "ValueError: s3 is bad"
    assert "Traceback" in str(bad.traceback)


def test_a_stage_that_cannot_be_opened_fails_at_once_with_its_cause(pool: tuple[Pool, Store], tmp_path: Path) -> None:
    workers, store = pool
    with pytest.raises(OpenError, match="FileNotFoundError: the weights are not there"):
        list(workers.results(Fragile(str(tmp_path), closed=True), GIVEN, tasks(store, "closed")))
    assert len(list(workers.results(Fragile(str(tmp_path)), GIVEN, tasks(store, "after")))) == 8


@dataclass(frozen=True)
class Joined(Stage):
    """Adds up the numbers of its ranks; the second one raises, or is killed so many times."""

    version = 1
    products = (PRODUCT,)
    each = ()
    whole = ()
    folder: str
    deaths: int = 0
    raises: bool = False

    def open(self, given: Given) -> Work:
        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            if dist.get_rank() == 1:
                marks = Path(self.folder) / "deaths"
                if self.raises:
                    raise ValueError("the second rank is bad")
                if self.deaths > (len(marks.read_text()) if marks.exists() else 0):
                    with marks.open("a") as file:
                        file.write("x")
                    os.kill(os.getpid(), signal.SIGKILL)
            total = torch.tensor([10 + dist.get_rank()])
            dist.all_reduce(total)
            out["copy"].write_text(f"rank {dist.get_rank()} of {dist.get_world_size()}: {total.item()}")
            return Counts(1, 1)

        return work


def test_ranks_are_started_again_when_one_is_killed_and_only_the_first_writes(
    pool: tuple[Pool, Store], tmp_path: Path
) -> None:
    workers, store = pool
    todo = tasks(store, "joined", 1)
    left = set((store.root / "cache" / "tmp").glob("*"))  # by workers that were killed
    (result,) = workers.together(Joined(str(tmp_path), deaths=1), GIVEN, todo)
    assert result.error is None
    assert Path(todo[0].outputs["copy"]).read_text() == "rank 0 of 2: 21"
    assert (tmp_path / "deaths").read_text() == "x"
    assert [path.name for path in Path(store.path(PRODUCT, "s0", "joined")).parent.glob("*joined*")] == [
        "s0-joined.txt"
    ]
    assert set((store.root / "cache" / "tmp").iterdir()) == left
    assert len(list(workers.results(Fragile(str(tmp_path)), GIVEN, tasks(store, "after ranks")))) == 8


def test_an_exception_of_a_rank_is_that_of_the_shard_and_is_not_tried_again(
    pool: tuple[Pool, Store], tmp_path: Path
) -> None:
    workers, store = pool
    (result,) = workers.together(Joined(str(tmp_path), raises=True), GIVEN, tasks(store, "joined bad", 1))
    assert result.error == "ValueError: the second rank is bad"
    assert "Traceback" in str(result.traceback)


def test_ranks_that_are_lost_again_and_again_are_given_up(
    pool: tuple[Pool, Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.runner.ATTEMPTS", 1)
    workers, store = pool
    (result,) = workers.together(Joined(str(tmp_path), deaths=99), GIVEN, tasks(store, "joined lost", 1))
    assert "given up: it lost a rank 1 times" in str(result.error)
    assert (tmp_path / "deaths").read_text() == "x"


def test_a_training_on_ranks_gives_the_head_of_one_process_within_rounding(
    dataset: Dataset, pool: tuple[Pool, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool[0].__exit__()  # one Ray at a time in a process
    monkeypatch.setattr("pipelines.run.in_ranks", lambda config, step: step == "fit")  # it would ask for GPUs
    found = []
    for name, local in (("alone", True), ("ranks", False)):
        root = os.path.relpath(dataset.folder / name)  # as configs have it
        assert Run(load(dataset.config, [f"root={root}"]), ["project"], local=local).go()
        loss = pq.read_table(f"{root}/loss.parquet").to_pandas().to_numpy(float)
        found.append({**load_file(f"{root}/head.safetensors"), "loss": torch.from_numpy(loss)})
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("start", ["vectors", "pictures"])
def test_a_run_on_ray_gives_the_bytes_of_a_run_without(
    request: pytest.FixtureRequest, dataset: Dataset, pool: tuple[Pool, Store], start: str
) -> None:
    pool[0].__exit__()  # one Ray at a time in a process
    if start == "pictures":
        request.getfixturevalue("pictures")  # which rewrites the config
    assert Run(load(dataset.config)).go()
    other = dataset.folder / "other"
    assert Run(load(dataset.config, [f"root={other}"]), local=True).go()
    assert files(dataset.root) == files(other)


def test_more_workers_than_there_are_cpus_are_refused(dataset: Dataset) -> None:
    with pytest.raises(ConfigError, match=r"ask for 9000 CPUs and this machine has .*: lower resources.workers"):
        Run(load(dataset.config, ["resources.workers=9000", "name=again"])).go()
