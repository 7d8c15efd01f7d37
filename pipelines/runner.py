"""The runner on Ray: a pool of actors that live as long as the run, each with one shard at a time.

With `ranks` it is the only door to Ray. Why not Ray Data, which was tried first (2.60): it starts new processes for
every step, which for nine steps costs more than the work of a small run; it takes a class that cannot be constructed
for a lost worker; it retries a lost task for ever, or, limited, counts the death of a worker against every shard that
waits on it; it gives up after half an hour in which no shard ends. What it would give, blocks of data between
operators, is not needed: shards travel as file names.
"""

from __future__ import annotations

import logging
import os
import traceback
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any, Self

import ray
import torch
from ray.exceptions import RayError

from cpp.store import Store
from pipelines.attempt import OpenError, Result, attempt, opened
from pipelines.config import ConfigError
from pipelines.plan import Task
from pipelines.stage import Given, Stage, Work

ATTEMPTS = 3  # a shard that ends its worker so many times is given up


class _Worker:
    """A process that works on shards. It opens a stage when it meets a shard of it, and forgets the one before."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.open: tuple[str, Work] | None = None  # of this step

    def ready(self) -> None:
        """Return as soon as the process is up."""

    def attempt(self, stage: Stage, given: Sequence[ray.ObjectRef[Given]], task: Task) -> Result | str:
        """The result of a shard, or the traceback of a stage that cannot be opened."""
        if self.open is None or self.open[0] != task.step:
            self.open = None
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            try:
                self.open = task.step, opened(stage, ray.get(given[0]))
            except Exception:
                return traceback.format_exc()
        return attempt(self.open[1], task, self.store)


class Pool:
    """`workers` processes with `cpus` and `gpus` each, on a Ray of our own on this machine. A context manager."""

    def __init__(self, store: Store, workers: int, cpus: int, gpus: float) -> None:
        """ConfigError where the machine has less than the workers ask for; RayError where a worker cannot start."""
        for kind, asked, have in (
            ("CPU", workers * cpus, os.cpu_count() or 1),
            ("GPU", workers * gpus, torch.cuda.device_count()),
        ):
            if asked > have:
                raise ConfigError(
                    f"resources: the workers together ask for {asked:g} {kind}s and this machine has {have}: "
                    f"lower resources.workers ({workers}) or resources.{kind.lower()}s"
                )
        self._store, self._workers, self._cpus, self._gpus = store, workers, cpus, gpus
        self._start()

    def _start(self) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        ray.init(
            include_dashboard=False,
            logging_level=logging.ERROR,
            logging_config=ray.LoggingConfig(log_level="ERROR"),  # of the workers: Ray Train warns every second
            log_to_driver=True,
            object_store_memory=256 * 2**20,
        )
        try:
            actor: Any = ray.remote(num_cpus=self._cpus, num_gpus=self._gpus)(_Worker)
            self._new = lambda: actor.remote(self._store)
            self._actors: list[Any] = [self._new() for _ in range(self._workers)]
            ray.get(self._actors[0].ready.remote())
        except BaseException:
            ray.shutdown()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        ray.shutdown()

    def results(self, stage: Stage, given: Given, tasks: Sequence[Task]) -> Iterator[Result]:
        """Results in the order in which shards end. OpenError, with its traceback, where the stage cannot be opened.

        A worker that dies is replaced and its shard tried again, ATTEMPTS times in all.
        """
        todo, deaths = deque(tasks), Counter[str]()
        shared = [ray.put(given)]
        idle = deque(range(len(self._actors)))
        running: dict[Any, tuple[int, Task]] = {}
        while todo or running:
            while todo and idle:
                slot, task = idle.popleft(), todo.popleft()
                running[self._actors[slot].attempt.remote(stage, shared, task)] = (slot, task)
            for done in ray.wait(list(running))[0]:
                slot, task = running.pop(done)
                idle.append(slot)
                try:
                    result = ray.get(done)
                except RayError as error:
                    self._actors[slot] = self._new()
                    deaths[task.shard] += 1
                    if deaths[task.shard] < ATTEMPTS:
                        todo.append(task)
                        continue
                    said = f"given up: it ended its worker {ATTEMPTS} times ({str(error).splitlines()[0]})"
                    result = Result(task.shard, 0.0, None, said, str(error))
                if isinstance(result, str):
                    raise OpenError(result.strip())
                yield result

    def together(self, stage: Stage, given: Given, tasks: Sequence[Task]) -> Iterator[Result]:
        """Results in the order of the tasks, on each of which all workers work at once, as ranks (`pipelines.ranks`).

        The workers end, so that the ranks have their CPUs and GPUs. Others start afterwards, on another Ray: after some
        errors Ray Train does not give back what its ranks had.
        """
        from pipelines import ranks

        for actor in self._actors:
            ray.kill(actor)
        resources = {"CPU": self._cpus, "GPU": self._gpus}
        scaling = {"num_workers": self._workers, "use_gpu": self._gpus > 0, "resources_per_worker": resources}
        yield from ranks.results(stage, given, tasks, self._store, scaling, ATTEMPTS)
        ray.shutdown()
        self._start()
