"""Runs one task, and the runner without Ray: the tasks of a step one after another in this process."""

from __future__ import annotations

import errno
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
    """The result of a task: row counts, or an error in one line with its traceback."""

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


def run_in_process(stage: Stage, context: Context, tasks: Sequence[Task], store: Store) -> Iterator[TaskResult]:
    """Yield the results in the order of the tasks (`--local`). Raises OpenError if the stage cannot be opened."""
    try:
        work = open_stage(stage, context)
    except Exception as error:
        raise OpenError(credentials.redacted(traceback.format_exc().strip())) from error
    for task in tasks:
        yield run_task(work, task, store)
