"""One shard worked on by several processes together: ranks of torch.distributed, started by Ray Train.

How the ranks share the work is the library's affair (`cpp.rate_reduction.fit.train`); all of them do all of the
stage's work, and what
the first one writes is kept. Knows no stage.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch

from cpp.files import credentials
from cpp.store.local import Store
from pipelines.engine.executor import Result, run_in_process
from pipelines.engine.plan import Task
from pipelines.engine.stage import Given, Stage
from pipelines.ray_backend import cluster

_train: Any = ray.train  # its type hints are those of its version 1, which is not what runs
_ENVIRONMENT = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # it would move the ranks to a folder of its own, where relative paths lead nowhere
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # it would warn of itself on the terminal
}


def results(
    stage: Stage,
    given: Given,
    tasks: Sequence[Task],
    store: Store,
    scaling: Callable[[], Mapping[str, Any]],
    anew: Callable[[], None],
    attempts: int,
) -> Iterator[Result]:
    """Results in the order of the tasks, by ranks as Ray Train's ScalingConfig takes them, `scaling` for each start.

    An exception of a rank is the result. Where a rank is lost without one all start again, `attempts` times in all.
    `anew` brings another Ray after each: after some errors Ray Train does not give back what its ranks had.
    """
    os.environ |= _ENVIRONMENT
    parent = store.scratch().absolute()
    for task in tasks:
        for start in range(1, attempts + 1):
            with tempfile.TemporaryDirectory(dir=parent, ignore_cleanup_errors=True) as scratch:
                outcome = _once(stage, given, task, store, scaling(), Path(scratch))
                anew()  # nobody writes to the folder any more when it goes
            if isinstance(outcome, Result):
                break
            said = f"given up: it lost a rank {start} times ({cluster.cause(outcome)})"
            given_up = Result(task.shard, 0.0, None, said, credentials.redacted(str(outcome)))
        yield outcome if isinstance(outcome, Result) else given_up


def _once(
    stage: Stage, given: Given, task: Task, store: Store, scaling: Mapping[str, Any], scratch: Path
) -> Result | Exception:
    """The result of one start of all ranks, or how one of them was lost."""
    trainer = _train.torch.TorchTrainer(
        _rank,
        train_loop_config={"stage": stage, "given": given, "task": task, "store": store, "scratch": scratch},
        scaling_config=_train.ScalingConfig(**scaling),
        run_config=_train.RunConfig(
            name="ranks",
            storage_path=str(scratch),
            # exceptions and lost ranks are told apart here; its own retries do not
            failure_config=_train.FailureConfig(max_failures=0, controller_failure_limit=1),
            logging_config=_train.LoggingConfig(log_level="CRITICAL"),
        ),
    )
    try:
        result: Result = _in_thread(trainer.fit).return_value
    except _train.TrainingFailedError as error:
        return _failure(error, scratch)
    return result


def _failure(error: Exception, scratch: Path) -> Result | Exception:
    """The first exception that stopped the ranks; `error` itself where a rank that stopped has left none.

    A rank that is lost on its way to the stage is to Ray Train a failure of its own, of no rank.
    """
    said = [scratch / f"failed-{rank}.json" for rank in getattr(error, "worker_failures", ())]
    if not said or not all(path.exists() for path in said):
        return error
    first = min(said, key=lambda path: path.stat().st_mtime_ns)
    return Result(**json.loads(first.read_text()))


def _rank(job: Mapping[str, Any]) -> Result:
    """One rank. The first writes the task's files, the others' go with `scratch`."""
    rank, task, store, scratch = _train.get_context().get_world_rank(), job["task"], job["store"], job["scratch"]
    if rank:
        store = Store(scratch / f"rank-{rank}")
        task = replace(task, outputs={name: str(store.root / name) for name in task.outputs})
    (result,) = run_in_process(job["stage"], job["given"], [task], store)
    if result.error:
        (scratch / f"failed-{rank}.json").write_text(json.dumps(asdict(result)))
        raise RuntimeError(result.error)
    return result


def _in_thread(work: Callable[[], Any]) -> Any:
    """`work()` in a thread: in the main one Ray Train takes Ctrl-C for itself, and never gives it back."""
    future = Future[Any]()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future.result()
