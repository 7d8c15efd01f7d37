"""Starts a local Ray instance or joins a cluster, describes its nodes, and refuses unsuitable ones. Knows no stage."""

from __future__ import annotations

import logging
import os
import signal
import socket
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import chdir, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayError
from ray.job_config import JobConfig
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cpp.files import credentials, filesystem
from cpp.store.local import Store
from pipelines.config.errors import ClusterError, ResourceError
from pipelines.config.sections import Resources
from pipelines.engine import machine

JOINS = 3  # attempts to join; a cluster's server for drivers outside it fails now and then (ray-project/ray#63202)
ANSWER = 120  # seconds within which a busy node must answer; Ray notices a lost one after some 15
ASKS = (
    "If the cluster asks for a token, set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to what `ray get-auth-token` prints "
    "on its head node. "
)
CODE = Path(__file__).parents[2]


class Node(NamedTuple):
    """A node as one of its workers sees it. `sees_root` tells whether the worker sees the driver's run folder."""

    id: str
    host: str
    versions: dict[str, str]
    sees_root: bool


def start(resources: Resources) -> None:
    """Start a local Ray instance, or join the cluster at `resources.ray_address`.

    Raises ResourceError if this machine is too small for the workers, ClusterError if the cluster does not answer.
    """
    options: dict[str, Any] = {
        "logging_level": logging.ERROR,
        "logging_config": ray.LoggingConfig(log_level="ERROR"),  # in workers: Ray Train would warn every second
        "log_to_driver": True,
    }
    if resources.ray_address is None:
        if missing := list(machine.missing_resources(resources)):
            raise ResourceError("\n".join(missing))
        # Ray puts the driver's working directory first on the workers' sys.path, where a user's own folder `pipelines`
        # would shadow this package. It leaves that out for jobs of a client, and reads PYTHONPATH.
        job, others = JobConfig(_client_job=True), os.environ.get("PYTHONPATH", "").split(os.pathsep)
        os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([str(CODE), *filter(None, others)]))
        with _keep_sigterm_handler():
            ray.init("local", job_config=job, include_dashboard=False, object_store_memory=256 * 2**20, **options)
        return
    _check_port(resources.ray_address)
    packages = [str(CODE / name) for name in ("cpp", "pipelines")]  # so that the nodes run the driver's code
    try:
        # the working directory that Ray puts on the workers' sys.path is an empty one that is gone then
        with _keep_sigterm_handler(), tempfile.TemporaryDirectory() as empty, chdir(empty):
            _join(resources.ray_address, runtime_env={"py_modules": packages}, **options)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        raise _unreachable(resources.ray_address, error, ASKS) from error


def _join(address: str, **options: Any) -> None:
    """Join a cluster. Tries again if the cluster ends the connection while it is set up, JOINS times in all."""
    for attempt in range(1, JOINS + 1):
        try:
            ray.init(address, **options)
            return
        except ConnectionAbortedError:
            if attempt == JOINS:
                raise
            again = f"joining again ({attempt + 1} of {JOINS})"
            print(f"the Ray cluster at {address} ended the connection: {again}", flush=True)


@contextmanager
def _keep_sigterm_handler() -> Iterator[None]:
    """Restore the handler of SIGTERM: Ray's own prints a stack and aborts the process after three seconds."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


def _check_port(address: str) -> None:
    """Raise ClusterError at once if nothing listens at the address; Ray itself would try for two minutes."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str, error: Exception, hint: str = "") -> ClusterError:
    return ClusterError(
        f"resources.ray_address: cannot join a Ray cluster at {address!r} ({str(error).splitlines()[0]}). {hint}Check "
        "that it is up (`ray status` on its head node) and that the port is that of the head (6379; for ray:// 10001), "
        "or set it to null to start a local Ray instance"
    )


def describe() -> str:
    """Number of nodes, CPUs and GPUs of the cluster now."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus, gpus = (sum(node.get(kind, 0) for node in nodes) for kind in ("CPU", "GPU"))
    return f"{len(nodes)} {'node' if len(nodes) == 1 else 'nodes'} with {cpus:g} CPUs and {gpus:g} GPUs"


def capacity(cpus: int, gpus: float, memory: int | None = None) -> int:
    """How many workers with these CPUs, GPUs and bytes of memory the present nodes can hold when they are idle."""
    needs = {"CPU": cpus, "GPU": gpus, "memory": memory}
    return sum(
        min(int(node["Resources"].get(kind, 0) / n + 1e-6) for kind, n in needs.items() if n)  # 7 / 0.07 is below 100
        for node in ray.nodes()
        if node["Alive"]
    )


def alive(nodes: Iterable[str]) -> set[str]:
    """The ids of those nodes that answer. Ray's own list contains a lost node for some time."""

    @ray.remote(num_cpus=0, max_retries=0)
    def ping() -> None:
        pass

    pings: dict[Any, str] = {
        ping.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(): node
        for node in set(nodes)
    }
    answered = set()
    for ref in ray.wait(list(pings), num_returns=len(pings), timeout=ANSWER)[0]:
        with suppress(RayError):
            ray.get(ref)
            answered.add(pings[ref])
    return answered


def loss_reason(error: Exception) -> str:
    """Ray's reason for the loss of a worker, in one line."""
    lines = credentials.redacted(str(error)).strip().splitlines()
    for line in lines:
        if "running low on memory" in line:
            return f"{line}: lower resources.workers or resources.batch"
    return lines[-1].partition(" Some common causes")[0]


def create_token(store: Store) -> Path | None:
    """Create a file in the run folder, by which workers check that they see the same folder; None for a bucket."""
    if filesystem.is_remote(store.address):
        return None
    path = store.scratch() / f"seen-{uuid.uuid4().hex}"
    path.touch()
    return path


def check_node(node: Node, root: str) -> None:
    """Raise ClusterError if a node does not see the run folder, or if its packages could change the results."""
    if not node.sees_root:
        raise ClusterError(
            f"root: the node {node.host} does not see {root}, so its results would be lost: set root to a folder on "
            "a disk that all nodes share (NFS, a volume), or to s3:// or gs://"
        )
    here = machine.versions()
    different = [
        f"{package} {version} (here {here[package]})"
        for package, version in node.versions.items()
        if package in here and package not in {"python", "cpp-at-scale"} and _public(version) != _public(here[package])
    ]
    if different:
        raise ClusterError(
            f"resources.ray_address: the node {node.host} has {', '.join(different)}, which could change the results: "
            "install the packages of requirements.lock on all nodes"
        )


def _public(version: str) -> str:
    """A version without its build: 2.9.0 for 2.9.0+cpu, because builds for CPU and GPU give equal results."""
    return version.partition("+")[0]
