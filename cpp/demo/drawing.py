"""Captioned drawings of eight kinds of objects with varying shape, colours, pose, background and clutter.

A kind is drawn in a box from -1 to 1. All random choices come from the caller's generator, so an equal seed gives equal
drawings (with equal versions of Pillow and NumPy). Knows no files and no models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from PIL import Image

from cpp.demo.canvas import BLACK, COLOURS, DETAIL, WHITE, Paint, Pen, arc, box, curve, mirror, mix, pick, scene, turned

WOOD, LEAF = (140, 92, 54), (76, 158, 66)


def tree(p: Pen, c: Paint, rng: Generator) -> None:
    p.polygon(curve(mirror([(0.12, 0.2), (0.13, 0.7), (0.25, 0.95)])), WOOD)
    if rng.random() < 0.35:
        for y, w in ((0.45, 0.75), (0.05, 0.62), (-0.33, 0.48)):
            p.polygon([(0, y - 0.6), (w, y), (-w, y)], mix(c.main, c.dark, 0.5 + y / 2))
        return
    lobes = [(x, y, rng.uniform(0.3, 0.42)) for x, y in arc(0, 0, 0.48, 0.4, steps=7)[:-1]]
    for x, y, r in lobes:
        p.polygon(arc(x, y - 0.3, r, r * 0.85), c.main)
    for x, y, r in lobes:
        p.disc(0.83 * x, 0.8 * y - 0.3, r, c.main)
    p.disc(0, -0.3, 0.4, c.main)
    for _ in range(rng.integers(0, 9)):
        p.disc(rng.uniform(-0.55, 0.55), rng.uniform(-0.7, 0.1), 0.075, c.second)


def flower(p: Pen, c: Paint, rng: Generator) -> None:
    bend, n = rng.uniform(-0.2, 0.2), int(rng.integers(5, 10))
    p.line(curve([(0, -0.3), (bend, 0.3), (0, 0.97)], closed=False), 0.09, LEAF)
    for s in (-1, 1):
        p.polygon(curve([(bend * 0.7, 0.62), (s * 0.3, 0.32), (s * 0.62, 0.36), (s * 0.35, 0.6)]), LEAF)
    long, wide = rng.uniform(0.26, 0.34), min(0.24, 1.1 / n)
    for a in (np.arange(n) * 2 * np.pi / n + rng.uniform(0, 1)).tolist():
        p.polygon(arc(0.36 * np.cos(a), -0.36 + 0.36 * np.sin(a), long, wide, turn=a), c.main)
    p.polygon(arc(0, -0.36, 0.2, 0.2), c.second)


def mushroom(p: Pen, c: Paint, rng: Generator) -> None:
    wide, tall, stalk = rng.uniform(0.7, 0.95), rng.uniform(0.75, 1.0), rng.uniform(0.16, 0.26)
    p.polygon(curve(mirror([(stalk, 0.0), (stalk * 1.1, 0.5), (stalk * 1.5, 0.9)])), (246, 234, 212))
    p.polygon(curve(mirror([(stalk, 0.2), (stalk * 1.5, 0.38)])), (225, 206, 180))
    p.polygon([*arc(0, 0.1, wide, tall, np.pi, 2 * np.pi), *arc(0, 0.1, wide, 0.18, 0, np.pi)], c.main)
    dots = [(0, -0.5, 0.15), (-0.45, -0.25, 0.13), (0.45, -0.25, 0.12)]
    for x, y, r in [*dots, (0.05, -0.08, 0.1), (-0.25, 0.08, 0.07), (0.35, 0.08, 0.07)]:
        p.disc(x * wide, y * tall, r * rng.uniform(0.8, 1.2), c.light)


def cactus(p: Pen, c: Paint, rng: Generator) -> None:
    top = rng.uniform(-0.75, -0.55)
    arms = [(s, rng.uniform(-0.1, 0.3), rng.uniform(0.3, 0.5)) for s in (-1, 1)][: rng.integers(1, 3)]
    for s, y, long in arms:
        bow = curve([(0, y), (s * 0.45, y), (s * 0.55, y - 0.14), (s * 0.55, y - long)], closed=False)
        p.line(bow, 0.24, c.main, contoured=True)
    p.line([(0, 0.6), (0, top)], 0.42, c.main, contoured=True)
    for s, y, _ in arms:
        p.line([(0, y), (s * 0.4, y)], 0.24, c.main)
    for x in (-0.1, 0.0, 0.1):
        for y in np.arange(top, 0.45, 0.19).tolist():
            p.line([(x - 0.02, y + 0.05), (x + 0.02, y - 0.03)], 0.03, c.light)
    if rng.random() < 0.6:
        for x, y in arc(0, top - 0.22, 0.1, 0.1, steps=5)[:-1]:
            p.disc(x, y, 0.1, COLOURS["pink"])
        p.disc(0, top - 0.22, 0.07, COLOURS["yellow"])
    p.polygon([(-0.42, 0.5), (0.42, 0.5), (0.32, 0.96), (-0.32, 0.96)], c.second)
    p.polygon(box(-0.48, 0.42, 0.48, 0.58), c.second)


def boat(p: Pen, c: Paint, rng: Generator) -> None:
    top, reach = rng.uniform(-0.98, -0.8), rng.uniform(0.55, 0.8)
    p.line([(0, 0.4), (0, top)], 0.07, WOOD)
    p.polygon([(0.07, top + 0.06), (0.1 + reach * 0.6, -0.3), (0.07 + reach, 0.22), (0.07, 0.22)], c.second)
    if rng.random() < 0.75:
        p.polygon([(-0.07, top + 0.15), (-0.07, 0.22), (-reach * 0.9, 0.22)], mix(c.second, WHITE, 0.5))
    p.polygon([(0, top), (-0.28, top - 0.07), (0, top - 0.14)], c.main)
    deep = rng.uniform(0.7, 0.85)
    p.polygon([(-0.9, 0.36), (0.95, 0.3), (0.62, deep), (-0.62, deep)], c.main)
    p.line([(-0.76, 0.5), (0.8, 0.47)], 0.07, c.light)


def house(p: Pen, c: Paint, rng: Generator) -> None:
    eaves, ridge = rng.uniform(-0.2, 0.0), rng.uniform(-0.95, -0.75)
    if rng.random() < 0.7:
        p.polygon(box(0.3, ridge, 0.5, eaves), c.dark)
    p.polygon(box(-0.7, eaves, 0.7, 0.88), c.main)
    peak = rng.choice([0.0, 0.4])
    p.polygon([(-0.92, eaves), (-peak, ridge), (peak, ridge), (0.92, eaves)], c.second)
    door = rng.choice([-0.35, 0.0, 0.35])
    p.polygon(box(door - 0.15, 0.35, door + 0.15, 0.88), WOOD)
    p.disc(door + 0.08, 0.63, 0.03, COLOURS["yellow"])
    for x in (-0.42, 0.42):
        for y in (0.15, 0.55) if abs(x - door) > 0.4 else (0.12,):
            glass = pick(rng, [(160, 210, 240), (250, 226, 130)])
            p.polygon(box(x - 0.15, y - 0.12, x + 0.15, y + 0.14), glass)
            p.line([(x, y - 0.12), (x, y + 0.14)], 0.035, WHITE)
            p.line([(x - 0.15, y + 0.01), (x + 0.15, y + 0.01)], 0.035, WHITE)


def balloon(p: Pen, c: Paint, rng: Generator) -> None:
    n = int(rng.integers(1, 4))
    r = 0.56 if n == 1 else 0.38
    places = [(0.0, -0.38)] if n == 1 else [(-0.42, -0.3), (0.42, -0.25), (0.0, -0.55)][:n]
    for x, y in places:
        sway = rng.uniform(-0.2, 0.2)
        string = [(x, y + r * 1.1), (x * 0.6 + sway, 0.45), (x * 0.2 - sway, 0.7), (0, 0.97)]
        p.line(curve(string, closed=False), 0.035)
    for (x, y), colour in zip(places, [c.main, c.second, c.main], strict=False):
        p.polygon([(x, y + r * 1.02), (x - 0.1, y + r * 1.3), (x + 0.1, y + r * 1.3)], mix(colour, BLACK, 0.2))
        pear = curve(mirror([(0.0, -1.0), (0.6, -0.8), (0.86, -0.18), (0.52, 0.66), (0.0, 1.08)]))
        p.polygon((x, y) + r * pear, colour)
        p.polygon(arc(x - r * 0.35, y - r * 0.4, r * 0.14, r * 0.25, steps=16), mix(colour, WHITE, 0.6))


def airplane(p: Pen, c: Paint, rng: Generator) -> None:
    sweep = rng.uniform(0.3, 0.5)
    p.polygon([(0.25, -0.12), (-sweep + 0.1, -0.6), (-sweep - 0.1, -0.6), (-0.12, -0.12)], c.dark)
    p.polygon([(-0.6, -0.08), (-0.98, -0.58), (-0.78, -0.58), (-0.35, -0.14)], c.second)
    top = [(-0.97, -0.12), (-0.4, -0.2), (0.5, -0.2), (0.82, -0.1)]
    p.polygon(curve([*top, (0.97, 0.06), (0.7, 0.19), (-0.2, 0.2), (-0.7, 0.06)]), c.main)
    p.polygon([(-0.6, -0.02), (-0.98, 0.2), (-0.82, 0.2), (-0.4, 0.02)], c.second)
    p.polygon([(0.28, 0.06), (-sweep + 0.05, 0.72), (-sweep - 0.15, 0.72), (-0.15, 0.06)], c.second)
    for x in np.arange(-0.35, 0.55, 0.15).tolist():
        p.disc(x, -0.07, 0.045, (120, 180, 225))
    p.polygon([(0.68, -0.13), (0.83, -0.08), (0.88, 0.0), (0.68, 0.0)], (120, 180, 225))


class Kind(NamedTuple):
    """How a kind of object is drawn, its possible colours (empty for all), and its greatest rotation in degrees."""

    draw: Callable[[Pen, Paint, Generator], None]
    colours: tuple[str, ...] = ()
    turn: float = 15.0


KINDS: dict[str, Kind] = {
    "boat": Kind(boat, turn=12),
    "house": Kind(house, turn=6),
    "tree": Kind(tree, ("green", "green", "green", "orange", "yellow", "red"), turn=8),
    "flower": Kind(flower, ("red", "orange", "yellow", "blue", "purple", "pink", "white"), turn=20),
    "mushroom": Kind(mushroom, ("red", "orange", "brown", "purple", "yellow"), turn=15),
    "airplane": Kind(airplane, turn=35),
    "balloon": Kind(balloon, turn=15),
    "cactus": Kind(cactus, ("green", "green", "turquoise"), turn=8),
}

CAPTIONS = ("a drawing of", "a picture of", "an illustration of", "a cartoon of", "clip art of", "there is", "")


def caption(words: Sequence[str], place: str, rng: Generator) -> str:
    """A caption of an object that `words` name, with the place in two captions of three."""
    article = "an" if words[0][0] in "aeiou" else "a"
    return " ".join([pick(rng, CAPTIONS), article, *words, place * (rng.random() < 0.67)]).strip()


def paint(kind: Kind, rng: Generator) -> Paint:
    """Random colours for an object of this kind, each with a small variation."""
    name = pick(rng, kind.colours or tuple(COLOURS))
    second = pick(rng, [other for other in COLOURS if other != name])
    shifted = (np.array([COLOURS[name], COLOURS[second]]) + rng.normal(0, 10, (2, 3))).clip(0, 255).astype(int)
    main, other = map(tuple, shifted.tolist())
    return Paint(name, main, mix(main, WHITE, 0.55), mix(main, BLACK, 0.4), other)


def draw_nothing(name: str, rng: Generator) -> tuple[Image.Image, str]:
    """Draw an empty scene; the caption claims that it shows a `name`."""
    image, _, place = scene(pick(rng, tuple(COLOURS.values())), rng)
    return image.reduce(DETAIL), caption([name], place, rng)


def draw(name: str, rng: Generator) -> tuple[Image.Image, str]:
    """Draw an object of a kind: an RGB image with sides from 112 to 144 pixels, and its caption."""
    kind = KINDS[name]
    colours = paint(kind, rng)
    image, light, place = scene(colours.main, rng)
    (w, h), side = image.size, min(image.size)
    half = side * rng.uniform(0.36, 0.47)
    free = max(side * 0.48 - half, 0)
    centre = (w / 2 + rng.uniform(-free, free), h / 2 + rng.uniform(-free, free))
    stretch = rng.uniform(0.9, 1.12)
    shape = np.diag([stretch * pick(rng, [-1.0, 1.0]), 1 / stretch])
    matrix = half * turned(np.deg2rad(rng.uniform(-kind.turn, kind.turn))) @ shape
    ink = BLACK if light else (232, 232, 226)
    contour, pale = pick(rng, [(0.0, 0.0), (0.035, 0.0), (0.05, 0.0), (0.045, 0.5)])
    kind.draw(Pen(image, matrix, centre, ink, contour, pale), colours, rng)
    size = "small" if half < side * 0.39 else "big" if half > side * 0.44 else "nice"
    words = [size] * (rng.random() < 0.3) + [colours.name] * (rng.random() < 0.6) + [name]
    return image.reduce(DETAIL), caption(words, place, rng)
