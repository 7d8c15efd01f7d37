"""One attempt at one shard, and the runner without Ray: the tasks of a step one after the other in this process."""

from __future__ import annotations

import errno
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import threadpoolctl
import torch

from cpp.files import credentials, scratch
from cpp.files.integrity import damage
from cpp.files.tables import Counts
from cpp.store.local import Store
from pipelines.engine.plan import Task
from pipelines.engine.stage import Given, Stage, Work


@dataclass(frozen=True)
class Result:
    """How an attempt ended: with counts, or with an error in one line and its traceback."""

    shard: str
    seconds: float
    counts: Counts | None = None
    error: str | None = None
    traceback: str | None = None

    @classmethod
    def failed(cls, shard: str, error: BaseException, seconds: float = 0.0) -> Result:
        said = "".join(traceback.format_exception_only(error)).strip()
        whole = "".join(traceback.format_exception(error))
        return cls(shard, seconds, None, credentials.redacted(said), credentials.redacted(whole))


class OpenError(RuntimeError):
    """A stage could not be opened, so that none of its shards can be worked on. The message carries the cause."""


def open_stage(stage: Stage, given: Given) -> Work:
    """The stage ready to work, with the threads it was given."""
    torch.set_num_threads(given.threads)
    threadpoolctl.threadpool_limits(given.threads)
    scratch.forget()  # what the stage before had
    return stage.open(given)


def run_task(work: Work, task: Task, store: Store) -> Result:
    """Work on a shard. Its files appear together or not at all; an exception becomes a result."""
    start = time.perf_counter()
    try:
        with store.commit(task.outputs) as out, store.brought(task.files) as files:
            counts = work(files, out)
            if not counts.balanced:
                raise RuntimeError(
                    f"rows do not add up: {counts.rows_in} in, {counts.rows_out} out, {counts.rejected} rejected"
                )
    except Exception as error:  # whatever a shard does, the others go on
        return Result.failed(task.shard, _explained(error, task, store), time.perf_counter() - start)
    return Result(task.shard, time.perf_counter() - start, counts)


def _explained(error: Exception, task: Task, store: Store) -> Exception:
    """An error with its cause and what to do, where the cause is a full disk or a damaged file of the run."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        said: Exception = OSError(
            f"no space left in {store.scratch()} ({error}): make room and run the same command again"
        )
        said.__cause__ = error
        return said
    for path in task.files.values():
        if isinstance(path, str) and path.startswith(f"{store.address}/cache/") and (wrong := damage(path)):
            said = RuntimeError(f"{path} is damaged: {wrong}. Remove it and run again: it is made anew")
            said.__cause__ = error
            return said
    return error


def run_in_process(stage: Stage, given: Given, tasks: Sequence[Task], store: Store) -> Iterator[Result]:
    """The runner of `--local`: results in the order of the tasks. OpenError where the stage cannot be opened."""
    try:
        work = open_stage(stage, given)
    except Exception as error:
        raise OpenError(credentials.redacted(traceback.format_exc().strip())) from error
    for task in tasks:
        yield run_task(work, task, store)
