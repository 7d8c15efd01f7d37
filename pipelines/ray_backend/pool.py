"""The runner on Ray: a pool of actors that live from step to step and process a shard, or two, at a time each.

Ray Data was measured beside it twice, last with Ray 2.60 (tests/bench/RESULTS.md, "The runner"). With one task in
flight for each actor and a limit of retries it copes with damaged shards and killed workers too, but it starts new
processes for every step, names a failed shard only in its log, counts the loss of a node against the shard, and ends
the run after half an hour in which no shard ends. It was not faster. Its main benefit, blocks of data between
operators, is not needed: shards travel as file names.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import ray
from ray.exceptions import RayError

from cpp.files import credentials
from cpp.files.quantities import format_bytes
from cpp.store.local import Store
from pipelines.config.errors import ResourceError
from pipelines.config.sections import Resources
from pipelines.engine.executor import OpenError, TaskResult
from pipelines.engine.plan import Task
from pipelines.engine.stage import Context, Stage, worker_memory
from pipelines.ray_backend import cluster
from pipelines.ray_backend.metrics import open_metrics
from pipelines.ray_backend.worker import MAIN, SECOND, Worker

ATTEMPTS = 3  # workers killed by a shard, on nodes that stay alive, after which the shard is given up
LOSSES = 10  # workers lost in all, with their nodes or not, after which it is given up: it may be what ends the nodes
PATIENCE = 15 * 60  # seconds to wait for a first worker; a cloud needs some minutes to start a GPU node


class _Call(NamedTuple):
    """A pending call of an actor for a shard: the actor with its node, the number of the task, and the method."""

    actor: Any
    node: cluster.Node
    task: int
    method: str


class Pool:
    """The workers of a run, on a local Ray instance or on a cluster. A context manager; `log` receives lines.

    Steps that need no GPU run on separate workers without one. If a cluster cannot hold all workers yet, the others
    start as nodes join. On a cluster a worker requests the memory that the largest of its `stages` needs.
    """

    def __init__(
        self,
        store: Store,
        resources: Resources,
        log: Callable[[str], None] = print,
        stages: Mapping[str, Stage] | None = None,
    ) -> None:
        """Raises ResourceError or ClusterError if Ray cannot start, see `pipelines.ray_backend.cluster.start`."""
        self._store, self._resources, self._log, self._stages = store, resources, log, stages or {}
        self._gpu: bool | None = None  # whether the present workers have GPUs; None if there are no workers
        self._ready: dict[Any, cluster.Node] = {}  # the actors that are up, with their nodes
        self._starting: dict[Any, Any] = {}  # the others, by their pending call of `ready`
        cluster.start(resources)
        self._metrics = open_metrics(store.address)
        if resources.ray_address:
            log(f"joined the Ray cluster at {resources.ray_address}: {cluster.describe()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._metrics.close()
        ray.shutdown()

    def _start_workers(self, gpu: bool) -> None:
        """Start the workers with or without GPUs, in place of those of the other kind."""
        if self._gpu == gpu:
            return
        self._stop_workers()
        self._gpu = gpu
        self._size, self._cpus, self._gpus = self._resources.workers_for(gpu)
        joined = self._resources.ray_address is not None
        memory = int(worker_memory(self._stages.values(), self._resources, gpu)) if joined else None
        self._memory = memory  # one machine's memory is its user's to divide
        now = cluster.capacity(self._cpus, self._gpus, self._memory) if joined else self._size
        later = f"; {now} now, the others as nodes join: the cluster has {cluster.describe()}"
        self._log(
            f"starting {self._size} workers with {self._cpus} CPUs and {self._gpus:g} GPUs each"
            + (later if now < self._size else "")
        )
        self._token = cluster.create_token(self._store) if joined else None
        remote: Any = ray.remote  # its type hints lack concurrency_groups
        needs = {"num_cpus": self._cpus, "num_gpus": self._gpus, "memory": self._memory}
        self._actor = remote(**needs, concurrency_groups={SECOND: 1})(Worker)
        self._failures = 0  # failed starts since the last success
        for _ in range(self._size):
            self._start_worker()

    def _start_worker(self) -> None:
        actor = self._actor.remote(self._store)
        self._starting[actor.ready.remote(self._token)] = actor

    def _stop_workers(self) -> None:
        """Stop all workers to free their CPUs and GPUs."""
        for actor in (*self._starting.values(), *self._ready):
            ray.kill(actor)
        self._starting, self._ready, self._gpu = {}, {}, None

    def results(self, stage: Stage, context: Context, tasks: Sequence[Task]) -> Generator[TaskResult]:
        """Yield the results in the order in which shards end. Raises OpenError if the stage cannot be opened.

        A lost worker is replaced and its shard retried, see `_reason_to_give_up`.
        """
        return self._measured(tasks, self._results(stage, context, tasks))

    def _measured(self, tasks: Sequence[Task], results: Iterator[TaskResult]) -> Generator[TaskResult]:
        """The results, each of which is recorded in the metrics of the run."""
        step = tasks[0].step
        self._metrics.set_left(step, len(tasks))
        for ended, result in enumerate(results, start=1):
            self._metrics.add_result(step, result)
            self._metrics.set_left(step, len(tasks) - ended)
            yield result

    def _results(self, stage: Stage, context: Context, tasks: Sequence[Task]) -> Generator[TaskResult]:
        self._start_workers(stage.on_gpu(self._resources))
        todo = deque(range(len(tasks)))
        losses: dict[int, list[cluster.Node]] = {}  # task -> nodes on which its workers were lost
        running: dict[Any, _Call] = {}
        # On one machine a step that runs once gets the CPUs of all workers. On a cluster it gets those of one worker,
        # however many are up: the last bits of its results depend on the number of threads.
        threads = self._cpus * (1 if stage.each or self._resources.ray_address else self._size)
        shared = [ray.put(context)]
        while todo or running:
            while todo and (thread := self._free_thread(stage, todo, running.values(), losses)):
                (actor, method), i = thread, todo.popleft()
                call = getattr(actor, method).remote(stage, shared, threads, tasks[i])
                running[call] = _Call(actor, self._ready[actor], i, method)
            for ref in self._wait(list(running)):
                if ref in self._starting:
                    self._finish_start(ref)
                    continue
                actor, node, i, _ = running.pop(ref)
                try:
                    result = ray.get(ref)
                except RayError as error:
                    if actor in self._ready:  # otherwise the other shard of this worker has replaced it
                        self._replace(actor)
                        self._metrics.add_lost_worker(tasks[i].step)
                    losses.setdefault(i, []).append(node)
                    result = self._after_loss(tasks[i], losses[i], error)
                if isinstance(result, str):
                    raise OpenError(result.strip())
                if result is None:
                    todo.append(i)
                else:
                    yield result

    def _free_thread(
        self, stage: Stage, todo: Sequence[int], running: Collection[_Call], lost: Collection[int]
    ) -> tuple[Any, str] | None:
        """The actor for the next shard, and its method; None if there is none now.

        An actor without a shard comes first. Another one gets a second shard of a stage that overlaps, except that the
        last shards are kept for actors that will be idle. A shard that `lost` a worker has the next one to itself, so
        that it alone is to blame if that is lost too.
        """
        shards: dict[Any, dict[str, int]] = {actor: {} for actor in self._ready}
        for call in running:
            if call.actor in shards:
                shards[call.actor][call.method] = call.task
        for actor, by_method in shards.items():
            if not by_method:
                return actor, MAIN
        if not stage.overlaps or todo[0] in lost or len(todo) < self._size:
            return None
        for actor, by_method in shards.items():
            if len(by_method) == 1 and not any(task in lost for task in by_method.values()):
                return actor, SECOND if MAIN in by_method else MAIN
        return None

    def _wait(self, running: Sequence[Any]) -> list[Any]:
        """Wait for a task or a start of a worker to end. ResourceError if no worker comes up within PATIENCE."""
        ended: list[Any] = ray.wait([*running, *self._starting], timeout=None if running else PATIENCE)[0]
        if not ended:
            raise ResourceError(
                f"resources: no worker could be placed within {PATIENCE / 60:.0f} minutes. Each needs {self._cpus} "
                f"CPUs, {self._gpus:g} GPUs and {format_bytes(self._memory or 0)} of memory on one node; the cluster "
                f"has {cluster.describe()}: add larger nodes, or lower resources.cpus, resources.gpus or "
                "resources.image_batch"
            )
        return ended

    def _finish_start(self, ref: Any) -> None:
        """Add the actor that came up, or start another one in its place if it failed.

        Raises ResourceError if no worker comes up in ATTEMPTS starts of each, ClusterError if its node is unsuitable.
        """
        actor = self._starting.pop(ref)
        try:
            node = self._ready[actor] = ray.get(ref)
        except RayError as error:
            self._failures += 1
            if self._failures >= ATTEMPTS * self._size:
                raise ResourceError(f"resources: no worker could start: {cluster.loss_reason(error)}") from error
            self._start_worker()
            return
        self._failures = 0
        if self._resources.ray_address:
            cluster.check_node(node, self._store.address)
            if sum(other.id == node.id for other in self._ready.values()) == 1:
                self._log(f"workers are up on node {node.host}")

    def _replace(self, actor: Any) -> None:
        """Start another worker in place of a lost one."""
        with contextlib.suppress(RayError):
            ray.kill(actor)  # it may still run if only the network failed
        self._start_worker()
        del self._ready[actor]

    def _after_loss(self, task: Task, nodes: Sequence[cluster.Node], error: RayError) -> TaskResult | None:
        """A failed result if the task is given up, None if it is retried; `nodes` are those of its lost workers."""
        if reason := _reason_to_give_up([node.id for node in nodes]):
            message = f"given up: {reason} ({cluster.loss_reason(error)})"
            trace = credentials.redacted(str(error))  # which contains command lines
            return TaskResult(task.shard, 0.0, None, message, trace)
        self._log(
            f"{task.step} {task.shard}: the worker on node {nodes[-1].host} was killed while it processed this shard "
            f"(attempt {len(nodes)}); retrying"
        )
        return None

    def results_from_ranks(self, stage: Stage, context: Context, tasks: Sequence[Task]) -> Generator[TaskResult]:
        """Yield the results in the order of the tasks; all workers share each task as ranks of one training.

        Stops the workers first, so that the ranks get their CPUs and GPUs. See `pipelines.ray_backend.train`.
        """
        from pipelines.ray_backend import train

        self._stop_workers()
        results = train.results(stage, context, tasks, self._store, self._resources, ATTEMPTS)
        yield from self._measured(tasks, self._with_new_metrics(results))

    def _with_new_metrics(self, results: Iterator[TaskResult]) -> Generator[TaskResult]:
        """The results of ranks. Before each of them Ray has restarted, which ends an actor that records the metrics."""
        for result in results:
            self._metrics = open_metrics(self._store.address)
            yield result


def _reason_to_give_up(nodes: Sequence[str]) -> str | None:
    """Why a shard whose workers were lost on these nodes is given up; None if it is retried.

    A shard is not to blame for the loss of a node: of a hundred spot machines, some are taken away every hour.
    """
    if len(nodes) >= LOSSES:
        return f"its worker or its node was lost {LOSSES} times"
    if len(nodes) >= ATTEMPTS:
        answering = cluster.alive(nodes)
        if sum(node in answering for node in nodes) >= ATTEMPTS:
            return f"its worker was killed {ATTEMPTS} times"
    return None
