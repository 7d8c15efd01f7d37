"""Drawings of things that people make, each in a box from -1 to 1, with colours and chance from outside."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.random import Generator

from cpp.demo.pen import BLACK, COLOURS, WHITE, WOOD, Paint, Pen, arc, box, mix, pick, smooth, twofold


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


def car(p: Pen, c: Paint, rng: Generator) -> None:
    roof, front, back = rng.uniform(-0.48, -0.32), rng.uniform(0.15, 0.35), rng.uniform(-0.7, -0.4)
    body = [(-0.95, 0.4), (-0.97, 0.02), (back - 0.1, -0.02), (back + 0.12, roof), (front, roof), (0.55, 0.0)]
    p.polygon(smooth([*body, (0.92, 0.1), (0.97, 0.4)], steps=4), c.main)
    glass = (176, 216, 238)
    middle = (back + front) / 2 + 0.08
    p.polygon([(back + 0.02, 0.0), (back + 0.16, roof + 0.1), (middle - 0.04, roof + 0.1), (middle - 0.04, 0.0)], glass)
    p.polygon([(middle + 0.04, 0.0), (middle + 0.04, roof + 0.1), (front - 0.02, roof + 0.1), (0.44, 0.0)], glass)
    p.line([(middle, 0.08), (middle, 0.36)], 0.025, c.dark)
    p.line([(middle - 0.17, 0.13), (middle - 0.07, 0.13)], 0.04, c.dark)
    p.ellipse(0.88, 0.2, 0.07, 0.08, COLOURS["yellow"])
    r = rng.uniform(0.2, 0.26)
    for x in (-0.55, 0.55):
        p.ellipse(x, 0.42, r, r, BLACK)
        p.disc(x, 0.42, r * 0.5, (205, 205, 210))


def umbrella(p: Pen, c: Paint, rng: Generator) -> None:
    n, tall = int(rng.integers(4, 7)), rng.uniform(0.7, 0.9)
    hook = arc(-0.15, 0.75, 0.15, 0.17, 0, np.pi, 10)
    p.tube([(0, -0.9), *hook], 0.07, pick(rng, [WOOD, (120, 120, 128)]))
    edges = np.linspace(-0.95, 0.95, n + 1).tolist()
    for i, (a, b) in enumerate(itertools.pairwise(edges)):
        left = [(a * np.sin(t), 0.1 - tall * np.cos(t)) for t in np.linspace(0, np.pi / 2, 9).tolist()]
        right = [(b * np.sin(t), 0.1 - tall * np.cos(t)) for t in np.linspace(np.pi / 2, 0, 9).tolist()]
        scallop = arc((a + b) / 2, 0.1, (b - a) / 2, 0.1, np.pi, 2 * np.pi, 8)
        p.polygon([*left, *scallop, *right], c.second if i % 2 else c.main)
    p.line([(0, 0.08 - tall), (0, -tall)], 0.06, c.dark)


def cup(p: Pen, c: Paint, rng: Generator) -> None:
    foot, tall = rng.uniform(0.3, 0.46), rng.uniform(0.5, 0.75)
    if rng.random() < 0.6:
        p.ellipse(-0.1, tall + 0.04, 0.8, 0.15, c.light)
    p.tube(arc(0.38, 0.12, 0.32, 0.28, -1.7, 1.9, 16), 0.12, c.main)
    left, right = [(-0.62, -0.3), (-0.58, 0.15), (-foot - 0.1, tall)], [(foot - 0.1, tall), (0.38, 0.15), (0.42, -0.3)]
    p.polygon([*smooth(left, closed=False), *smooth(right, closed=False)], c.main)
    y = rng.uniform(0.05, 0.3)
    match rng.integers(3):
        case 0:
            p.line([(-0.55, y), (0.34, y)], 0.1, c.second)
        case 1:
            for x in (-0.35, -0.1, 0.15):
                p.disc(x, y, 0.08, c.second)
    p.ellipse(-0.1, -0.3, 0.52, 0.14, c.light)
    p.ellipse(-0.1, -0.28, 0.42, 0.09, pick(rng, [(92, 56, 34), (190, 120, 50)]))
    for x in (-0.3, -0.08, 0.14)[: rng.integers(0, 4)]:
        steam = [(x, -0.5), (x + 0.09, -0.64), (x - 0.05, -0.78), (x + 0.05, -0.94)]
        p.line(smooth(steam, closed=False), 0.05, (215, 215, 222))


def clock(p: Pen, c: Paint, rng: Generator) -> None:
    alarm = rng.random() < 0.5
    if alarm:
        for s in (-1, 1):
            p.line([(s * 0.4, 0.6), (s * 0.6, 0.93)], 0.12, c.dark)
            p.ellipse(s * 0.48, -0.66, 0.26, 0.18, c.second, turn=s * 0.65)
        p.line([(0, -0.6), (0, -0.9)], 0.08, c.dark)
    r = 0.7 if alarm else 0.88
    if alarm or rng.random() < 0.6:
        p.ellipse(0, 0.08 * alarm, r, r, c.main)
    else:
        p.polygon(box(-r, -r, r, r), c.main)
    x0, y0, face = 0.0, 0.08 * alarm, r * 0.8
    p.ellipse(x0, y0, face, face, WHITE)
    for i in range(12):
        u, v = np.cos(i * np.pi / 6), np.sin(i * np.pi / 6)
        near = 0.72 if i % 3 == 0 else 0.82
        p.line([(x0 + face * near * u, y0 + face * near * v), (x0 + face * 0.9 * u, y0 + face * 0.9 * v)], 0.05, BLACK)
    for angle, long, width in ((rng.uniform(0, 6.28), 0.45, 0.09), (rng.uniform(0, 6.28), 0.68, 0.06)):
        p.line([(x0, y0), (x0 + face * long * np.cos(angle), y0 + face * long * np.sin(angle))], width, BLACK)
    p.disc(x0, y0, 0.07, c.main)


def key(p: Pen, c: Paint, rng: Generator) -> None:
    bow = rng.uniform(0.28, 0.36)
    rings = [(-0.6, 0.0)] if rng.random() < 0.6 else [(-0.42, -0.2), (-0.42, 0.2), (-0.74, 0.0)]
    r = bow if len(rings) == 1 else bow * 0.62
    shaft = [(-0.6 + bow if len(rings) == 1 else -0.38, 0.0), (0.92, 0.0)]
    teeth = [(x, rng.uniform(0.3, 0.42)) for x in np.linspace(0.45, 0.85, int(rng.integers(2, 4))).tolist()]
    for contour in (True, False):  # all contours first, so that no part cuts another
        if contour and not p.contour:
            continue
        colour, more = (p.ink, 2 * p.contour) if contour else (c.main, 0.0)
        for x, y in rings:
            p.line([*arc(x, y, r, r), (x + r, y)], 0.17 + more, colour)
        p.line(shaft, 0.2 + more, colour)
        for x, long in teeth:
            p.line([(x, 0.0), (x, long)], 0.15 + more, colour)
    p.line([(shaft[0][0] + 0.1, -0.02), (0.85, -0.02)], 0.04, c.light)


def balloon(p: Pen, c: Paint, rng: Generator) -> None:
    n = int(rng.integers(1, 4))
    r = 0.56 if n == 1 else 0.38
    places = [(0.0, -0.38)] if n == 1 else [(-0.42, -0.3), (0.42, -0.25), (0.0, -0.55)][:n]
    for x, y in places:
        sway = rng.uniform(-0.2, 0.2)
        string = [(x, y + r * 1.1), (x * 0.6 + sway, 0.45), (x * 0.2 - sway, 0.7), (0, 0.97)]
        p.line(smooth(string, closed=False), 0.035)
    for (x, y), colour in zip(places, [c.main, c.second, c.main], strict=False):
        p.polygon([(x, y + r * 1.02), (x - 0.1, y + r * 1.3), (x + 0.1, y + r * 1.3)], mix(colour, BLACK, 0.2))
        pear = twofold([(0.0, -1.0), (0.6, -0.8), (0.86, -0.18), (0.52, 0.66), (0.0, 1.08)])
        p.polygon(smooth([(x + r * u, y + r * v) for u, v in pear]), colour)
        p.polygon(arc(x - r * 0.35, y - r * 0.4, r * 0.14, r * 0.25, steps=16), mix(colour, WHITE, 0.6))


def airplane(p: Pen, c: Paint, rng: Generator) -> None:
    sweep = rng.uniform(0.3, 0.5)
    p.polygon([(0.25, -0.12), (-sweep + 0.1, -0.6), (-sweep - 0.1, -0.6), (-0.12, -0.12)], c.dark)
    p.polygon([(-0.6, -0.08), (-0.98, -0.58), (-0.78, -0.58), (-0.35, -0.14)], c.second)
    top = [(-0.97, -0.12), (-0.4, -0.2), (0.5, -0.2), (0.82, -0.1)]
    p.polygon(smooth([*top, (0.97, 0.06), (0.7, 0.19), (-0.2, 0.2), (-0.7, 0.06)]), c.main)
    p.polygon([(-0.6, -0.02), (-0.98, 0.2), (-0.82, 0.2), (-0.4, 0.02)], c.second)
    p.polygon([(0.28, 0.06), (-sweep + 0.05, 0.72), (-sweep - 0.15, 0.72), (-0.15, 0.06)], c.second)
    for x in np.arange(-0.35, 0.55, 0.15).tolist():
        p.disc(x, -0.07, 0.045, (120, 180, 225))
    p.polygon([(0.68, -0.13), (0.83, -0.08), (0.88, 0.0), (0.68, 0.0)], (120, 180, 225))


def bicycle(p: Pen, c: Paint, rng: Generator) -> None:
    r, n = rng.uniform(0.36, 0.42), int(rng.integers(4, 7))
    back, front, pedal, seat, head = (-0.55, 0.3), (0.55, 0.3), (-0.08, 0.32), (-0.24, -0.3), (0.36, -0.34)
    for x, y in (back, front):
        for a in (np.arange(n) * np.pi / n).tolist():
            u, v = r * np.cos(a), r * np.sin(a)
            p.line([(x - u, y - v), (x + u, y + v)], 0.018)
        p.line([*arc(x, y, r, r), (x + r, y)], 0.085)
        p.disc(x, y, 0.06, c.dark)
    for path in ([back, pedal, head, seat, back], [pedal, seat], [head, front]):
        p.line(path, 0.085, c.main)
    p.line([seat, (seat[0] - 0.04, -0.45)], 0.06, c.main)
    p.line([(seat[0] - 0.2, -0.47), (seat[0] + 0.12, -0.47)], 0.11)
    bar = [(0.12, 0.0), (0.2, -0.08)] if rng.random() < 0.5 else [(0.16, -0.05), (0.2, 0.1), (0.1, 0.14)]
    p.line([head, (0.32, -0.55), *((0.32 + x, -0.55 + y) for x, y in bar)], 0.07)
    p.disc(*pedal, 0.1, c.dark)
    p.line([pedal, (0.06, 0.47)], 0.05)


def guitar(p: Pen, c: Paint, rng: Generator) -> None:
    waist, hip = rng.uniform(0.2, 0.3), rng.uniform(0.44, 0.54)
    p.polygon(box(-0.1, -0.75, 0.1, 0.1), WOOD)
    p.polygon([(-0.11, -0.7), (-0.15, -0.98), (0.15, -0.98), (0.11, -0.7)], c.dark)
    right = [(0.12, -0.08), (0.36, 0.0), (0.38, 0.15), (waist, 0.33), (hip, 0.6), (0.36, 0.9)]
    p.polygon(smooth(twofold(right)), c.main)
    p.ellipse(0, 0.25, 0.16, 0.16, (50, 34, 26))
    p.line([(-0.18, 0.66), (0.18, 0.66)], 0.08, (50, 34, 26))
    for x in (-0.05, 0.0, 0.05):
        p.line([(x, -0.85), (x, 0.66)], 0.016, (236, 230, 214))
    for y in (-0.93, -0.84, -0.75):
        for s in (-1, 1):
            p.disc(s * 0.18, y, 0.045, p.ink)
