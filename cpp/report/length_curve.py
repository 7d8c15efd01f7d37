"""The curve of coding length against K, with its band, as the points of a drawing; and layers as a tree of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

AROUND = 8.0  # the curve is shown from an eighth of the best K to eight times it
WIDTH, HEIGHT = 800, 160


class LengthCurve(NamedTuple):
    """SVG points in a box of `WIDTH` x `HEIGHT`: the curve, the band of the subsamples, x of K and of ticks.

    `top` is the bits above the least at the upper edge.
    """

    line: str
    band: str
    main: tuple[float, int]
    best: tuple[float, int]
    ticks: list[tuple[float, int]]
    top: float


def length_curve(bits: NDArray[np.float64], draws: NDArray[np.float64], main: int) -> LengthCurve:
    """From `bits[K - 1]` and `draws[b, K - 1]` (NaN where a draw has fewer groups); each by its excess over its least.

    Empty strings where there is but one K.
    """
    F, best = len(bits), int(bits.argmin()) + 1
    K = np.arange(max(1, int(min(best, main) / AROUND)), min(F, int(max(best, main) * AROUND)) + 1)
    scale = np.log(K[-1] / K[0]) or 1.0

    def x(k: NDArray[np.integer] | int) -> NDArray[np.float64]:
        return np.asarray(np.log(np.asarray(k) / K[0]) / scale * WIDTH)

    curves = np.vstack([bits, draws]) if draws.size else bits[None]
    excess = (curves - np.nanmin(curves, axis=1, keepdims=True))[:, K - 1]
    low, high = np.nanmin(excess, axis=0), np.nanmax(excess, axis=0)
    top = max(float(excess[0].max()), 1e-12)

    def points(k: NDArray[np.integer], values: NDArray[np.float64]) -> str:
        y = HEIGHT * (1 - np.minimum(values / top, 1))
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x(k), y, strict=True))

    some = np.unique(np.geomspace(K[0], K[-1], 6).round().astype(int))
    return LengthCurve(
        points(K, excess[0]) if len(K) > 1 else "",
        f"{points(K, low)} {points(K[::-1], high[::-1])}" if len(K) > 1 and draws.size else "",
        (float(x(main)), main),
        (float(x(best)), best),
        [(float(x(k)), int(k)) for k in some],
        top,
    )


class Node(NamedTuple):
    """A cluster of a layer, `row` of `clusters.parquet`, with the clusters of the next finer layer in it."""

    row: Mapping[str, Any]
    parts: list[Node]


def nested(rows: Sequence[Mapping[str, Any]]) -> list[Node]:
    """The coarsest clusters with all below them, the largest first; nothing where there is one layer only."""
    layers = sorted({row["layer"] for row in rows})
    below: dict[int, list[Node]] = {}
    for layer in reversed(layers[1:]):
        nodes = [Node(row, below.get(row["cluster"], [])) for row in rows if row["layer"] == layer]
        below = {}
        for node in sorted(nodes, key=lambda node: -node.row["size"]):
            below.setdefault(node.row["parent"], []).append(node)
    coarsest = [Node(row, below.get(row["cluster"], [])) for row in rows if row["layer"] == layers[0]]
    return sorted(coarsest, key=lambda node: -node.row["size"]) if len(layers) > 1 else []
