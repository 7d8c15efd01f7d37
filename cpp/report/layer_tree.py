"""The clusters of all layers as a tree, coarsest first. This module knows no files and no HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cpp.naming.titles import row_title


class Node(NamedTuple):
    """A cluster, a `row` of `clusters.parquet`, and the clusters of the next finer layer that it contains."""

    row: Mapping[str, Any]
    parts: list[Node]

    @property
    def title(self) -> str:
        return row_title(self.row)


def layer_tree(rows: Sequence[Mapping[str, Any]]) -> list[Node]:
    """The clusters of the coarsest layer with those below them, the largest first; empty if there is only one layer."""
    layers = sorted({row["layer"] for row in rows})
    below: dict[int, list[Node]] = {}
    for layer in reversed(layers[1:]):
        nodes = [Node(row, below.get(row["cluster"], [])) for row in rows if row["layer"] == layer]
        below = {}
        for node in sorted(nodes, key=lambda node: -node.row["size"]):
            below.setdefault(node.row["parent"], []).append(node)
    coarsest = [Node(row, below.get(row["cluster"], [])) for row in rows if row["layer"] == layers[0]]
    return sorted(coarsest, key=lambda node: -node.row["size"]) if len(layers) > 1 else []
