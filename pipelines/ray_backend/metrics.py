"""Metrics of a run for Ray's dashboard and Prometheus, by Ray's own metrics API. Knows no stage.

The driver records them, or an actor on the cluster if the driver is outside it (`ray://`). Ray's agent on that node
exports them if `ray[default]` is installed there. Prometheus sees each name with the prefix `ray_` and the tags `run`
(the run folder) and `step`. Rates are left to Prometheus, as in `rate(ray_cpp_rows_total[5m])`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import ray
from ray.util.client import ray as client
from ray.util.metrics import Counter, Gauge, Histogram

from pipelines.engine.executor import TaskResult
from pipelines.ray_backend.cluster import ANSWER

SECONDS = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0]  # bounds of the histogram


class RunMetrics:
    """The metrics of one run, identified by the address of its run folder. This process records them."""

    def __init__(self, run: str) -> None:
        tags = ("run", "step")
        self._shards = Counter("cpp_shards", "Shards that ended, by state (done or failed)", (*tags, "state"))
        self._rows = Counter(
            "cpp_rows", "Input rows of the shards done, by outcome (kept or rejected)", (*tags, "outcome")
        )
        self._lost = Counter("cpp_lost_workers", "Workers that were lost while they processed a shard", tags)
        self._left = Gauge("cpp_shards_left", "Shards of the present step that have not ended", tags)
        self._seconds = Histogram("cpp_shard_seconds", "Seconds to process a shard", SECONDS, tags)
        for metric in (self._shards, self._rows, self._lost, self._left, self._seconds):
            metric.set_default_tags({"run": run})

    def set_left(self, step: str, shards: int) -> None:
        """Set the number of shards of a step that have not ended."""
        self._left.set(shards, {"step": step})

    def add_result(self, step: str, result: TaskResult) -> None:
        """Count a shard that ended."""
        tags = {"step": step}
        self._shards.inc(1, tags | {"state": "failed" if result.error else "done"})
        self._seconds.observe(result.seconds, tags)
        rows = {"kept": result.counts.rows_out, "rejected": result.counts.rejected} if result.counts else {}
        for outcome, count in rows.items():
            if count:  # Ray takes positive numbers only
                self._rows.inc(count, tags | {"outcome": outcome})

    def add_lost_worker(self, step: str) -> None:
        """Count a worker that was lost while it processed a shard of the step."""
        self._lost.inc(1, {"step": step})

    def close(self) -> None:
        """Do nothing: Ray exports the last values of the driver when it shuts down."""


class _Recorder(RunMetrics):
    """The Ray actor."""

    def close(self) -> None:
        """End the process, before which Ray exports the last values. Ray does not start such an actor again."""
        ray.actor.exit_actor()


class RemoteMetrics(RunMetrics):
    """The metrics of one run that an actor on the cluster records, because Ray exports none of a driver outside it.

    The calls are not waited for, and their errors are ignored: metrics never end a run. If its node is lost, the actor
    starts on another one, where the counters begin at 0 again, which Prometheus takes into account.
    """

    def __init__(self, run: str) -> None:
        self._actor: Any = ray.remote(num_cpus=0, max_restarts=-1)(_Recorder).remote(run)

    def set_left(self, step: str, shards: int) -> None:
        self._call("set_left", step, shards)

    def add_result(self, step: str, result: TaskResult) -> None:
        self._call("add_result", step, result)

    def add_lost_worker(self, step: str) -> None:
        self._call("add_lost_worker", step)

    def close(self) -> None:
        """Wait until the actor has ended, which it does after all earlier calls, or for ANSWER seconds at most."""
        if call := self._call("close"):  # without a connection ray.wait would start a local Ray instance
            with suppress(Exception):
                ray.wait([call], timeout=ANSWER)

    def _call(self, method: str, *arguments: Any) -> Any:
        """Send a call to the actor. Returns the reference to its result, None if it cannot be sent."""
        with suppress(Exception):  # of any kind: the client's are those of the network, of pickle and of the server
            return getattr(self._actor, method).remote(*arguments)


def open_metrics(run: str) -> RunMetrics:
    """The metrics of a run, for a driver in the cluster or outside it."""
    return RemoteMetrics(run) if client.is_connected() else RunMetrics(run)
