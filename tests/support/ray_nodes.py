"""Nodes of a local Ray cluster, and their loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from ray._private.node import Node
from ray.cluster_utils import Cluster

from pipelines.ray_backend.pool import Pool

SMALL = {"object_store_memory": 100 * 2**20, "memory": 16 * 2**30, "include_dashboard": False}


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
