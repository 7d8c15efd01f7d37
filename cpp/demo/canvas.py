"""What the demonstration's drawings are made with: a pen, colours, curves, and captioned backgrounds.

A pen maps shapes from an object's box to pixels. Does not know which objects are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps, ImageStat
from scipy.interpolate import CubicHermiteSpline

T = TypeVar("T")
Points = Sequence[tuple[float, float]] | NDArray[np.float64]  # [n, 2]
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
WHITE, BLACK = (250, 250, 246), (34, 34, 40)
SIDES = (112, 144)  # least and greatest side of a drawing, in pixels
DETAIL = 3  # drawings are made this many times larger and then reduced, which smooths the edges


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
        centre: tuple[float, float],
        ink: Colour = BLACK,
        contour: float = 0.0,
        pale: float = 0.0,
    ) -> None:
        self.ink, self.contour, self.pale = ink, contour, pale
        self._draw, self._matrix, self._centre = ImageDraw.Draw(image), matrix.T, centre

    def polygon(self, points: Points, fill: Colour, contoured: bool = True) -> None:
        """Draw a filled polygon."""
        pixels = np.asarray(points) @ self._matrix + self._centre
        self._draw.polygon(pixels.ravel().tolist(), fill=mix(fill, WHITE, self.pale))
        if self.contour and contoured:
            self._stroke(np.concatenate([pixels, pixels[:2]]), self.contour, self.ink)

    def disc(self, x: float, y: float, r: float, fill: Colour) -> None:
        """Draw a filled circle without a contour."""
        self.polygon(arc(x, y, r, r, steps=16), fill, contoured=False)

    def line(self, points: Points, width: float, colour: Colour | None = None, contoured: bool = False) -> None:
        """Draw a line with round ends; the default colour is `ink`."""
        pixels = np.asarray(points) @ self._matrix + self._centre
        if self.contour and contoured:
            self._stroke(pixels, width + 2 * self.contour, self.ink)
        self._stroke(pixels, width, mix(colour, WHITE, self.pale) if colour else self.ink)

    def _stroke(self, pixels: NDArray[np.float64], width: float, colour: Colour) -> None:
        thick = max(1, round(width * float(np.sqrt(abs(np.linalg.det(self._matrix))))))
        jointed = len(pixels) < 12 or width > 0.06  # joints are slow, and thin curves show no gaps without them
        self._draw.line(pixels.ravel().tolist(), fill=colour, width=thick, joint="curve" if jointed else None)
        for x, y in pixels[[0, -1]].tolist() if thick > 3 else ():
            self._draw.circle((x, y), thick / 2, fill=colour)


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """The colour `(1 - share) a + share b`."""
    return tuple(round(u + (v - u) * share) for u, v in zip(a, b, strict=True))  # type: ignore[return-value]  # zip keeps 3


def arc(
    x: float,
    y: float,
    rx: float,
    ry: float,
    start: float = 0.0,
    end: float = 2 * np.pi,
    steps: int = 32,
    turn: float = 0.0,
) -> NDArray[np.float64]:
    """Points `[steps + 1, 2]` of an elliptical arc around (x, y), clockwise from angle `start` to `end`.

    Angle 0 points right. The arc is rotated by `turn`. All angles are in radians.
    """
    angles = np.linspace(start, end, steps + 1)
    return np.stack([rx * np.cos(angles), ry * np.sin(angles)], axis=1) @ turned(turn).T + (x, y)


def curve(points: Points, closed: bool = True, steps: int = 6) -> NDArray[np.float64]:
    """Points `[n, 2]` of a Catmull-Rom spline through `points`, `steps` for each segment."""
    P = np.asarray([points[-1], *points, *points[:2]] if closed else points)
    first, last = (1, len(P) - 2) if closed else (0, len(P) - 1)
    spline = CubicHermiteSpline(np.arange(len(P)), P, np.gradient(P, axis=0))
    smooth: NDArray[np.float64] = spline(np.arange(first * steps, last * steps + (not closed)) / steps)
    return smooth


def mirror(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Close a symmetric outline: the points of its right half, from the top down, and their mirror images."""
    return [*points, *((-x, y) for x, y in reversed(points) if x)]


def box(left: float, top: float, right: float, bottom: float) -> list[tuple[float, float]]:
    """The corners of a rectangle."""
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def pick(rng: Generator, options: Sequence[T]) -> T:
    """One of the options, all equally likely."""
    return options[int(rng.integers(len(options)))]


def turned(angle: float) -> NDArray[np.float64]:
    """The matrix `[2, 2]` of a rotation by `angle` radians."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def ramp(size: tuple[int, int], top: Colour, bottom: Colour) -> Image.Image:
    """A vertical gradient from one colour to another."""
    column = Image.linear_gradient("L").resize((1, size[1]))
    return ImageOps.colorize(column, top, bottom).resize(size, Image.Resampling.NEAREST)


def plain(size: tuple[int, int], colour: Colour, rng: Generator) -> Image.Image:
    return Image.new("RGB", size, colour)


def gradient(size: tuple[int, int], colour: Colour, rng: Generator) -> Image.Image:
    return ramp(size, mix(colour, WHITE, 0.35), mix(colour, BLACK, 0.25))


def sky(size: tuple[int, int], colour: Colour, rng: Generator) -> Image.Image:
    image = ramp(size, (88, 160, 228), (206, 232, 250))
    for _ in range(rng.integers(1, 4)):
        place = (rng.uniform(0, size[0]), rng.uniform(0, size[1] * 0.6))
        pen = Pen(image, np.eye(2) * size[0] * rng.uniform(0.1, 0.16), place)
        for x, y, r in ((-0.7, 0.1, 0.5), (0, -0.2, 0.7), (0.7, 0.05, 0.55), (0, 0.25, 0.5)):
            pen.disc(x, y, r, WHITE)
    return image


def meadow(size: tuple[int, int], colour: Colour, rng: Generator) -> Image.Image:
    image = sky(size, colour, rng)
    draw, (w, h) = ImageDraw.Draw(image), size
    for shade in ((120, 190, 96), (94, 168, 78)):
        x, y = rng.uniform(0, w), h * rng.uniform(0.55, 0.75)
        draw.ellipse((x - 1.4 * w, y, x + 1.4 * w, y + 2 * h), fill=shade)
    return image


def night(size: tuple[int, int], colour: Colour, rng: Generator) -> Image.Image:
    image = ramp(size, (14, 18, 52), (52, 58, 112))
    draw, (w, h) = ImageDraw.Draw(image), size
    for x, y in rng.uniform(0, 1, (14, 2)).tolist():
        draw.circle((x * w, y * h), 3, fill=(250, 246, 214))
    draw.circle((rng.uniform(0.1, 0.9) * w, rng.uniform(0.1, 0.3) * h), 0.07 * w, fill=(246, 238, 196))
    return image


# The backgrounds, and the phrases that captions use for them; {colour} is replaced by the colour's name.
BACKDROPS = {
    plain: ("on a {colour} background", "on plain {colour} paper"),
    gradient: ("on a {colour} background", "on a shaded {colour} background"),
    sky: ("in the sky", "in front of clouds", "under a blue sky"),
    meadow: ("in a meadow", "on green grass", "outside"),
    night: ("at night", "under the stars", "in the dark"),
}


def scene(away_from: Colour, rng: Generator) -> tuple[Image.Image, bool, str]:
    """A background with up to four small shapes, whether it is light, and a phrase for the caption.

    It contrasts with the colour `away_from`, and its sides are `DETAIL` times those of a drawing.
    """
    w, h = (int(side) * DETAIL for side in rng.integers(SIDES[0], SIDES[1] + 1, 2))
    contrast = 0.0
    while contrast <= 130:
        backdrop, name = pick(rng, tuple(BACKDROPS)), pick(rng, tuple(COLOURS))
        image = backdrop((w, h), mix(COLOURS[name], WHITE, rng.uniform(0.0, 0.5)), rng)
        mean = np.round(ImageStat.Stat(image.reduce(24)).mean)
        contrast = float(np.linalg.norm(mean - away_from))
    phrase = pick(rng, BACKDROPS[backdrop]).format(colour=name)
    for _ in range(rng.integers(0, 5)):
        matrix = w * rng.uniform(0.03, 0.06) * turned(rng.uniform(0, 6.28))
        pen = Pen(image, matrix, (rng.uniform(0, w), rng.uniform(0, h)))
        corners, dent = pick(rng, [(3, 1.0), (4, 1.0), (5, 0.45), (24, 1.0)])
        radius = np.resize([1.0, dent * np.cos(np.pi / corners)], (2 * corners, 1))
        pen.polygon(radius * arc(0, 0, 1, 1, steps=2 * corners)[:-1], pick(rng, tuple(COLOURS.values())))
    return image, bool(mean.sum() > 270), phrase
