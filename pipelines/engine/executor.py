"""Opens a stage and runs its tasks, and the runner without Ray: the tasks of a step in this process."""

from __future__ import annotations

import errno
import threading
import time
import traceback
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import threadpoolctl

from cpp.files import credentials, scratch
from cpp.files.integrity import damage
from cpp.files.tables import Counts
from cpp.store.local import Store
from pipelines.engine.plan import Task
from pipelines.engine.stage import Context, Stage, Work

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class TaskResult:
    """The result of a task: row counts, or an error in one line with its traceback.

    The `seconds` of a worker's tasks add up to its time: where two overlap, the later one counts from the end of the
    earlier one.
    """

    shard: str
    seconds: float
    counts: Counts | None = None
    error: str | None = None
    traceback: str | None = None


class OpenError(RuntimeError):
    """A stage could not be opened, so none of its shards can be processed. The message is the traceback."""


def open_stage(stage: Stage, context: Context) -> Work:
    """Limit this process to `context.threads` threads and open the stage."""
    import torch  # not above: the command line needs this module and not torch

    torch.set_num_threads(context.threads)
    threadpoolctl.threadpool_limits(context.threads)
    scratch.clear_copies()  # local copies that the previous stage kept
    return stage.open(context)


class OpenStage:
    """A stage that is open in this process. If it overlaps, two threads may call `run` at a time."""

    def __init__(self, stage: Stage, context: Context, store: Store) -> None:
        self._work, self._store, self._ended = open_stage(stage, context), store, 0.0

    def run(self, task: Task) -> TaskResult:
        """Process one shard, see `run_task`."""
        start = time.perf_counter()
        result = run_task(self._work, task, self._store)
        end = time.perf_counter()
        seconds, self._ended = end - max(start, self._ended), end
        return replace(result, seconds=seconds)


def run_task(work: Work, task: Task, store: Store) -> TaskResult:
    """Process one shard. Each of its files appears whole, after all are written; an exception is a failed result."""
    start = time.perf_counter()
    try:
        with store.commit(task.outputs) as out, store.local_files(task.files) as files:
            counts = work(files, out)
            if not counts.balanced:
                raise RuntimeError(
                    f"rows do not add up: {counts.rows_in} in, {counts.rows_out} out, {counts.rejected} rejected"
                )
    except Exception as error:  # one failed shard must not stop the others
        error = _explain(error, task, store)
        message = credentials.redacted("".join(traceback.format_exception_only(error)).strip())
        trace = credentials.redacted("".join(traceback.format_exception(error)))
        return TaskResult(task.shard, time.perf_counter() - start, None, message, trace)
    return TaskResult(task.shard, time.perf_counter() - start, counts)


def _explain(error: Exception, task: Task, store: Store) -> Exception:
    """Replace an error by one that names cause and fix if the disk is full or an input from the cache is damaged."""
    explained = error
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        explained = OSError(f"no space left in {store.scratch()} ({error}): free some and run the same command again")
    for path in task.files.values():
        if isinstance(path, str) and path.startswith(f"{store.address}/cache/") and (reason := damage(path)):
            explained = RuntimeError(f"{path} is damaged: {reason}. Remove it and run again to recompute it")
    if explained is not error:
        explained.__cause__ = error
    return explained


def run_in_process(stage: Stage, context: Context, tasks: Sequence[Task], store: Store) -> Generator[TaskResult]:
    """Yield the results in the order of the tasks (`--local`). Raises OpenError if the stage cannot be opened.

    Close the iterator to give up tasks in flight.
    """
    interrupted = threading.Event()
    try:
        opened = OpenStage(stage, replace(context, interrupted=interrupted), store)
    except Exception as error:
        raise OpenError(credentials.redacted(traceback.format_exc().strip())) from error
    if not stage.overlaps:
        for task in tasks:
            yield opened.run(task)
        return
    with ThreadPoolExecutor(2) as threads:
        try:
            yield from threads.map(opened.run, tasks)
        finally:
            interrupted.set()  # otherwise the end of the block would wait until the shards in flight are done
