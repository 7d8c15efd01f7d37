"""Numbers as the points of drawings: sizes of clusters, a loss record, a confusion. Knows no HTML."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

WIDTH, HEIGHT = 800, 160


class Sizes(NamedTuple):
    """Sizes of clusters, the largest first, as the outline of their bars in `WIDTH` x `HEIGHT`, the height a logarithm.

    `ticks` are y and number of images; `median` is the size of the middle cluster.
    """

    outline: str
    ticks: list[tuple[float, int]]
    largest: int
    smallest: int
    median: int


def sizes(values: Sequence[int]) -> Sizes:
    """From the sizes of clusters, in any order; there is at least one."""
    ordered = np.sort(np.asarray(values, np.int64))[::-1]
    top = 10 ** np.ceil(np.log10(max(int(ordered[0]), 10)))

    def y(size: float) -> float:
        return float(HEIGHT * (1 - np.log10(max(size, 1) * 1.25) / np.log10(top * 1.25))) if size else float(HEIGHT)

    step = WIDTH / len(ordered)
    corners = [(0.0, float(HEIGHT))]
    for i, size in enumerate(ordered.tolist()):
        corners += [(i * step, y(size)), ((i + 1) * step, y(size))]
    corners.append((float(WIDTH), float(HEIGHT)))
    ticks = [(y(10.0**p), 10**p) for p in range(int(np.log10(top)) + 1)]
    return Sizes(
        " ".join(f"{a:.1f},{b:.1f}" for a, b in corners),
        ticks,
        int(ordered[0]),
        int(ordered[-1]),
        int(ordered[(len(ordered) - 1) // 2]),
    )


def line(values: Sequence[float], width: int, height: int) -> str:
    """SVG points of a series scaled to fill `width` x `height`; missing values (NaN) are left out."""
    y = np.asarray(values, np.float64)
    x = np.arange(len(y))[np.isfinite(y)]
    y = y[np.isfinite(y)]
    if not len(y):
        return ""
    spread = max(float(np.ptp(y)), 1e-12)
    X = x / max(len(values) - 1, 1) * width
    Y = height - (y - y.min()) / spread * height
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(X, Y, strict=True))
