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
WHITE, BLACK = (250, 250, 246), (34, 34, 40)


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


def ramp(size: tuple[int, int], top: Colour, bottom: Colour) -> Image.Image:
    """A vertical gradient from one colour to another."""
    column = Image.linear_gradient("L").resize((1, size[1]))
    return ImageOps.colorize(column, top, bottom).resize(size, Image.Resampling.NEAREST)


def plain(size: tuple[int, int], colour: Colour, rng: Generator) -> Image.Image:
    return Image.new("RGB", size, colour)


def gradient(size: tuple[int, int], colour: Colour, rng: Generator) -> Image.Image:
    light, dark = mix(colour, WHITE, 0.35), mix(colour, BLACK, 0.25)
    if rng.random() < 0.6:
        return ramp(size, light, dark)
    return ramp((size[1], size[0]), light, dark).transpose(Image.Transpose.ROTATE_90)


def stripes(size: tuple[int, int], colour: Colour, rng: Generator) -> Image.Image:
    image = Image.new("RGB", size, colour)
    draw, other, step = ImageDraw.Draw(image), mix(colour, WHITE, rng.uniform(0.2, 0.5)), int(rng.integers(24, 60))
    slant = int(rng.integers(-1, 2)) * size[1]
    for x in range(-size[1], size[0] + size[1], 2 * step):
        draw.polygon([(x, 0), (x + step, 0), (x + step + slant, size[1]), (x + slant, size[1])], fill=other)
    return image


def spots(size: tuple[int, int], colour: Colour, rng: Generator) -> Image.Image:
    image = Image.new("RGB", size, colour)
    draw, other, step = ImageDraw.Draw(image), mix(colour, WHITE, rng.uniform(0.2, 0.5)), int(rng.integers(36, 70))
    for row, y in enumerate(range(0, size[1] + step, step)):
        for x in range(row % 2 * step // 2, size[0] + step, step):
            draw.ellipse((x - step // 5, y - step // 5, x + step // 5, y + step // 5), fill=other)
    return image


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


def sea(size: tuple[int, int], colour: Colour, rng: Generator) -> Image.Image:
    image = sky(size, colour, rng)
    draw, (w, h), y = ImageDraw.Draw(image), size, int(size[1] * rng.uniform(0.5, 0.7))
    image.paste(ramp((w, h - y), (62, 140, 190), (30, 96, 156)), (0, y))
    for _ in range(8):
        x, v = rng.uniform(0, w), rng.uniform(y + 8, h)
        draw.line((x, v, x + w * 0.12, v), fill=(150, 200, 226), width=3)
    return image


def night(size: tuple[int, int], colour: Colour, rng: Generator) -> Image.Image:
    image = ramp(size, (14, 18, 52), (52, 58, 112))
    draw, (w, h) = ImageDraw.Draw(image), size
    for x, y in rng.uniform(0, 1, (14, 2)).tolist():
        draw.ellipse((x * w - 3, y * h - 3, x * w + 3, y * h + 3), fill=(250, 246, 214))
    x, y, r = rng.uniform(0.1, 0.9) * w, rng.uniform(0.1, 0.3) * h, 0.07 * w
    draw.ellipse((x - r, y - r, x + r, y + r), fill=(246, 238, 196))
    return image


# The backgrounds, and the phrases that captions use for them; {colour} is replaced by the colour's name.
SCENES = {
    plain: ("on a {colour} background", "on plain {colour} paper"),
    gradient: ("on a {colour} background", "on a shaded {colour} background"),
    stripes: ("on a striped background", "in front of {colour} stripes"),
    spots: ("on a spotted background", "in front of {colour} spots"),
    sky: ("in the sky", "in front of clouds", "under a blue sky"),
    meadow: ("in a meadow", "on green grass", "outside"),
    sea: ("by the sea", "in front of the water"),
    night: ("at night", "under the stars", "in the dark"),
}


def background(size: tuple[int, int], away_from: Colour, rng: Generator) -> tuple[Image.Image, Colour, str]:
    """A background that contrasts with the colour `away_from`, its mean colour, and a phrase for the caption."""
    while True:
        scene, name = pick(rng, tuple(SCENES)), pick(rng, tuple(COLOURS))
        image = scene(size, mix(COLOURS[name], WHITE, rng.uniform(0.0, 0.5)), rng)
        red, green, blue = (round(v) for v in ImageStat.Stat(image.reduce(24)).mean)
        if np.linalg.norm(np.subtract((red, green, blue), away_from)) > 130:
            return image, (red, green, blue), pick(rng, SCENES[scene]).format(colour=name)


def clutter(image: Image.Image, rng: Generator) -> None:
    """Draw up to four small shapes at random places."""
    for _ in range(rng.integers(0, 5)):
        scale, angle = image.width * rng.uniform(0.03, 0.06), rng.uniform(0, 6.28)
        pen = Pen(image, scale * turned(angle), (rng.uniform(0, image.width), rng.uniform(0, image.height)))
        corners, dent = pick(rng, [(3, 1.0), (4, 1.0), (5, 0.45), (24, 1.0)])
        angles = np.arange(2 * corners) * np.pi / corners
        radius = np.where(np.arange(2 * corners) % 2, dent * np.cos(np.pi / corners), 1.0)
        points = np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)
        pen.polygon(list(map(tuple, points.tolist())), pick(rng, tuple(COLOURS.values())))
