"""The runner on Ray: the one door to it. Ray Data keeps the workers alive and hands each one shard at a time.

What Ray Data would do otherwise, and what is done about it:
- A class that cannot be constructed looks to it like a lost worker, and it tries again without end. The constructor
  here never raises: its error comes back with the first shard and ends the step.
- It retries a lost task for ever. Here a shard that kills its worker ATTEMPTS times comes back as no row at all.
- A worker that holds several shards takes all of them down with it. Here it holds one.
- It gives up after half an hour in which no shard ends. Here a shard may take as long as it needs.
"""

from __future__ import annotations

import json
import logging
import os
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import ray
import ray.data

from cpp.store import Store
from cpp.tables import Counts
from pipelines.attempt import OpenError, Result, attempt, opened
from pipelines.config import ConfigError
from pipelines.plan import Task
from pipelines.stage import Given, Stage, Work

ATTEMPTS = 3


class _Worker:
    """Tasks and results travel as JSON: rows of Ray Data are Arrow, which has no classes."""

    def __init__(self, stage: Stage, given: Given, store: Store) -> None:
        self.store, self.error = store, ""
        self.work: Work | None = None
        try:
            self.work = opened(stage, given)
        except Exception:
            self.error = traceback.format_exc()

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        if self.work is None:
            return {"open_error": self.error, "result": ""}
        result = attempt(self.work, Task(**json.loads(row["task"])), self.store)
        return {"open_error": "", "result": json.dumps(asdict(result))}


@contextmanager
def session(cpus: int, gpus: float) -> Iterator[None]:
    """A Ray of our own on this machine, for the time of the block. ConfigError where the machine has less than is asked."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        include_dashboard=False,
        logging_level=logging.ERROR,
        log_to_driver=True,
        object_store_memory=256 * 2**20,  # shards travel as file names, not as data
    )
    try:
        have = ray.cluster_resources()
        for kind, asked in (("CPU", cpus), ("GPU", gpus)):
            if asked > have.get(kind, 0):
                raise ConfigError(
                    f"resources: the workers together ask for {asked:g} {kind}s and this machine has {have.get(kind, 0):g}: "
                    f"lower resources.workers or resources.{kind.lower()}s"
                )
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.max_errored_blocks = -1
        context.execution_no_progress_timeout_s = -1
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        yield
    finally:
        ray.shutdown()


def on_ray(stage: Stage, given: Given, tasks: Sequence[Task], store: Store, workers: int, gpus: float) -> Iterator[Result]:
    """Results in the order in which shards end; none for a shard that killed its worker ATTEMPTS times."""
    rows = ray.data.from_items([{"task": json.dumps(asdict(task))} for task in tasks], override_num_blocks=len(tasks)).map(
        _Worker,
        fn_constructor_args=(stage, given, store),
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(tasks)), max_tasks_in_flight_per_actor=1),
        num_cpus=given.threads,
        num_gpus=gpus,
        ray_remote_args_fn=lambda: {"max_restarts": -1, "max_task_retries": ATTEMPTS - 1},
    )
    for row in rows.iter_rows():
        if row["open_error"]:
            raise OpenError(row["open_error"].strip())
        result = json.loads(row["result"])
        counts = result.pop("counts")
        yield Result(**result, counts=Counts(*counts) if counts else None)
