"""Captioned drawings of eight kinds of objects with varying shape, colours, pose, background and clutter.

Knows no files or models. All random choices come from the caller's generator, so an equal seed gives equal drawings
(with equal versions of Pillow and NumPy).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from PIL import Image

from cpp.demo.pen import BLACK, COLOURS, WHITE, Colour, Paint, Pen, mix, pick, turned
from cpp.demo.scenes import background, clutter
from cpp.demo.things import airplane, balloon, boat, cactus, flower, house, mushroom, tree

SIDES = (112, 144)  # least and greatest side of an image, in pixels
DETAIL = 3  # images are drawn this many times larger and then reduced, which smooths the edges


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

CAPTIONS = (
    "a drawing of {thing}",
    "a drawing of {thing} {place}",
    "a picture of {thing}",
    "a picture of {thing} {place}",
    "an illustration of {thing} {place}",
    "a colourful drawing of {thing} {place}",
    "a cartoon of {thing}",
    "clip art of {thing}",
    "{thing} {place}",
    "{thing}",
    "there is {thing} {place}",
    "a child's picture of {thing} {place}",
)


def caption(kind: str, colours: Paint, place: str, size: str, rng: Generator) -> str:
    """A caption that names the kind, and sometimes the size, the colour and the place."""
    words = [size] * (rng.random() < 0.3) + [colours.name] * (rng.random() < 0.6) + [kind]
    article = "an" if words[0][0] in "aeiou" else "a"
    return pick(rng, CAPTIONS).format(thing=" ".join([article, *words]), place=place)


def paint(kind: Kind, rng: Generator) -> Paint:
    """Random colours for an object of this kind, each with a small variation."""
    name = pick(rng, kind.colours or tuple(COLOURS))
    second = pick(rng, [other for other in COLOURS if other != name])
    main, other = (
        tuple(int(v) for v in np.clip(np.array(COLOURS[n]) + rng.normal(0, 10, 3), 0, 255)) for n in (name, second)
    )
    return Paint(name, main, mix(main, WHITE, 0.55), mix(main, BLACK, 0.4), other)  # type: ignore[arg-type]  # 3 values


def scenery(away_from: Colour, rng: Generator) -> tuple[Image.Image, Colour, str]:
    """`background` with clutter, `DETAIL` times enlarged; returns the same three values."""
    w, h = (int(side) * DETAIL for side in rng.integers(SIDES[0], SIDES[1] + 1, 2))
    image, mean, place = background((w, h), away_from, rng)
    clutter(image, rng)
    return image, mean, place


def draw_nothing(name: str, rng: Generator) -> tuple[Image.Image, str]:
    """Draw an empty scene; the caption claims that it shows a `name`."""
    image, _, place = scenery(pick(rng, tuple(COLOURS.values())), rng)
    return image.reduce(DETAIL), pick(rng, CAPTIONS).format(thing=f"a {name}", place=place)


def draw(name: str, rng: Generator) -> tuple[Image.Image, str]:
    """Draw an object of a kind: an RGB image with sides from 112 to 144 pixels, and its caption."""
    kind = KINDS[name]
    colours = paint(kind, rng)
    image, mean, place = scenery(colours.main, rng)
    (w, h), side = image.size, min(image.size)
    half = side * rng.uniform(0.36, 0.47)
    free = max(side * 0.48 - half, 0)
    centre = (w / 2 + rng.uniform(-free, free), h / 2 + rng.uniform(-free, free))
    stretch = rng.uniform(0.9, 1.12)
    shape = np.diag([stretch * pick(rng, [-1.0, 1.0]), 1 / stretch])
    matrix = half * turned(np.deg2rad(rng.uniform(-kind.turn, kind.turn))) @ shape
    ink = BLACK if sum(mean) > 270 else (232, 232, 226)
    contour, pale = pick(rng, [(0.0, 0.0), (0.035, 0.0), (0.05, 0.0), (0.045, 0.5)])
    kind.draw(Pen(image, matrix, centre, ink, contour, pale), colours, rng)
    size = "small" if half < side * 0.39 else "big" if half > side * 0.44 else "nice"
    return image.reduce(DETAIL), caption(name, colours, place, size, rng)
