"""Backgrounds of the demonstration's drawings with the words that captions use for them, and clutter."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageOps, ImageStat

from cpp.demo.pen import BLACK, COLOURS, WHITE, Colour, Pen, mix, pick, turned


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


class Scene(NamedTuple):
    """A function that draws a background, and caption phrases for it; {colour} is replaced by the colour's name."""

    draw: Callable[[tuple[int, int], Colour, Generator], Image.Image]
    phrases: tuple[str, ...]


SCENES = (
    Scene(plain, ("on a {colour} background", "on plain {colour} paper")),
    Scene(gradient, ("on a {colour} background", "on a shaded {colour} background")),
    Scene(stripes, ("on a striped background", "in front of {colour} stripes")),
    Scene(spots, ("on a spotted background", "in front of {colour} spots")),
    Scene(sky, ("in the sky", "in front of clouds", "under a blue sky")),
    Scene(meadow, ("in a meadow", "on green grass", "outside")),
    Scene(sea, ("by the sea", "in front of the water")),
    Scene(night, ("at night", "under the stars", "in the dark")),
)


def background(size: tuple[int, int], away_from: Colour, rng: Generator) -> tuple[Image.Image, Colour, str]:
    """A background that contrasts with the colour `away_from`, its mean colour, and a phrase for the caption."""
    while True:
        scene, name = pick(rng, SCENES), pick(rng, tuple(COLOURS))
        image = scene.draw(size, mix(COLOURS[name], WHITE, rng.uniform(0.0, 0.5)), rng)
        red, green, blue = (round(v) for v in ImageStat.Stat(image.reduce(24)).mean)
        if np.linalg.norm(np.subtract((red, green, blue), away_from)) > 130:
            return image, (red, green, blue), pick(rng, scene.phrases).format(colour=name)


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
