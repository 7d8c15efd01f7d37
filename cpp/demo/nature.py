"""Drawings of animals and plants, each in a box from -1 to 1, with colours and chance from outside."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from cpp.demo.pen import BLACK, COLOURS, LEAF, WHITE, WOOD, Paint, Pen, arc, box, mix, pick, smooth, twofold


def fish(p: Pen, c: Paint, rng: Generator) -> None:
    tall, tail = rng.uniform(0.36, 0.52), rng.uniform(0.36, 0.55)
    p.polygon(smooth([(-0.45, 0), (-0.95, -tail), (-0.8, 0), (-0.95, tail)]), c.second)
    p.polygon(smooth([(-0.3, -tall * 0.8), (-0.15, -tall - 0.28), (0.2, -tall - 0.2), (0.4, -tall * 0.7)]), c.second)
    p.polygon(smooth([(-0.1, tall * 0.8), (-0.2, tall + 0.22), (0.15, tall * 0.8)]), c.second)
    back = [(-0.6, 0), (-0.2, -tall * 0.9), (0.3, -tall), (0.75, -0.2)]
    belly = [(0.9, 0.05), (0.7, 0.25), (0.2, tall), (-0.25, tall * 0.8)]
    p.polygon(smooth([*back, *belly]), c.main)
    for x in np.linspace(-0.3, 0.22, rng.integers(0, 4)).tolist():
        p.line(arc(x - 0.1, 0, 0.16, tall * 0.75, -1.2, 1.2, 10), 0.08, c.dark)
    p.polygon(smooth([(0.3, 0.1), (0.0, 0.05), (-0.05, 0.32)]), c.second)
    p.ellipse(0.6, -0.1, 0.11, 0.11, WHITE)
    p.disc(0.63, -0.1, 0.055, BLACK)
    p.line(arc(0.82, 0.05, 0.14, 0.12, 1.4, 2.8, 8), 0.04, BLACK)


def cat(p: Pen, c: Paint, rng: Generator) -> None:
    curl = rng.uniform(0.05, 0.35)
    p.tube(smooth([(0.25, 0.85), (0.7, 0.8), (0.82, 0.4), (0.62 + curl, curl - 0.05)], closed=False), 0.14, c.main)
    p.polygon(smooth(twofold([(0.25, 0.0), (0.46, 0.6), (0.4, 0.93)])), c.main)
    p.ellipse(0, 0.52, 0.2, 0.28, c.light)
    for s in (-1, 1):
        p.ellipse(s * 0.18, 0.88, 0.16, 0.09, c.light)
        p.polygon([(s * 0.08, -0.55), (s * 0.42, -0.98), (s * 0.48, -0.35)], c.main)
        p.disc(s * 0.37, -0.68, 0.08, COLOURS["pink"])
    p.ellipse(0, -0.32, 0.5, 0.4, c.main)
    for x in (-0.12, 0.0, 0.12) if rng.random() < 0.5 else ():
        p.line([(x, -0.68), (x * 0.8, -0.53)], 0.06, c.dark)
    iris = pick(rng, [(140, 200, 70), (240, 200, 60), (110, 190, 230)])
    for s in (-1, 1):
        p.disc(s * 0.2, -0.36, 0.12, iris)
        p.line([(s * 0.2, -0.42), (s * 0.2, -0.3)], 0.06, BLACK)
        for y in (-0.2, -0.12):
            p.line([(s * 0.18, -0.14), (s * 0.7, y * 2.2 + 0.2)], 0.025)
    p.polygon([(-0.07, -0.21), (0.07, -0.21), (0, -0.12)], COLOURS["pink"])
    p.line([*arc(-0.08, -0.1, 0.08, 0.07, np.pi, 0.0, 6), *arc(0.08, -0.1, 0.08, 0.07, np.pi, 0, 6)], 0.03, BLACK)


def butterfly(p: Pen, c: Paint, rng: Generator) -> None:
    up, wide, low = rng.uniform(-0.9, -0.6), rng.uniform(0.8, 0.97), rng.uniform(0.55, 0.85)
    r = rng.uniform(0.09, 0.16)
    for s in (-1, 1):
        lower = [(0.04, 0.0), (0.45, 0.08), (0.68, 0.38), (0.48, low), (0.2, 0.55)]
        upper = [(0.04, -0.05), (0.25, up * 0.75), (wide * 0.85, up), (wide, -0.35), (0.55, 0.05)]
        p.polygon(smooth([(s * x, y) for x, y in lower]), c.second)
        p.polygon(smooth([(s * x, y) for x, y in upper]), c.main)
        p.disc(s * wide * 0.68, up * 0.62, r, c.light)
        p.disc(s * wide * 0.5, up * 0.25, r * 0.6, c.dark)
        p.disc(s * 0.42, 0.36, r * 0.8, c.light)
        p.line(smooth([(0, -0.4), (s * 0.12, -0.75), (s * 0.3, -0.88)], closed=False), 0.035)
        p.disc(s * 0.3, -0.88, 0.045, p.ink)
    p.ellipse(0, 0.05, 0.085, 0.48, (70, 52, 44))
    p.ellipse(0, -0.45, 0.11, 0.11, (70, 52, 44))


def tree(p: Pen, c: Paint, rng: Generator) -> None:
    p.polygon(smooth(twofold([(0.12, 0.2), (0.13, 0.7), (0.25, 0.95)])), WOOD)
    if rng.random() < 0.35:
        for y, w in ((0.45, 0.75), (0.05, 0.62), (-0.33, 0.48)):
            p.polygon([(0, y - 0.6), (w, y), (-w, y)], mix(c.main, c.dark, 0.5 + y / 2))
        return
    lobes = [(a, rng.uniform(0.3, 0.42)) for a in np.linspace(0, 2 * np.pi, 7, endpoint=False).tolist()]
    for a, r in lobes:
        p.ellipse(0.48 * np.cos(a), -0.3 + 0.4 * np.sin(a), r, r * 0.85, c.main)
    for a, r in lobes:
        p.disc(0.4 * np.cos(a), -0.3 + 0.32 * np.sin(a), r, c.main)
    p.disc(0, -0.3, 0.4, c.main)
    for _ in range(rng.integers(0, 9)):
        p.disc(rng.uniform(-0.55, 0.55), rng.uniform(-0.7, 0.1), 0.075, c.second)


def flower(p: Pen, c: Paint, rng: Generator) -> None:
    bend, n = rng.uniform(-0.2, 0.2), int(rng.integers(5, 10))
    p.line(smooth([(0, -0.3), (bend, 0.3), (0, 0.97)], closed=False), 0.09, LEAF)
    for s in (-1, 1):
        p.polygon(smooth([(bend * 0.7, 0.62), (s * 0.3, 0.32), (s * 0.62, 0.36), (s * 0.35, 0.6)]), LEAF)
    long, wide = rng.uniform(0.26, 0.34), min(0.24, 1.1 / n)
    for a in (np.arange(n) * 2 * np.pi / n + rng.uniform(0, 1)).tolist():
        p.ellipse(0.36 * np.cos(a), -0.36 + 0.36 * np.sin(a), long, wide, c.main, turn=a)
    p.ellipse(0, -0.36, 0.2, 0.2, c.second)


def mushroom(p: Pen, c: Paint, rng: Generator) -> None:
    wide, tall, stalk = rng.uniform(0.7, 0.95), rng.uniform(0.75, 1.0), rng.uniform(0.16, 0.26)
    stem = (246, 234, 212)
    p.polygon(smooth(twofold([(stalk, 0.0), (stalk * 1.1, 0.5), (stalk * 1.5, 0.9)])), stem)
    p.polygon(smooth(twofold([(stalk, 0.2), (stalk * 1.5, 0.38)])), mix(stem, WOOD, 0.2))
    p.polygon([*arc(0, 0.1, wide, tall, np.pi, 2 * np.pi), *arc(0, 0.1, wide, 0.18, 0, np.pi)], c.main)
    dots = [(0, -0.5, 0.15), (-0.45, -0.25, 0.13), (0.45, -0.25, 0.12)]
    for x, y, r in [*dots, (0.05, -0.08, 0.1), (-0.25, 0.08, 0.07), (0.35, 0.08, 0.07)]:
        p.disc(x * wide, y * tall, r * rng.uniform(0.8, 1.2), c.light)


def cactus(p: Pen, c: Paint, rng: Generator) -> None:
    top = rng.uniform(-0.75, -0.55)
    arms = [(s, rng.uniform(-0.1, 0.3), rng.uniform(0.3, 0.5)) for s in (-1, 1)][: rng.integers(1, 3)]
    for s, y, long in arms:
        bow = smooth([(0, y), (s * 0.45, y), (s * 0.55, y - 0.14), (s * 0.55, y - long)], closed=False)
        p.tube(bow, 0.24, c.main)
    p.tube([(0, 0.6), (0, top)], 0.42, c.main)
    for s, y, _ in arms:
        p.line([(0, y), (s * 0.4, y)], 0.24, c.main)
    for x in (-0.1, 0.0, 0.1):
        for y in np.arange(top, 0.45, 0.19).tolist():
            p.line([(x - 0.02, y + 0.05), (x + 0.02, y - 0.03)], 0.03, c.light)
    if rng.random() < 0.6:
        for a in np.linspace(0, 6.28, 5, endpoint=False).tolist():
            p.disc(0.1 * np.cos(a), top - 0.22 + 0.1 * np.sin(a), 0.1, COLOURS["pink"])
        p.disc(0, top - 0.22, 0.07, COLOURS["yellow"])
    p.polygon([(-0.42, 0.5), (0.42, 0.5), (0.32, 0.96), (-0.32, 0.96)], c.second)
    p.polygon(box(-0.48, 0.42, 0.48, 0.58), c.second)
