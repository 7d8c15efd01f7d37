"""A run on a Ray cluster of several nodes, here on one machine: nodes that are lost, that join, that do not fit."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from cpp.files.tables import Counts
from cpp.store.local import Store
from cpp.store.results import Product
from pipelines.config.errors import ClusterError, ConfigError, ResourceError
from pipelines.config.load import load
from pipelines.config.sections import Resources
from pipelines.engine import machine
from pipelines.engine.plan import Task
from pipelines.engine.stage import Context, Inputs, Outputs, Stage
from pipelines.ray_backend import cluster
from pipelines.ray_backend import pool as runner
from pipelines.ray_backend.pool import Pool
from pipelines.run import Run
from tests.support.datasets import Dataset, write_dataset
from tests.support.ray_nodes import SMALL, disturb, started_head
from tests.support.runs import files

pytestmark = pytest.mark.ray

GIVEN = Context({}, threads=1, device="cpu", batch=8, image_batch=8, prefetch=1)
PRODUCT = Product("place", ".txt")
NOTICED = {"health_check_period_ms": 300, "health_check_failure_threshold": 3}  # a lost node, after a second and not 15


class Place(Stage):
    """Writes the node its shard was worked on, the GPUs of the worker, its threads and where it has our code."""

    version = 1
    products = (PRODUCT,)
    each = ("text",)

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        here = ray.get_runtime_context().get_node_id(), ray.get_gpu_ids(), context.threads
        code = [
            path for path in sys.path if (Path(path) / "cpp/report").is_dir() or (Path(path) / "pipelines").is_dir()
        ]
        out["place"].write_text(" ".join(map(str, (*here, os.pathsep.join(code)))))
        return Counts(1, 1)


class PlaceWithGPU(Place):
    gpu = True


class PlaceOnce(Place):
    each = ()


class PlaceWithMemory(Place):
    gigabytes: float

    def memory(self, image_batch: int) -> float:
        return self.gigabytes * 1e9


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    """Two nodes of one CPU, the second with what Ray takes for a GPU."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    cluster_of_two = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "_system_config": NOTICED, **SMALL})
    cluster_of_two.add_node(num_cpus=1, num_gpus=1, **SMALL)
    yield cluster_of_two
    cluster_of_two.shutdown()
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def places(pool: Pool, store: Store, stage: Stage, step: str, n: int = 6) -> list[list[str]]:
    """Node, GPUs, threads and code of each of `n` shards."""
    names = [f"s{i}" for i in range(n)]
    tasks = [Task(step, s, "k", {"text": s}, {"place": str(store.path(PRODUCT, s, step))}) for s in names]
    assert all(result.error is None for result in pool.results(stage, GIVEN, tasks))
    return [Path(task.outputs["place"]).read_text().split() for task in tasks]


@pytest.mark.slow
def test_only_gpu_steps_hold_gpus_and_other_steps_use_every_node(nodes: Cluster, tmp_path: Path) -> None:
    store = Store(tmp_path)
    resources = Resources(ray_address=nodes.address, workers=1, gpus=1, cpu_workers=2)
    with Pool(store, resources) as pool:
        with_gpu = places(pool, store, PlaceWithGPU(), "gpu")
        without = places(pool, store, Place(), "cpu", 40)
        once = places(pool, store, PlaceOnce(), "cpu once", 1)
        again = places(pool, store, PlaceWithGPU(), "gpu again")
    assert {gpus for _, gpus, *_ in (*with_gpu, *again)} == {"[0]"}
    assert len({node for node, *_ in with_gpu}) == 1
    assert {gpus for _, gpus, *_ in (*without, *once)} == {"[]"}
    assert {threads for *_, threads, _ in (*with_gpu, *without, *once)} == {"1"}  # however many workers are up
    for *_, code in (*with_gpu, *without):  # another machine has none at the driver's place
        assert len({*code.split(os.pathsep)} - {str(cluster.CODE)}) == 2, code


@pytest.mark.slow
def test_workers_are_placed_where_the_memory_suffices_for_their_largest_step(
    nodes: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, resources = Store(tmp_path), Resources(ray_address=nodes.address, workers=1)
    stages = {"light": Place(), "heavy": PlaceWithMemory(gigabytes=20), "on GPUs": PlaceWithGPU()}
    large = nodes.add_node(num_cpus=1, **SMALL | {"memory": 32 * 2**30})
    try:
        with Pool(store, resources, stages=stages) as pool:
            assert {node for node, *_ in places(pool, store, Place(), "light", 2)} == {large.node_id}
        monkeypatch.setattr(runner, "PATIENCE", 0.5)
        message = "and 40 GB of memory on one node; .* resources.image_batch$"
        with (
            Pool(store, resources, stages={"heavy": PlaceWithMemory(gigabytes=40)}) as pool,
            pytest.raises(ResourceError, match=message),
        ):
            places(pool, store, Place(), "none")
    finally:
        nodes.remove_node(large)


@pytest.mark.slow
def test_losing_and_gaining_a_node_changes_no_byte(
    nodes: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = write_dataset(tmp_path)
    (second,) = nodes.worker_nodes
    disturbed = disturb(monkeypatch, nodes, second, another=True)
    assert Run(load(dataset.config, [f"resources.ray_address={nodes.address}", "resources.workers=3"])).go()
    assert disturbed
    lines = (dataset.root / "run.log").read_text().splitlines()
    assert any("joined the Ray cluster at" in line and "2 nodes with 2 CPUs and 1 GPUs" in line for line in lines)
    assert any("starting 3 workers with 1 CPUs and 0 GPUs each; 2 now" in line for line in lines)
    assert any("was killed while it processed this shard (attempt 1); retrying" in line for line in lines)
    assert sum("workers are up on node" in line for line in lines) == 3  # of the third node as well
    other = tmp_path / "other"
    assert Run(load(dataset.config, [f"root={other}", "resources.workers=1"]), local=True).go()
    assert files(dataset.root) == files(other)


def test_the_loss_of_a_node_does_not_count_against_its_shards(nodes: Cluster, tmp_path: Path) -> None:
    lost = nodes.add_node(num_cpus=1, **SMALL)
    with Pool(Store(tmp_path), Resources(ray_address=nodes.address, workers=1)):
        nodes.remove_node(lost, allow_graceful=False)
        head = nodes.head_node.node_id
        assert cluster.alive([head, lost.node_id]) == {head}
        assert (cluster.capacity(1, 0), cluster.capacity(1, 1)) == (2, 1)
        assert cluster.describe() == "2 nodes with 2 CPUs and 1 GPUs"
        assert runner._reason_to_give_up([lost.node_id, lost.node_id, lost.node_id, head, head]) is None
        assert runner._reason_to_give_up([head, lost.node_id, head, head]) == "its worker was killed 3 times"
        assert "10 times" in str(runner._reason_to_give_up([lost.node_id] * runner.LOSSES))


@pytest.mark.slow
def test_a_node_without_the_run_folder_or_with_other_versions_is_refused(
    nodes: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, resources = Store(tmp_path), Resources(ray_address=nodes.address, workers=1)
    with monkeypatch.context() as patch, Pool(store, resources) as pool:
        patch.setattr(cluster, "create_token", lambda store: tmp_path / "on another disk")
        with pytest.raises(ClusterError, match=r"^root: the node .* does not see .* on a disk that all"):
            places(pool, store, Place(), "unseen")
    with monkeypatch.context() as patch, Pool(store, resources) as pool:
        versions = machine.versions()
        patch.setattr(
            machine, "versions", lambda: {**versions, "torch": "1.0", "pyarrow": versions["pyarrow"] + "+cpu"}
        )
        with pytest.raises(ClusterError, match=r"has torch [^,]+ \(here 1.0\), .* install .* requirements.lock"):
            places(pool, store, Place(), "versions")


def test_the_run_ends_if_no_worker_can_be_placed(
    nodes: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "PATIENCE", 0.5)
    lines = list[str]()
    store, resources = Store(tmp_path), Resources(ray_address=nodes.address, workers=2, cpus=64)
    message = "needs 64 CPUs, 0 GPUs and 1.5 GB of memory on one node; the cluster has .* nodes with"
    with Pool(store, resources, lines.append) as pool, pytest.raises(ResourceError, match=message):
        places(pool, store, Place(), "large")
    assert "starting 2 workers with 64 CPUs and 0 GPUs each; 0 now" in lines[1]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "no-such-host.invalid:6379"])
def test_an_unreachable_cluster_is_one_clear_error(dataset: Dataset, address: str) -> None:
    with pytest.raises(ClusterError, match=f"ray_address: cannot join a Ray cluster at '{address}' .*null to start a"):
        Run(load(dataset.config, [f"resources.ray_address={address}"])).go()


def test_joining_is_tried_again_when_the_cluster_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    errors: list[Exception] = []

    def init(address: str, **options: object) -> None:
        if errors:
            raise errors.pop()

    monkeypatch.setattr(ray, "init", init)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"ray://127.0.0.1:{server.getsockname()[1]}"
        errors = [ConnectionAbortedError("Initialization failure from server:\n")] * (cluster.JOINS - 1)
        cluster.start(Resources(ray_address=address))
        assert f"the Ray cluster at {address} ended the connection: joining again (3 of 3)" in capsys.readouterr().out
        errors = [ConnectionAbortedError("Initialization failure from server:\n")] * cluster.JOINS
        with pytest.raises(ClusterError, match="Initialization failure"):
            cluster.start(Resources(ray_address=address))
        errors = [ValueError("bad"), ConnectionAbortedError("not reached")][::-1]
        with pytest.raises(ClusterError, match="bad"):
            cluster.start(Resources(ray_address=address))


JOIN = """
from pipelines.config.sections import Resources
from pipelines.ray_backend import cluster
try:
    cluster.start(Resources(ray_address="127.0.0.1:{port}"))
    print("joined", cluster.describe())
except cluster.ClusterError as error:
    print(error)
"""


WITH_TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 2}


@pytest.fixture
def token_cluster(tmp_path: Path) -> Iterator[int]:
    """The port of a cluster that asks for a token; a process of its own, because Ray reads the mode once."""
    with started_head(tmp_path / "ray.log", WITH_TOKEN) as port:
        yield port


def test_a_cluster_with_a_token_is_joined_with_it_and_named_without_it(token_cluster: int) -> None:
    def join(environment: dict[str, str]) -> str:
        program = [sys.executable, "-c", JOIN.format(port=token_cluster)]
        return subprocess.run(program, env=environment, capture_output=True, text=True, check=True).stdout.strip()

    assert join({**os.environ, **WITH_TOKEN}) == "joined 1 node with 1 CPUs and 0 GPUs"
    without = {key: value for key, value in os.environ.items() if key not in WITH_TOKEN}
    assert "If the cluster asks for a token, set RAY_AUTH_MODE=token" in join({**without, "RAY_AUTH_MODE": "disabled"})


def test_invalid_cluster_settings_are_refused_on_loading(dataset: Dataset) -> None:
    with pytest.raises(ConfigError, match="resources.ray_address: string should match"):
        load(dataset.config, ["resources.ray_address=http://head"])
    with pytest.raises(ConfigError, match="root is 'runs/x', and nodes of a cluster .* give the absolute path"):
        load(dataset.config, ["resources.ray_address=auto", "root=runs/x"])
    assert load(dataset.config, ["resources.ray_address=auto", "root=s3://bucket/run"]).root == "s3://bucket/run"
    with pytest.raises(ConfigError, match="resources.cpu_workers is for runs with GPUs"):
        load(dataset.config, ["resources.cpu_workers=3"])


def test_capacity_for_fractions_of_a_gpu_has_no_rounding_error(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [{"Alive": alive, "Resources": {"CPU": 200.0, "GPU": 7.0}} for alive in (True, False)]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    assert [cluster.capacity(1, gpus) for gpus in (0.07, 0.14, 1, 0)] == [100, 50, 7, 200]
