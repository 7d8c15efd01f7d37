"""Pen and colours of the demonstration's drawings: maps shapes from an object's box to pixels and draws them.

Does not know which objects are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

T = TypeVar("T")
Point = tuple[float, float]
Points = Sequence[Point]
Colour = tuple[int, int, int]

COLOURS: dict[str, Colour] = {
    "red": (208, 44, 44),
    "orange": (240, 132, 30),
    "yellow": (248, 206, 48),
    "green": (62, 152, 70),
    "blue": (48, 98, 205),
    "turquoise": (44, 178, 178),
    "purple": (132, 70, 172),
    "pink": (242, 128, 170),
    "brown": (134, 86, 50),
    "white": (244, 242, 236),
    "grey": (142, 144, 150),
    "black": (48, 48, 54),
}
WHITE, BLACK, WOOD, LEAF = (250, 250, 246), (34, 34, 40), (140, 92, 54), (76, 158, 66)


class Paint(NamedTuple):
    """The colours of one object: `main`, whose name is `name`, a light and a dark shade, and `second` for details."""

    name: str
    main: Colour
    light: Colour
    dark: Colour
    second: Colour


class Pen:
    """Draws shapes in an image. Points are in the box of an object: x to the right and y down, each from -1 to 1.

    `matrix` `[2, 2]` and `centre` `[2]` map the box to pixels. `ink` is the colour of contours and `contour` their
    width in units of the box (0 for none); `pale` from 0 to 1 mixes every fill with white, as in a sketch.
    """

    def __init__(
        self,
        image: Image.Image,
        matrix: NDArray[np.float64],
        centre: Point,
        ink: Colour = BLACK,
        contour: float = 0.0,
        pale: float = 0.0,
    ) -> None:
        self.ink, self.contour, self.pale = ink, contour, pale
        self._draw = ImageDraw.Draw(image)
        self._matrix, self._centre = matrix.T, np.asarray(centre)
        self._unit = float(np.sqrt(abs(np.linalg.det(matrix))))

    def polygon(self, points: Points, fill: Colour) -> None:
        """Draw a filled polygon."""
        xy = self._pixels(points)
        self._draw.polygon(xy, fill=self._bleach(fill))
        if self.contour:
            self._stroke([*xy, xy[0], xy[1]], self.contour, self.ink)

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Colour, turn: float = 0.0) -> None:
        """Draw a filled ellipse around (x, y), rotated by `turn` radians."""
        cos, sin = np.cos(turn), np.sin(turn)
        self.polygon([(x + cos * u - sin * v, y + sin * u + cos * v) for u, v in arc(0, 0, rx, ry)], fill)

    def disc(self, x: float, y: float, r: float, fill: Colour) -> None:
        """Draw a filled circle without a contour."""
        self._draw.polygon(self._pixels(arc(x, y, r, r, steps=16)), fill=self._bleach(fill))

    def line(self, points: Points, width: float, colour: Colour | None = None) -> None:
        """Draw a line with round ends; the default colour is `ink`."""
        self._stroke(self._pixels(points), width, self.ink if colour is None else self._bleach(colour))

    def tube(self, points: Points, width: float, colour: Colour) -> None:
        """Draw a thick line with a contour."""
        xy = self._pixels(points)
        if self.contour:
            self._stroke(xy, width + 2 * self.contour, self.ink)
        self._stroke(xy, width, self._bleach(colour))

    def _pixels(self, points: Points) -> list[Point]:
        pixels: list[Point] = list(map(tuple, (np.asarray(points) @ self._matrix + self._centre).tolist()))
        return pixels

    def _stroke(self, xy: list[Point], width: float, colour: Colour) -> None:
        thick = max(1, round(width * self._unit))
        jointed = len(xy) < 12 or width > 0.06  # joints are slow, and thin curves show no gaps without them
        self._draw.line(xy, fill=colour, width=thick, joint="curve" if jointed else None)
        if thick > 3:
            for x, y in (xy[0], xy[-1]):
                self._draw.ellipse((x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2), fill=colour)

    def _bleach(self, colour: Colour) -> Colour:
        return mix(colour, WHITE, self.pale)


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """The colour `(1 - share) a + share b`."""
    return tuple(round(u + (v - u) * share) for u, v in zip(a, b, strict=True))  # type: ignore[return-value]  # zip keeps 3


def arc(
    x: float, y: float, rx: float, ry: float, start: float = 0.0, end: float = 2 * np.pi, steps: int = 32
) -> list[Point]:
    """Points of an elliptical arc around (x, y), clockwise from angle `start` to `end` in radians; 0 points right."""
    angles = np.linspace(start, end, steps + 1)
    return list(zip((x + rx * np.cos(angles)).tolist(), (y + ry * np.sin(angles)).tolist(), strict=True))


def smooth(points: Points, closed: bool = True, steps: int = 6) -> list[Point]:
    """Points of a Catmull-Rom spline through `points`, `steps` for each segment."""
    P = np.asarray(points, np.float64)
    P = np.concatenate([P[-1:], P, P[:2]] if closed else [2 * P[:1] - P[1:2], P, 2 * P[-1:] - P[-2:-1]])
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    a, b, c, d = (P[i : len(P) - 3 + i, None] for i in range(4))
    curve = b + t * (c - a) / 2 + t**2 * (a - 2.5 * b + 2 * c - d / 2) + t**3 * (3 * b - a - 3 * c + d) / 2
    curve = curve.reshape(-1, 2)
    if not closed:
        curve = np.concatenate([curve, P[-2:-1]])
    return list(map(tuple, curve.tolist()))


def twofold(points: Points) -> list[Point]:
    """Close a symmetric outline: the points of its right half, from the top down, and their mirror images."""
    return [*points, *((-x, y) for x, y in reversed(points) if x)]


def box(left: float, top: float, right: float, bottom: float) -> list[Point]:
    """The corners of a rectangle."""
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def pick(rng: Generator, options: Sequence[T]) -> T:
    """One of the options, all equally likely."""
    return options[int(rng.integers(len(options)))]


def turned(angle: float) -> NDArray[np.float64]:
    """The matrix `[2, 2]` of a rotation by `angle` radians."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
