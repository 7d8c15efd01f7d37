"""Metrics of a run for Ray's dashboard and Prometheus, by Ray's own metrics API. Knows no stage.

The driver records them, and Ray's agent on its node exports them if `ray[default]` is installed there. Prometheus sees
each name with the prefix `ray_` and the tags `run` (the run folder) and `step`. Rates are left to Prometheus, as in
`rate(ray_cpp_rows_total[5m])`.
"""

from __future__ import annotations

from ray.util.client import ray as client
from ray.util.metrics import Counter, Gauge, Histogram

from pipelines.engine.executor import TaskResult

SECONDS = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0]  # bounds of the histogram


class RunMetrics:
    """The metrics of one run, identified by the address of its run folder. A line says so if none can be exported."""

    def __init__(self, run: str) -> None:
        if client.is_connected():
            print(
                "the metrics of this run are not exported, because its driver is outside the cluster (ray://): to have "
                "them, start it on a node of the cluster with resources.ray_address: auto",
                flush=True,
            )
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
