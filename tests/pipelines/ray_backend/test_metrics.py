"""Metrics of a run, as Ray's agent exports them to Prometheus. They need the packages of `ray[default]`."""

import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import ray

from cpp.files.tables import Counts
from cpp.store.local import Store
from pipelines.config.load import load
from pipelines.config.sections import Resources
from pipelines.engine.executor import TaskResult
from pipelines.engine.plan import Task
from pipelines.ray_backend.metrics import RemoteMetrics
from pipelines.ray_backend.pool import Pool
from pipelines.run import Run
from tests.support.datasets import Dataset
from tests.support.ray_nodes import free_port, started_head

pytest.importorskip("opencensus", reason="Ray exports metrics only with the packages of ray[default]")
pytestmark = pytest.mark.ray


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    monkeypatch.setenv("RAY_metrics_report_interval_ms", "100")
    ray.shutdown()
    with Pool(Store(tmp_path), Resources(workers=1)) as new_pool:
        yield new_pool


class Outside(NamedTuple):
    """A cluster seen from outside: `resources.ray_address`, and the address of its metrics."""

    ray: str
    metrics: str


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    """A cluster whose processes export metrics every five seconds, and when they end."""
    client, metrics = free_port(), free_port()
    environment = {
        "RAY_AUTH_MODE": "disabled",
        "RAY_metrics_report_interval_ms": "5000",
        "GRPC_ENABLE_FORK_SUPPORT": "0",  # else Ray's server of clients fails now and then (ray-project/ray#63202)
    }
    options = [f"--ray-client-server-port={client}", f"--metrics-export-port={metrics}"]
    with started_head(tmp_path_factory.mktemp("outside") / "ray.log", environment, *options):
        cluster = Outside(f"ray://127.0.0.1:{client}", f"127.0.0.1:{metrics}")
        wait_for(lambda: listens(client))
        wait_for(lambda: exported(cluster.metrics) is not None)
        yield cluster


def listens(port: int) -> bool:
    """Whether a server listens at this port of this machine."""
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def wait_for(event: Callable[[], bool]) -> None:
    end = time.monotonic() + 600
    while not event():
        assert time.monotonic() < end
        time.sleep(0.1)


def exported(address: str) -> dict[str, float] | None:
    """The samples of runs that Ray exports now, by name and tags; None if the agent has not started yet."""
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=60) as answer:
            lines = answer.read().decode().splitlines()
    except urllib.error.URLError:
        return None
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line.startswith("ray_cpp_")}


def value(samples: dict[str, float] | None, name: str, **tags: str) -> float | None:
    """The sample with this name and, among others, these tags."""
    pairs = [f'{key}="{tag}"' for key, tag in tags.items()]
    values = [n for s, n in (samples or {}).items() if s.partition("{")[0] == name and all(pair in s for pair in pairs)]
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
    (node,) = ray.nodes()
    address = f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}"
    wait_for(lambda: value(exported(address), "ray_cpp_lost_workers_total", **tags) == 1)
    samples = exported(address)
    assert value(samples, "ray_cpp_shards_total", state="done", **tags) == 2
    assert value(samples, "ray_cpp_shards_total", state="failed", **tags) == 1
    assert value(samples, "ray_cpp_rows_total", outcome="kept", **tags) == 13
    assert value(samples, "ray_cpp_rows_total", outcome="rejected", **tags) == 2
    assert value(samples, "ray_cpp_shards_left", **tags) == 1
    assert value(samples, "ray_cpp_shard_seconds_count", **tags) == 3
    assert value(samples, "ray_cpp_shard_seconds_bucket", le="1.0", **tags) == 1


@pytest.mark.slow
def test_a_run_from_outside_the_cluster_exports_the_counts_of_all_its_steps(
    outside: Outside, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.run.in_ranks", lambda config, step: step == "fit")  # after which Ray restarts
    ray.shutdown()
    run = Run(load(dataset.config, [f"resources.ray_address={outside.ray}", "resources.workers=1", "evaluate=null"]))
    assert run.go()
    expected = {step: outcome.shards for step, outcome in run.outcomes.items()}
    tags = {"run": str(dataset.root), "state": "done"}

    def counted() -> dict[str, float | None]:
        samples = exported(outside.metrics)
        return {step: value(samples, "ray_cpp_shards_total", step=step, **tags) for step in expected}

    wait_for(lambda: counted() == expected)


def test_the_last_calls_are_exported_and_failed_ones_do_not_end_the_run(outside: Outside, tmp_path: Path) -> None:
    tasks, results = [Task("encode", "0", "key", {}, {})], [TaskResult("0", 2.0, Counts(10, 8, 2))]
    tags = {"run": str(tmp_path), "step": "encode"}
    ray.shutdown()
    with Pool(Store(tmp_path), Resources(ray_address=outside.ray, workers=1)) as pool:
        assert isinstance(pool._metrics, RemoteMetrics)
        pool._metrics.set_left("encode", 1)
        wait_for(lambda: value(exported(outside.metrics), "ray_cpp_shards_left", **tags) == 1)
        for _ in range(1000):
            pool._metrics.add_lost_worker("encode")
        pool._metrics.close()
        wait_for(lambda: value(exported(outside.metrics), "ray_cpp_lost_workers_total", **tags) == 1000)
        assert list(pool._measured(tasks, iter(results))) == results  # without the actor
        ray.shutdown()
        assert list(pool._measured(tasks, iter(results))) == results  # without a connection
    assert not ray.is_initialized()
