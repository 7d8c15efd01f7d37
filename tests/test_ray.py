"""The runner on real Ray: the same bytes as without it, and workers that die."""

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray

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
            raise FileNotFoundError("https://me:hidden@host is not there")

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
def meant() -> object:
    """What SIGTERM does before there is a pool."""
    return signal.getsignal(signal.SIGTERM)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory, meant: object) -> Iterator[tuple[Pool, Store]]:
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


def test_ray_leaves_to_the_command_line_what_a_signal_means(pool: tuple[Pool, Store], meant: object) -> None:
    assert signal.getsignal(signal.SIGTERM) is meant


def test_an_exception_is_not_tried_again(pool: tuple[Pool, Store], tmp_path: Path) -> None:
    workers, store = pool
    results = list(workers.results(Fragile(str(tmp_path), raises="s3"), GIVEN, tasks(store, "raises")))
    assert len(results) == 8
    (bad,) = [r for r in results if r.error]
    assert bad.error == "ValueError: s3 is bad"
    assert "Traceback" in str(bad.traceback)


def test_a_stage_that_cannot_be_opened_fails_at_once_with_its_cause(pool: tuple[Pool, Store], tmp_path: Path) -> None:
    workers, store = pool
    with pytest.raises(OpenError, match=r"FileNotFoundError: https://\*\*\*@host is not there"):
        list(workers.results(Fragile(str(tmp_path), closed=True), GIVEN, tasks(store, "closed")))
    assert len(list(workers.results(Fragile(str(tmp_path)), GIVEN, tasks(store, "after")))) == 8


def test_a_run_on_ray_gives_the_bytes_of_a_run_without(pictures: Dataset, pool: tuple[Pool, Store]) -> None:
    pool[0].__exit__()  # one Ray at a time in a process
    workers = ["resources.workers=2"]
    assert Run(load(pictures.config, workers)).go()
    other = pictures.folder / "other"
    assert Run(load(pictures.config, [f"root={other}", *workers]), local=True).go()
    assert files(pictures.root) == files(other)


def test_more_workers_than_there_are_cpus_are_refused(dataset: Dataset) -> None:
    with pytest.raises(ConfigError, match=r"ask for 9000 CPUs and this machine has .*: lower resources.workers"):
        Run(load(dataset.config, ["resources.workers=9000", "name=again"])).go()
