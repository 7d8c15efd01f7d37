"""Metrics of a run, as Ray's agent exports them to Prometheus. They need the packages of `ray[default]`."""

import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from cpp.files.tables import Counts
from cpp.store.local import Store
from pipelines.config.sections import Resources
from pipelines.engine.executor import TaskResult
from pipelines.engine.plan import Task
from pipelines.ray_backend.pool import Pool

pytest.importorskip("opencensus", reason="Ray exports metrics only with the packages of ray[default]")
pytestmark = pytest.mark.ray


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    monkeypatch.setenv("RAY_metrics_report_interval_ms", "100")
    ray.shutdown()
    with Pool(Store(tmp_path), Resources(workers=1)) as new_pool:
        yield new_pool


def exported() -> dict[str, float]:
    """The samples of the run that Ray exports now, by name and tags."""
    (node,) = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            lines = answer.read().decode().splitlines()
    except urllib.error.URLError:  # the agent starts after the node
        return {}
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line.startswith("ray_cpp_")}


def value(samples: dict[str, float], name: str, **tags: str) -> float | None:
    """The sample with this name and, among others, these tags."""
    pairs = [f'{key}="{tag}"' for key, tag in tags.items()]
    values = [samples[s] for s in samples if s.partition("{")[0] == name and all(pair in s for pair in pairs)]
    return values[0] if values else None


def test_shards_rows_failures_and_lost_workers_are_exported(pool: Pool, tmp_path: Path) -> None:
    tags = {"run": str(tmp_path), "step": "encode"}
    tasks = [Task("encode", str(i), "key", {}, {}) for i in range(4)]
    results = [
        TaskResult("0", 2.0, Counts(10, 8, 2)),
        TaskResult("1", 0.5, Counts(5, 5)),
        TaskResult("2", 4.0, None, "ValueError: damaged"),
    ]
    assert list(pool._measured(tasks, iter(results))) == results
    pool._metrics.add_lost_worker("encode")
    samples = exported()
    end = time.monotonic() + 600
    while value(samples, "ray_cpp_lost_workers_total", **tags) != 1:
        assert time.monotonic() < end
        time.sleep(0.1)
        samples = exported()
    assert value(samples, "ray_cpp_shards_total", state="done", **tags) == 2
    assert value(samples, "ray_cpp_shards_total", state="failed", **tags) == 1
    assert value(samples, "ray_cpp_rows_total", outcome="kept", **tags) == 13
    assert value(samples, "ray_cpp_rows_total", outcome="rejected", **tags) == 2
    assert value(samples, "ray_cpp_shards_left", **tags) == 1
    assert value(samples, "ray_cpp_shard_seconds_count", **tags) == 3
    assert value(samples, "ray_cpp_shard_seconds_bucket", le="1.0", **tags) == 1
