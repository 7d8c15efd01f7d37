"""Nodes of a local Ray cluster, and their loss."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ray._private.node import Node
from ray.cluster_utils import Cluster

from pipelines.ray_backend.pool import Pool

SMALL = {"object_store_memory": 100 * 2**20, "memory": 16 * 2**30, "include_dashboard": False}


def free_port() -> int:
    """A port of this machine on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def started_head(log: Path, environment: Mapping[str, str], *options: str) -> Iterator[int]:
    """The port of a head node with one CPU, which `ray start` runs with these variables and further options."""
    port, ray_command = free_port(), Path(sys.executable).with_name("ray")
    small = ["--num-cpus=1", "--include-dashboard=false", "--object-store-memory=100000000", "--block"]
    with log.open("w") as errors, tempfile.TemporaryDirectory(prefix="ray") as folder:
        head = subprocess.Popen(
            [ray_command, "start", "--head", f"--port={port}", f"--temp-dir={folder}", *small, *options],
            env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0", **environment},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
        assert head.stdout
        try:
            assert any("Ray runtime started" in line for line in head.stdout), log.read_text()
            yield port
        finally:
            head.terminate()
            head.communicate()


def disturb(monkeypatch: pytest.MonkeyPatch, nodes: Cluster, lost: Node, another: bool = False) -> list[str]:
    """Remove a node once its worker is up, and add another. The list gets an item then. No shard ends before."""
    wait, finish_start, up, disturbed = Pool._wait, Pool._finish_start, set[str](), list[str]()

    def wait_for_nodes(pool: Pool, running: Sequence[Any]) -> list[Any]:
        if len(up) == 2 and not disturbed:
            disturbed.append("now")
            nodes.remove_node(lost, allow_graceful=False)
            if another:
                nodes.add_node(num_cpus=1, num_gpus=1, **SMALL)
        return wait(pool, () if len(up) < 2 + another else running)

    def record_node(pool: Pool, ref: Any) -> None:
        finish_start(pool, ref)
        up.update(node.id for node in pool._ready.values())

    monkeypatch.setattr(Pool, "_wait", wait_for_nodes)
    monkeypatch.setattr(Pool, "_finish_start", record_node)
    return disturbed
