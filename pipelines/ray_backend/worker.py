"""A worker of the pool: a Ray actor that processes the shards of a step, one or two at a time. Knows no stage."""

from __future__ import annotations

import socket
import threading
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import ray
import torch

from cpp.files import credentials
from cpp.store.local import Store
from pipelines.engine import machine
from pipelines.engine.executor import OpenStage, TaskResult
from pipelines.engine.plan import Task
from pipelines.engine.stage import Context, Stage
from pipelines.ray_backend import cluster

MAIN, SECOND = "run_task", "run_second_task"  # methods that run on the main thread of a worker, and on one more


class Worker:
    """The Ray actor. It opens a stage at the first shard of a step, and drops the stage of the step before."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.open: tuple[str, OpenStage] | None = None  # step, and its open stage
        self._opening = threading.Lock()

    def ready(self, token: Path | None) -> cluster.Node:
        """Return as soon as the process is up. `token` is from `cluster.create_token` on the driver."""
        node = ray.get_runtime_context().get_node_id()
        return cluster.Node(node, socket.gethostname(), machine.versions(), token is None or token.exists())

    def run_task(
        self, stage: Stage, context: Sequence[ray.ObjectRef[Context]], threads: int, task: Task
    ) -> TaskResult | str:
        """Process a shard. Returns the traceback if the stage cannot be opened."""
        with self._opening:
            if self.open is None or self.open[0] != task.step:
                self.open = None
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                try:
                    self.open = task.step, OpenStage(stage, replace(ray.get(context[0]), threads=threads), self.store)
                except Exception:
                    return credentials.redacted(traceback.format_exc())
            opened = self.open[1]
        return opened.run(task)

    @ray.method(concurrency_group=SECOND)  # a driver outside the cluster cannot give the group with a call
    def run_second_task(
        self, stage: Stage, context: Sequence[ray.ObjectRef[Context]], threads: int, task: Task
    ) -> TaskResult | str:
        """Process a shard beside that of `run_task`."""
        return self.run_task(stage, context, threads, task)
