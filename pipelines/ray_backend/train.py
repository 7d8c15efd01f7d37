"""Processes one shard in several processes together: ranks of torch.distributed, started by Ray Train.

`cpp.rate_reduction.fit.train` divides the work between the ranks. All ranks run the whole stage, and only the files of
the first rank are kept. Knows no stage.
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

import ray
import ray.train
import ray.train.torch

from cpp.files import credentials
from cpp.store.local import Store
from pipelines.config.sections import Resources
from pipelines.engine.executor import TaskResult, run_in_process
from pipelines.engine.plan import Task
from pipelines.engine.stage import Context, Stage
from pipelines.ray_backend import cluster

_train: Any = ray.train  # its type hints are those of version 1, but version 2 runs
_ENVIRONMENT = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # keep the working directory of the ranks, for relative paths
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # it would print warnings about itself
}


def results(
    stage: Stage, context: Context, tasks: Sequence[Task], store: Store, resources: Resources, attempts: int
) -> Iterator[TaskResult]:
    """Yield the results in the order of the tasks, each processed by all ranks together.

    An exception in a rank is a failed result. After a lost rank all start again, at most `attempts` times in all. Ray
    restarts after each attempt, because after some errors Ray Train does not free the resources of its ranks.
    """
    os.environ |= _ENVIRONMENT
    parent = store.scratch().absolute()
    for task in tasks:
        for attempt in range(1, attempts + 1):
            with tempfile.TemporaryDirectory(dir=parent, ignore_cleanup_errors=True) as scratch:
                outcome = _run_ranks(stage, context, task, store, resources, Path(scratch))
                ray.shutdown()  # before the folder is removed, so that no rank still writes to it
                cluster.start(resources)
            if isinstance(outcome, TaskResult):
                break
            message = f"given up: a rank was lost {attempt} times ({cluster.loss_reason(outcome)})"
            given_up = TaskResult(task.shard, 0.0, None, message, credentials.redacted(str(outcome)))
        yield outcome if isinstance(outcome, TaskResult) else given_up


def _run_ranks(
    stage: Stage, context: Context, task: Task, store: Store, r: Resources, scratch: Path
) -> TaskResult | Exception:
    """Start a rank for each worker that fits. Returns the result, or Ray Train's error if a rank was lost."""
    workers = min(r.workers, max(cluster.capacity(r.cpus, r.gpus), 1)) if r.ray_address else r.workers
    resources = {"CPU": r.cpus, "GPU": r.gpus}
    trainer = _train.torch.TorchTrainer(
        _rank,
        train_loop_config={"stage": stage, "context": context, "task": task, "store": store, "scratch": scratch},
        scaling_config=_train.ScalingConfig(num_workers=workers, use_gpu=r.gpus > 0, resources_per_worker=resources),
        run_config=_train.RunConfig(
            name="ranks",
            storage_path=str(scratch),
            # its retries would not distinguish exceptions from lost ranks
            failure_config=_train.FailureConfig(max_failures=0, controller_failure_limit=1),
            logging_config=_train.LoggingConfig(log_level="CRITICAL"),
        ),
    )
    try:
        result: TaskResult = _in_thread(trainer.fit).return_value
    except _train.TrainingFailedError as error:
        return _failed_result(error, scratch) or error
    return result


def _failed_result(error: Exception, scratch: Path) -> TaskResult | None:
    """The result of the rank that failed first; None if a rank was lost, also on its way to the stage."""
    records = [scratch / f"failed-{rank}.json" for rank in getattr(error, "worker_failures", ())]
    if not records or not all(path.exists() for path in records):
        return None
    first = min(records, key=lambda path: path.stat().st_mtime_ns)
    return TaskResult(**json.loads(first.read_text()))


def _rank(job: Mapping[str, Any]) -> TaskResult:
    """The function of each rank. The first writes the task's files; the others write to `scratch`."""
    rank, task, store, scratch = _train.get_context().get_world_rank(), job["task"], job["store"], job["scratch"]
    if rank:
        store = Store(scratch / f"rank-{rank}")
        task = replace(task, outputs={name: str(store.root / name) for name in task.outputs})
    (result,) = run_in_process(job["stage"], job["context"], [task], store)
    if result.error:
        (scratch / f"failed-{rank}.json").write_text(json.dumps(asdict(result)))
        raise RuntimeError(result.error)
    return result


def _in_thread(work: Callable[[], Any]) -> Any:
    """Call `work` in a thread: in the main thread Ray Train replaces the handler of Ctrl-C and does not restore it."""
    future = Future[Any]()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()  # a daemon, so that Ctrl-C ends the process
    return future.result()
