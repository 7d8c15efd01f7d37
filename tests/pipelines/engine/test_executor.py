"""The runner without Ray: stages whose shards overlap."""

import threading
from pathlib import Path

import pytest

from cpp.files.tables import Counts
from cpp.store.local import Store
from cpp.store.results import Product
from pipelines.engine import executor
from pipelines.engine.executor import OpenStage, TaskResult, run_in_process
from pipelines.engine.plan import Task
from pipelines.engine.stage import Context, Inputs, Outputs, Stage, Work

GIVEN = Context({}, threads=1, device="cpu", batch=8, image_batch=8, prefetch=1)
PRODUCT = Product("copy", ".txt")
PATIENCE = 120  # seconds until an event that does not come fails a test


class InPairs(Stage):
    """Each shard waits for the one that begins after it, except the last; `bad` raises then."""

    version = 1
    products = (PRODUCT,)
    each = ("text",)
    overlaps = True
    last: str
    bad: str = ""

    def open(self, context: Context) -> Work:
        begun = {f"s{i}": threading.Event() for i in range(4)}

        def work(files: Inputs, out: Outputs) -> Counts:
            name = files["text"]
            begun[name].set()
            assert name == self.last or begun[f"s{int(name[1:]) + 1}"].wait(PATIENCE)
            if name == self.bad:
                raise ValueError(f"{name} is bad")
            out["copy"].write_text(name)
            return Counts(1, 1)

        return work


class UntilInterrupted(InPairs):
    """The first shard ends at once, the others when the context is interrupted."""

    def open(self, context: Context) -> Work:
        def work(files: Inputs, out: Outputs) -> Counts:
            out["copy"].write_text("half")
            if files["text"] != "s0":
                assert context.interrupted
                assert context.interrupted.wait(PATIENCE)
                raise InterruptedError
            return Counts(1, 1)

        return work


def tasks(store: Store) -> list[Task]:
    names = [f"s{i}" for i in range(4)]
    return [Task("step", s, "k", {"text": s}, {"copy": str(store.path(PRODUCT, s, "k"))}) for s in names]


def test_a_shard_begins_before_the_one_before_it_ends(tmp_path: Path) -> None:
    results = list(run_in_process(InPairs(last="s3"), GIVEN, tasks(Store(tmp_path)), Store(tmp_path)))
    assert [(result.shard, result.error) for result in results] == [(f"s{i}", None) for i in range(4)]


def test_a_failed_shard_leaves_the_one_beside_it_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    results = list(run_in_process(InPairs(last="s3", bad="s1"), GIVEN, tasks(store), store))
    assert [result.error for result in results] == [None, "ValueError: s1 is bad", None, None]
    assert store.listing(PRODUCT) == {"s0-k.txt", "s2-k.txt", "s3-k.txt"}


def test_an_interruption_gives_up_the_shards_in_flight(tmp_path: Path) -> None:
    store = Store(tmp_path)
    results = run_in_process(UntilInterrupted(last=""), GIVEN, tasks(store), store)
    assert next(results).shard == "s0"
    results.close()  # which waits for the threads
    assert store.listing(PRODUCT) == {"s0-k.txt"}
    assert not list(store.scratch().iterdir())


def test_the_seconds_of_shards_that_overlap_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = OpenStage(InPairs(last="s0"), GIVEN, Store(tmp_path))
    times = iter([0.0, 1.0, 10.0, 14.0])  # two shards begin at 0 and 1, and end at 10 and 14
    inner = []

    def run_other_within(work: Work, task: Task, store: Store) -> TaskResult:
        if task.shard == "s0":
            inner.append(opened.run(tasks(store)[1]))
        return TaskResult(task.shard, 0.0, Counts(1, 1))

    monkeypatch.setattr(executor, "run_task", run_other_within)
    monkeypatch.setattr(executor.time, "perf_counter", lambda: next(times))
    outer = opened.run(tasks(Store(tmp_path))[0])
    assert (inner[0].seconds, outer.seconds) == (9.0, 4.0)
