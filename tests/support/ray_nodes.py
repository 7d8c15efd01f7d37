"""Nodes of a local Ray cluster, and their loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from ray._private.node import Node
from ray.cluster_utils import Cluster

from pipelines.ray_backend.pool import Pool

SMALL = {"object_store_memory": 100 * 2**20, "include_dashboard": False}


def disturb(monkeypatch: pytest.MonkeyPatch, nodes: Cluster, lost: Node, another: bool = False) -> list[str]:
    """Take a node away once its worker is up, and add another; says when. No shard ends before workers are up."""
    waits, arrive, up, disturbed = Pool._wait, Pool._arrive, set[str](), list[str]()

    def up_first(pool: Pool, crew: Any, running: Sequence[Any]) -> list[Any]:
        if len(up) == 2 and not disturbed:
            disturbed.append("now")
            nodes.remove_node(lost, allow_graceful=False)
            if another:
                nodes.add_node(num_cpus=1, num_gpus=1, **SMALL)
        return waits(pool, crew, () if len(up) < 2 + another else running)

    def arrived(pool: Pool, crew: Any, ref: Any) -> Any:
        member = arrive(pool, crew, ref)
        up.update([member.node.id] if member else [])
        return member

    monkeypatch.setattr(Pool, "_wait", up_first)
    monkeypatch.setattr(Pool, "_arrive", arrived)
    return disturbed
