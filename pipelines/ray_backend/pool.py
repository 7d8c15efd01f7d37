"""The runner on Ray: a pool of actors that live from step to step, each with one shard at a time.

Why not Ray Data, which was tried first (2.60): it starts new processes for every step, which for nine steps costs more
than the work of a small run; it takes a class that cannot be constructed for a lost worker; it retries a lost task for
ever, or, limited, counts the death of a worker against every shard that waits on it; it gives up after half an hour in
which no shard ends. What it would give, blocks of data between operators, is not needed: shards travel as file names.
"""

from __future__ import annotations

import contextlib
import traceback
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import ray
import torch
from ray.exceptions import RayError

from cpp.files import credentials
from cpp.store.local import Store
from pipelines.config.errors import ConfigError
from pipelines.config.sections import Resources
from pipelines.engine.executor import OpenError, Result, open_stage, run_task
from pipelines.engine.plan import Task
from pipelines.engine.stage import Given, Stage, Work
from pipelines.ray_backend import cluster

ATTEMPTS = 3  # a shard that ends its worker so many times, on nodes that live on, is given up
LOSSES = 10  # so is one that is lost so many times with its node: it may be what ends the nodes
PATIENCE = 15 * 60  # seconds without any worker after which the run ends; a GPU node of a cloud takes some minutes


class _Worker:
    """A process that works on shards. It opens a stage when it meets a shard of it, and forgets the one before."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.open: tuple[str, Work] | None = None  # of this step

    def ready(self, token: Path | None) -> cluster.Node:
        """Where the process is, as soon as it is up."""
        return cluster.about(token)

    def run_task(self, stage: Stage, given: Sequence[ray.ObjectRef[Given]], threads: int, task: Task) -> Result | str:
        """The result of a shard, or the traceback of a stage that cannot be opened."""
        if self.open is None or self.open[0] != task.step:
            self.open = None
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            try:
                self.open = task.step, open_stage(stage, replace(ray.get(given[0]), threads=threads))
            except Exception:
                return credentials.redacted(traceback.format_exc())
        return run_task(self.open[1], task, self.store)


@dataclass(frozen=True)
class _Member:
    """A worker that is up."""

    actor: Any
    node: cluster.Node


class _Crew:
    """Workers of one size: `members` are up, `starting` are those that have no place yet or are on their way."""

    def __init__(self, store: Store, size: int, cpus: int, gpus: float, token: Path | None) -> None:
        self.size, self.cpus, self.gpus = size, cpus, gpus
        actor: Any = ray.remote(num_cpus=cpus, num_gpus=gpus)(_Worker)
        self._new: Callable[[], Any] = lambda: actor.remote(store)
        self._token = token
        self.members: list[_Member] = []
        self.starting: dict[Any, Any] = {}
        self._failed = 0  # starts in a row
        for _ in range(size):
            self._start()

    def _start(self) -> None:
        actor = self._new()
        self.starting[actor.ready.remote(self._token)] = actor

    def arrive(self, ref: Any) -> _Member | None:
        """The member that has come up. ConfigError where none does, each worker having tried ATTEMPTS times."""
        actor = self.starting.pop(ref)
        try:
            member = _Member(actor, ray.get(ref))
        except RayError as error:
            self._failed += 1
            if self._failed >= ATTEMPTS * self.size:
                raise ConfigError(f"resources: no worker could start: {cluster.cause(error)}") from error
            self._start()
            return None
        self._failed = 0
        self.members.append(member)
        return member

    def replace(self, member: _Member) -> None:
        """Start another worker in the place of one that was lost."""
        self.members.remove(member)
        with contextlib.suppress(RayError):
            ray.kill(member.actor)  # it may be there all the same, behind a network that is not
        self._start()

    def on(self, node: cluster.Node) -> int:
        """How many of its members are on the node."""
        return sum(member.node.id == node.id for member in self.members)

    def dismiss(self) -> None:
        """End all workers, so that others have their CPUs and GPUs."""
        for actor in (*self.starting.values(), *(member.actor for member in self.members)):
            ray.kill(actor)


class Pool:
    """The workers of a run, on a Ray of our own or on a cluster. A context manager.

    Steps that need no GPU have workers of their own, which hold none. Where a cluster has no room for all workers the
    others start as nodes join. `tell` takes lines for the log.
    """

    def __init__(self, store: Store, resources: Resources, tell: Callable[[str], None] = print) -> None:
        """ConfigError where the machine has less than the workers ask for, or no cluster answers."""
        self._store, self._resources, self._tell = store, resources, tell
        self._crew: tuple[bool, _Crew] | None = None  # with GPUs or without
        cluster.start(resources)
        if resources.ray_address:
            tell(f"joined the Ray cluster at {resources.ray_address}: {cluster.said()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        ray.shutdown()

    def _crew_for(self, stage: Stage) -> _Crew:
        """The workers for a stage, those of the other size being sent away."""
        gpu = stage.gpu and self._resources.gpus > 0
        if self._crew and self._crew[0] == gpu:
            return self._crew[1]
        self._dismiss()
        size, cpus, gpus = self._resources.workers_for(gpu)
        joined = self._resources.ray_address is not None
        now = cluster.room(cpus, gpus) if joined else size
        later = f", {now} of them now, the others as nodes join: the cluster has {cluster.said()}" if now < size else ""
        self._tell(f"starting {size} workers with {cpus} CPUs and {gpus:g} GPUs{later}")
        crew = _Crew(self._store, size, cpus, gpus, cluster.token(self._store) if joined else None)
        self._crew = gpu, crew
        return crew

    def _dismiss(self) -> None:
        if self._crew:
            self._crew[1].dismiss()
        self._crew = None

    def results(self, stage: Stage, given: Given, tasks: Sequence[Task]) -> Iterator[Result]:
        """Results in the order in which shards end. OpenError, with its traceback, where the stage cannot be opened.

        A worker that is lost is replaced and its shard tried again, see `_hopeless`.
        """
        crew = self._crew_for(stage)
        todo, idle = deque(range(len(tasks))), deque(crew.members)
        losses: defaultdict[str, list[str]] = defaultdict(list)  # the nodes on which a shard was lost
        running: dict[Any, tuple[_Member, int]] = {}
        # a step that runs once has our own machine to itself; in a cluster it has the CPUs of its worker, however many
        # others are up by then: the last bits of what it makes depend on its threads
        threads = crew.cpus * (1 if stage.each or self._resources.ray_address else crew.size)
        shared = [ray.put(given)]
        while todo or running:
            while todo and idle:
                member, at = idle.popleft(), todo.popleft()
                running[member.actor.attempt.remote(stage, shared, threads, tasks[at])] = (member, at)
            for done in self._wait(crew, list(running)):
                if done in crew.starting:
                    if arrived := self._arrive(crew, done):
                        idle.append(arrived)
                    continue
                member, at = running.pop(done)
                task = tasks[at]
                try:
                    result = ray.get(done)
                    idle.append(member)
                except RayError as error:
                    crew.replace(member)
                    losses[task.shard].append(member.node.id)
                    if not (said := _hopeless(losses[task.shard])):
                        self._tell(f"{task.step} {task.shard}: lost with its worker on {member.node.host}, tried again")
                        todo.append(at)
                        continue
                    said = f"given up: {said} ({cluster.cause(error)})"
                    result = Result(
                        task.shard, 0.0, None, said, credentials.redacted(str(error))
                    )  # it lists command lines
                if isinstance(result, str):
                    raise OpenError(result.strip())
                yield result

    def _wait(self, crew: _Crew, running: Sequence[Any]) -> list[Any]:
        """What has ended of the shards, and of the starts of workers. ConfigError where there is no worker for long."""
        done: list[Any] = ray.wait([*running, *crew.starting], timeout=None if running else PATIENCE)[0]
        if not done:
            raise ConfigError(
                f"resources: no worker has found a place in {PATIENCE / 60:.0f} minutes. It asks for {crew.cpus} CPUs "
                f"and {crew.gpus:g} GPUs of one node, the cluster has {cluster.said()}: add such nodes, or lower "
                "resources.cpus or resources.gpus"
            )
        return done

    def _arrive(self, crew: _Crew, ref: Any) -> _Member | None:
        member = crew.arrive(ref)
        if member and self._resources.ray_address:
            cluster.check(member.node, self._store.address)
            if crew.on(member.node) == 1:
                self._tell(f"workers are up on the node {member.node.host}")
        return member

    def together(self, stage: Stage, given: Given, tasks: Sequence[Task]) -> Iterator[Result]:
        """Results in the order of the tasks, on each of which all workers work at once, as ranks
        (`pipelines.ray_backend.train`).

        The workers end, so that the ranks have their CPUs and GPUs. Others start afterwards.
        """
        from pipelines.ray_backend import train

        self._dismiss()
        r = self._resources

        def scaling() -> dict[str, Any]:
            workers = min(r.workers, max(cluster.room(r.cpus, r.gpus), 1)) if r.ray_address else r.workers
            resources = {"CPU": r.cpus, "GPU": r.gpus}
            return {"num_workers": workers, "use_gpu": r.gpus > 0, "resources_per_worker": resources}

        def anew() -> None:
            ray.shutdown()
            cluster.start(r)

        yield from train.results(stage, given, tasks, self._store, scaling, anew, ATTEMPTS)


def _hopeless(nodes: Sequence[str]) -> str | None:
    """Why a shard that was lost on these nodes is given up; None where it is tried again.

    The death of a node is not the fault of its shards: of a hundred spot machines some are taken away every hour.
    """
    if len(nodes) >= LOSSES:
        return f"it was lost with its worker or its node {LOSSES} times"
    if len(nodes) >= ATTEMPTS:
        there = cluster.alive(nodes)
        if sum(node in there for node in nodes) >= ATTEMPTS:
            return f"it ended its worker {ATTEMPTS} times"
    return None
