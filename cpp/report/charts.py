"""Numbers as the points of drawings: sizes of clusters, a loss record, curves and histograms. Knows no HTML."""

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


class Series(NamedTuple):
    """A curve through `x` and `y`, or with `bars` heights `y` between the edges `x`, of which there is one more."""

    x: Sequence[float]
    y: Sequence[float]
    bars: bool = False


class Chart(NamedTuple):
    """Series in one box of `WIDTH` x `HEIGHT`: whether each is of bars, and its points; ticks with their words.

    `says` is read aloud in place of the drawing; `marks` are x of upright lines.
    """

    says: str
    shapes: list[tuple[bool, str]]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    marks: list[float]
    x_name: str
    y_name: str


def chart(
    series: Sequence[Series],
    x_name: str,
    y_name: str,
    says: str,
    marks: Sequence[float] = (),
    logarithmic: bool = False,
) -> Chart:
    """The drawing of series with values from 0 on; y `logarithmic` from 1 on, below which all is on the ground.

    There is at least one series, and each has a value.
    """
    low, high = min(min(s.x) for s in series), max(max(s.x) for s in series)
    most = max(1.0 if logarithmic else 1e-9, *(float(np.nanmax(s.y)) for s in series))
    grid = [10.0**p for p in range(int(np.ceil(np.log10(most) - 1e-9)) + 1)] if logarithmic else _steps(0.0, most)
    top = max(grid[-1], most, 10.0 if logarithmic else 0.0)

    def across(x: float) -> float:
        return WIDTH * (x - low) / ((high - low) or 1.0)

    def up(y: float) -> float:
        part = np.log10(max(y, 0.8) / 0.8) / np.log10(top / 0.8) if logarithmic else y / top
        return float(HEIGHT * (1 - part))

    shapes = []
    for s in series:
        corners = list(zip(s.x, s.y, strict=True)) if not s.bars else _outline(s)
        found = [f"{across(x):.1f},{HEIGHT if y is None else up(y):.1f}" for x, y in corners]
        shapes.append((s.bars, " ".join(found)))
    inside = [x for x in _steps(low, high) if low <= x <= high]
    return Chart(
        says,
        shapes,
        [(across(x), f"{x:,g}") for x in inside],
        [(up(y), f"{y:,g}") for y in grid],
        [across(x) for x in marks if low <= x <= high],
        x_name,
        y_name,
    )


def _outline(s: Series) -> list[tuple[float, float | None]]:
    """Corners of bars from left to right; None is the ground."""
    corners: list[tuple[float, float | None]] = [(s.x[0], None)]
    for left, right, y in zip(s.x[:-1], s.x[1:], s.y, strict=True):
        corners += [(left, y), (right, y)]
    return [*corners, (s.x[-1], None)]


def _steps(low: float, high: float) -> list[float]:
    """Four to nine round numbers that reach over a range."""
    span = (high - low) or 1.0
    power = 10.0 ** np.floor(np.log10(span / 4))
    step = next(power * n for n in (1, 2, 5, 10) if span / (power * n) <= 8)
    return [float(round(step * i, 12)) for i in range(int(np.floor(low / step)), int(np.ceil(high / step - 1e-9)) + 1)]
