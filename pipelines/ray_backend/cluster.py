"""The Ray that a run works on: one of its own on this machine, or a cluster that it joins.

A node is refused on which the run would lose files or give other results. Knows no stage.
"""

from __future__ import annotations

import logging
import signal
import socket
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cpp.files import credentials, filesystem
from cpp.store.local import Store
from pipelines.config.errors import ConfigError
from pipelines.config.sections import Resources
from pipelines.engine import machine

ANSWER = 120  # seconds in which a node says that it is there, busy as it may be; Ray notices in some 15 that it is not
CODE = Path(__file__).parents[2]


@dataclass(frozen=True)
class Node:
    """What a worker finds where it was started; `token` says whether it sees the file that the driver wrote."""

    id: str
    host: str
    versions: dict[str, str]
    token: bool


def start(resources: Resources) -> None:
    """Start a Ray on this machine, or join the cluster at `resources.ray_address`.

    ConfigError where the machine has less than the workers ask for, or no cluster answers.
    """
    shared: dict[str, Any] = {
        "logging_level": logging.ERROR,
        "logging_config": ray.LoggingConfig(log_level="ERROR"),  # of the workers: Ray Train warns every second
        "log_to_driver": True,
    }
    if resources.ray_address is None:
        for said in machine.missing_resources(resources):
            raise ConfigError(said)
        with _ends_as_before():
            ray.init("local", include_dashboard=False, object_store_memory=256 * 2**20, **shared)
        return
    _answers(resources.ray_address)
    packages = [str(CODE / name) for name in ("cpp", "pipelines")]  # the nodes run the code of the driver
    try:
        with _ends_as_before():
            ray.init(resources.ray_address, runtime_env={"py_modules": packages}, **shared)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        raise _unreachable(resources.ray_address, error) from error


@contextmanager
def _ends_as_before() -> Iterator[None]:
    """SIGTERM does what it did: Ray's own handler prints a stack and aborts the process three seconds later."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _answers(address: str) -> None:
    """ConfigError at once where nothing listens: Ray itself tries for two minutes."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"resources.ray_address: cannot join a Ray cluster at {address!r} ({str(error).splitlines()[0]}): is it up "
        "(`ray status` on its head), and the port its head's (6379; for ray:// 10001)? null starts a Ray of our own"
    )


def said() -> str:
    """What the cluster has now, in words."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus, gpus = (sum(node.get(kind, 0) for node in nodes) for kind in ("CPU", "GPU"))
    return f"{len(nodes)} {'node' if len(nodes) == 1 else 'nodes'} with {cpus:g} CPUs and {gpus:g} GPUs"


def room(cpus: int, gpus: float) -> int:
    """How many workers of so many CPUs and GPUs the nodes hold that are there now, were they idle."""
    asked = {"CPU": cpus, "GPU": gpus}
    return sum(
        min(int(node["Resources"].get(kind, 0) / n + 1e-6) for kind, n in asked.items() if n)  # 7 / 0.07 is below 100
        for node in ray.nodes()
        if node["Alive"]
    )


def alive(nodes: Iterable[str]) -> set[str]:
    """Those of the nodes that answer. Ray's own list has a lost node for some time."""

    @ray.remote(num_cpus=0, max_retries=0)
    def here() -> None:
        pass

    asked: dict[Any, str] = {
        here.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(): node
        for node in set(nodes)
    }
    found = set()
    for ref in ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER)[0]:
        try:
            ray.get(ref)
            found.add(asked[ref])
        except RayError:
            continue
    return found


def cause(error: Exception) -> str:
    """Why a worker ended, in a line, of what Ray says of it."""
    lines = credentials.redacted(str(error)).strip().splitlines()
    for line in lines:
        if "running low on memory" in line:
            return f"{line}: lower resources.workers or resources.batch"
    return lines[-1].partition(" Some common causes")[0]


def token(store: Store) -> Path | None:
    """A new file in the run folder, by which a worker on another node can tell that it is the same folder.

    None of a folder in a bucket, which is everywhere.
    """
    if filesystem.is_remote(store.address):
        return None
    path = store.scratch() / f"seen-{uuid.uuid4().hex}"
    path.touch()
    return path


def about(token: Path | None) -> Node:
    """The node of this worker."""
    seen = token is None or token.exists()
    return Node(ray.get_runtime_context().get_node_id(), socket.gethostname(), machine.versions(), seen)


def check(node: Node, root: str) -> None:
    """ConfigError where the node does not see the run folder, or has other versions of what results depend on."""
    if not node.token:
        raise ConfigError(
            f"root: the node {node.host} does not see {root}, and what it made would be lost: set root to a folder on "
            "a disk that all nodes share (NFS, a volume), or to s3:// or gs://"
        )
    here = machine.versions()
    differ = [
        f"{package} {version} (here {here[package]})"
        for package, version in node.versions.items()
        if package in here and package not in {"python", "cpp-at-scale"} and _public(version) != _public(here[package])
    ]
    if differ:
        raise ConfigError(
            f"resources.ray_address: the node {node.host} has {', '.join(differ)}, and results could depend on it: "
            "install requirements.lock there as it is here"
        )


def _public(version: str) -> str:
    """2.9.0 of 2.9.0+cpu: builds for CPU and GPU nodes are of one version."""
    return version.partition("+")[0]
