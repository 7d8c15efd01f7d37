"""The runner on real Ray: the same bytes as without it, and workers that die."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray._common.usage import usage_lib
from ray.cluster_utils import Cluster

from cpp.files.tables import Counts
from cpp.store.local import Store
from cpp.store.results import Product
from pipelines.config.errors import ResourceError
from pipelines.config.load import load
from pipelines.config.sections import Resources
from pipelines.engine.executor import OpenError
from pipelines.engine.plan import Task
from pipelines.engine.stage import Context, Inputs, Outputs, Stage, Work
from pipelines.ray_backend.pool import Pool
from pipelines.run import Run
from tests.support.datasets import Dataset
from tests.support.ray_nodes import SMALL
from tests.support.runs import files
from tests.support.source_tree import ROOT

pytestmark = pytest.mark.ray

GIVEN = Context({}, threads=1, device="cpu", batch=8, image_batch=8, prefetch=1)
PRODUCT = Product("copy", ".txt")


class Fragile(Stage):
    """Writes its shard's name; kills its own worker half-way on some shards, waits, raises or cannot be opened."""

    version = 1
    products = (PRODUCT,)
    each = ("text",)
    folder: str
    lethal: tuple[str, ...] = ()
    deaths: int = 1
    raises: str = ""
    waits: str = ""  # until there is a file `go`
    closed: bool = False

    def open(self, context: Context) -> Work:
        with (Path(self.folder) / "opened").open("a") as file:
            file.write("x")
        if self.closed:
            raise FileNotFoundError("https://me:hidden@host is not there")

        def work(files: Inputs, out: Outputs) -> Counts:
            name = files["text"]
            out["copy"].write_text(f"half of {name}")
            if name == self.raises:
                raise ValueError(f"{name} is bad")
            end = time.monotonic() + 600
            while name == self.waits and not (Path(self.folder) / "go").exists():
                assert time.monotonic() < end
                time.sleep(0.01)
            marks = Path(self.folder) / f"deaths-{name}"
            if name in self.lethal and (not marks.exists() or len(marks.read_text()) < self.deaths):
                with marks.open("a") as file:
                    file.write("x")
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.05)
            out["copy"].write_text(name)
            return Counts(1, 1)

        return work


class Overlapping(Fragile):
    """Its first four shards wait until all four have begun."""

    version = 1
    overlaps = True

    def open(self, context: Context) -> Work:
        work = super().open(context)

        def together(files: Inputs, out: Outputs) -> Counts:
            folder = Path(self.folder) / "begun"
            folder.mkdir(exist_ok=True)
            (folder / files["text"]).touch()
            end = time.monotonic() + 600
            while len(list(folder.iterdir())) < 4:
                assert time.monotonic() < end
                time.sleep(0.01)
            return work(files, out)

        return together


class Late(Store):
    """The first two workers that start cannot have it yet, nor can the fourth."""

    def __reduce__(self) -> tuple[object, ...]:
        return arrive, (self.root,)


def arrive(root: Path) -> Store:
    starts = root / "starts"
    with starts.open("a") as file:
        file.write("x")
    if starts.stat().st_size in (1, 2, 4):
        raise ConnectionError("the disk is not there yet")
    return Store(root)


@pytest.fixture(scope="module", autouse=True)
def known_to_workers() -> Iterator[None]:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def sigterm_handler() -> object:
    """What SIGTERM does before there is a pool."""
    return signal.getsignal(signal.SIGTERM)


@pytest.fixture(scope="module")
def log() -> list[str]:
    """Lines of the pool."""
    return []


@pytest.fixture(scope="module")
def pool(
    tmp_path_factory: pytest.TempPathFactory, sigterm_handler: object, log: list[str]
) -> Iterator[tuple[Pool, Store]]:
    store = Store(tmp_path_factory.mktemp("store"))
    with Pool(store, Resources(workers=2), log.append) as new_pool:
        yield new_pool, store


def tasks(store: Store, step: str, n: int = 8) -> list[Task]:
    names = [f"s{i}" for i in range(n)]
    return [Task(step, s, "k", {"text": s}, {"copy": str(store.path(PRODUCT, s, step))}) for s in names]


@pytest.mark.slow
def test_killed_workers_are_replaced_and_their_shards_retried(pool: tuple[Pool, Store], tmp_path: Path) -> None:
    workers, store = pool
    todo, lethal = tasks(store, "once"), ("s2", "s5", "s6")  # as many as one shard may end
    results = list(workers.results(Fragile(folder=str(tmp_path), lethal=lethal), GIVEN, todo))
    assert sorted(r.shard for r in results if r.error is None) == [t.shard for t in todo]
    assert [Path(t.outputs["copy"]).read_text() for t in todo] == [t.shard for t in todo]
    assert [(tmp_path / f"deaths-{name}").read_text() for name in lethal] == ["x"] * 3


@pytest.mark.slow
def test_a_shard_that_kills_three_workers_is_given_up_alone(
    pool: tuple[Pool, Store], log: list[str], tmp_path: Path
) -> None:
    workers, store = pool
    results = list(
        workers.results(Fragile(folder=str(tmp_path), lethal=("s1",), deaths=99), GIVEN, tasks(store, "poison"))
    )
    assert {r.shard for r in results if r.error is None} == {f"s{i}" for i in range(8)} - {"s1"}
    (lost,) = [r for r in results if r.error]
    assert lost.shard == "s1"
    assert re.fullmatch(r"given up: its worker was killed 3 times \(.{,200}\)", str(lost.error))
    assert (tmp_path / "deaths-s1").read_text() == "xxx"
    assert not Path(store.path(PRODUCT, "s1", "poison")).exists()
    assert [line.partition(":")[0] for line in log if line.startswith("poison ")] == ["poison s1"] * 2


def test_two_shards_of_a_worker_overlap(pool: tuple[Pool, Store], tmp_path: Path) -> None:
    workers, store = pool
    results = list(workers.results(Overlapping(folder=str(tmp_path), raises="s1"), GIVEN, tasks(store, "pairs")))
    assert sorted((r.shard, r.error) for r in results if r.error) == [("s1", "ValueError: s1 is bad")]
    assert len(results) == 8
    assert (tmp_path / "opened").read_text() == "xx"  # by two workers, once each


@pytest.mark.slow
def test_a_shard_that_kills_its_worker_spares_the_one_beside_it(pool: tuple[Pool, Store], tmp_path: Path) -> None:
    workers, store = pool
    stage = Overlapping(folder=str(tmp_path), lethal=("s1",), deaths=99)
    results = list(workers.results(stage, GIVEN, tasks(store, "beside")))
    assert {r.shard for r in results if r.error is None} == {f"s{i}" for i in range(8)} - {"s1"}
    assert (tmp_path / "deaths-s1").read_text() == "xxx"


def test_a_slow_shard_delays_no_other_and_a_worker_opens_a_step_once(pool: tuple[Pool, Store], tmp_path: Path) -> None:
    workers, store = pool
    ended = []
    for result in workers.results(Fragile(folder=str(tmp_path), waits="s0"), GIVEN, tasks(store, "waits")):
        assert result.error is None
        ended.append(result.shard)
        if len(ended) == 7:
            (tmp_path / "go").touch()
    assert ended == [f"s{i}" for i in (*range(1, 8), 0)]
    assert (tmp_path / "opened").read_text() == "xx"


def test_ray_keeps_the_signal_handler_and_reports_no_usage(pool: tuple[Pool, Store], sigterm_handler: object) -> None:
    assert signal.getsignal(signal.SIGTERM) is sigterm_handler
    assert not usage_lib.usage_stats_enabled()  # a released Ray sees to that itself


def test_an_exception_is_not_retried(pool: tuple[Pool, Store], tmp_path: Path) -> None:
    workers, store = pool
    results = list(workers.results(Fragile(folder=str(tmp_path), raises="s3"), GIVEN, tasks(store, "raises")))
    assert len(results) == 8
    (bad,) = [r for r in results if r.error]
    assert bad.error == "ValueError: s3 is bad"
    assert "Traceback" in str(bad.traceback)


def test_a_stage_that_cannot_be_opened_fails_at_once_with_its_cause(pool: tuple[Pool, Store], tmp_path: Path) -> None:
    workers, store = pool
    with pytest.raises(OpenError, match=r"FileNotFoundError: https://\*\*\*@host is not there"):
        list(workers.results(Fragile(folder=str(tmp_path), closed=True), GIVEN, tasks(store, "closed")))
    assert len(list(workers.results(Fragile(folder=str(tmp_path)), GIVEN, tasks(store, "after")))) == 8


@pytest.mark.slow
def test_a_run_on_ray_equals_a_local_run_in_every_byte(pictures: Dataset, pool: tuple[Pool, Store]) -> None:
    pool[0].__exit__()  # one Ray at a time in a process
    workers = ["resources.workers=2"]
    assert Run(load(pictures.config, workers)).go()
    other = pictures.folder / "other"
    assert Run(load(pictures.config, [f"root={other}", *workers]), local=True).go()
    assert files(pictures.root) == files(other)


@pytest.mark.slow
def test_workers_that_fail_to_start_are_started_again(tmp_path: Path) -> None:
    ray.shutdown()
    store = Late(tmp_path)
    with Pool(store, Resources(workers=1)) as workers:
        results = list(workers.results(Fragile(folder=str(tmp_path), lethal=("s1",)), GIVEN, tasks(store, "late", 3)))
    assert sorted(r.shard for r in results if r.error is None) == ["s0", "s1", "s2"]
    assert (tmp_path / "starts").read_text() == "x" * 5


def test_the_run_ends_with_the_key_to_change_if_no_worker_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray.shutdown()
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.001")  # on such a machine Ray ends every worker at once
    log = (
        r"^resources: no worker could start: .* running low on memory\..*: lower resources.workers or resources.batch$"
    )
    with Pool(Store(tmp_path), Resources(workers=1)) as workers, pytest.raises(ResourceError, match=log):
        list(workers.results(Fragile(folder=str(tmp_path)), GIVEN, tasks(Store(tmp_path), "memory")))


def test_more_workers_than_cpus_are_refused(dataset: Dataset) -> None:
    with pytest.raises(ResourceError, match=r"need 9000 CPUs and this machine has .*: lower resources.workers"):
        Run(load(dataset.config, ["resources.workers=9000", "name=again"])).go()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    node = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **SMALL})
    yield node
    node.shutdown()


def test_folders_of_the_user_do_not_shadow_the_packages(dataset: Dataset, tmp_path: Path) -> None:
    """On a local Ray instance."""
    run_beside_packages_of_the_same_names(dataset, tmp_path)


@pytest.mark.slow
def test_folders_of_the_user_do_not_shadow_the_packages_on_a_cluster(
    dataset: Dataset, tmp_path: Path, cluster: Cluster
) -> None:
    run_beside_packages_of_the_same_names(dataset, tmp_path, "--set", f"resources.ray_address={cluster.address}")


def run_beside_packages_of_the_same_names(dataset: Dataset, tmp_path: Path, *more: str) -> None:
    """Run the console script in a folder with packages `cpp` and `pipelines`; -P is how a console script starts."""
    for name in ("cpp", "pipelines"):
        (tmp_path / "work" / name).mkdir(parents=True)
        (tmp_path / "work" / name / "__init__.py").write_text("raise RuntimeError('shadowed')")
    program = [sys.executable, "-P", "-c", "from pipelines.__main__ import main; main()"]
    arguments = ["run", str(dataset.config), "project", "--set", "resources.workers=1", *more]
    ended = subprocess.run(
        [*program, *arguments],
        check=False,
        cwd=tmp_path / "work",
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
    )
    assert ended.returncode == 0, ended.stdout.decode() + ended.stderr.decode()
