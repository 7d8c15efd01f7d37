"""From pairs to groups of duplicates: which image of each is kept, and how many would go at every threshold.

A group is what pairs of at least the threshold connect (single linkage), so its ends may be less alike than that. Knows
no vectors and no files.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cpp.curation.spanning_forest import Floats, Ints, connected, spanning

Keep = Literal["centroid", "farthest", "resolution", "first", "caption"]
STEP = 0.005  # between the thresholds of a curve
BANDS = 8  # of similarity, of which pairs are shown
PAIRS = 4  # shown of a band
LARGEST = 8  # groups shown
MEMBERS = 8  # shown of a group
EXACT = 2.0**-21  # how far above 1 a stronger kind of exact copy counts, so that the forest has it


class Linked(NamedTuple):
    """Rows that are in a pair, by their `place`, ascending, with what is known of them, `[n]`; NaN where nothing is.

    `score` is the cosine to the centre of the cluster, `pixels` their number, `caption` how well the caption matches.
    """

    place: Ints
    score: NDArray[np.float64]
    pixels: NDArray[np.float64]
    caption: NDArray[np.float64]


class Links(NamedTuple):
    """A forest of pairs, as numbers of rows of a `Linked`; `kind` is a place in
    `cpp.curation.duplicate_pairs.KINDS`."""

    a: Ints
    b: Ints
    similarity: Floats
    kind: NDArray[np.int8]


class Groups(NamedTuple):
    """Rows in groups, as numbers of rows of a `Linked`, ascending. `group` counts from 0.

    `similarity` is the cosine to the row of the group that is nearest, `kind` the strongest that the row is linked by.
    """

    row: Ints
    group: Ints
    kept: NDArray[np.bool_]
    similarity: Floats
    kind: NDArray[np.int8]


def merge_forests(n: int, links: Links) -> Links:
    """The forest of pairs of several forests, where a pair may stand in two."""
    low, high = np.minimum(links.a, links.b), np.maximum(links.a, links.b)
    _, once = np.unique(low * n + high, return_index=True)
    weight = links.similarity[once] + (EXACT * links.kind[once]).astype(np.float32)
    a, b, found = spanning(n, low[once], high[once], weight)
    kind = np.round(np.maximum(found - 1, 0) / EXACT).astype(np.int8)
    return Links(a, b, np.minimum(found, np.float32(1)), kind)


def group(linked: Linked, links: Links, threshold: float, keep: Keep) -> Groups:
    """The groups at a threshold; the kept row is the first of those that are best by `keep`."""
    near = links.similarity >= np.float32(threshold)
    a, b, similarity, kind = links.a[near], links.b[near], links.similarity[near], links.kind[near]
    best, strongest = np.zeros(len(linked.place), np.float32), np.zeros(len(linked.place), np.int8)
    for end in (a, b):
        np.maximum.at(best, end, similarity)
        np.maximum.at(strongest, end, kind)
    row = np.flatnonzero(best)
    _, of_row = np.unique(connected(len(linked.place), a, b)[row], return_inverse=True)
    order = np.lexsort((row, -_worth(linked, keep)[row], of_row))
    kept = np.zeros(len(row), bool)
    kept[order[np.diff(of_row[order], prepend=-1) > 0]] = True
    return Groups(row, of_row.astype(np.int64), kept, best[row], strongest[row])


def _worth(linked: Linked, keep: Keep) -> NDArray[np.float64]:
    """What the kept row of a group has most of. ValueError where nothing is known of any row."""
    by = {
        "centroid": linked.score,
        "farthest": -linked.score,
        "resolution": linked.pixels,
        "caption": linked.caption,
        "first": np.zeros(len(linked.place)),
    }[keep]
    if len(by) and np.isnan(by).all():
        why = {
            "resolution": "no image of a group could be read (curate.duplicates.bytes), and the metadata has no "
            "columns width and height",
            "caption": "the column of curate.duplicates.similarity has no number for any image of a group",
        }
        raise ValueError(f"curate.duplicates.keep is {keep}, but {why.get(keep, 'there are no scores')}: use centroid")
    return np.where(np.isnan(by), -np.inf, by)


class Curve:
    """How many rows go, and how many groups there are, at each of `thresholds`: sums over forests."""

    def __init__(self, lowest: float) -> None:
        steps = np.arange(int(np.ceil(lowest / STEP - 1e-6)), round(1 / STEP) + 1) * STEP
        self.thresholds = np.unique(np.round([lowest, *steps], 6))
        self.dropped = np.zeros(len(self.thresholds), np.int64)
        self.groups = np.zeros(len(self.thresholds), np.int64)

    def add(self, n: int, links: Links) -> None:
        """A forest over rows 0 to `n` - 1."""
        best = np.zeros(n, np.float32)
        for end in (links.a, links.b):
            np.maximum.at(best, end, links.similarity)
        dropped = _at_least(links.similarity, self.thresholds)
        self.dropped += dropped
        self.groups += _at_least(best, self.thresholds) - dropped


def _at_least(values: Floats, thresholds: NDArray[np.float64]) -> Ints:
    return np.asarray(len(values) - np.searchsorted(np.sort(values), thresholds.astype(np.float32)), np.int64)


class Pair(NamedTuple):
    """Two rows by their places, with the lower edge of the band of similarity that they are an example of."""

    band: float
    similarity: float
    a: int
    b: int


class Examples:
    """Some near pairs of every band of similarity, drawn evenly, and the largest groups, while forests pass by."""

    def __init__(self, lowest: float) -> None:
        self.edges = np.linspace(lowest, 1, BANDS + 1)
        self._pairs: dict[int, list[tuple[int, Pair]]] = {}
        self._groups: list[tuple[int, int, list[int]]] = []

    def add(self, linked: Linked, links: Links, groups: Groups) -> None:
        near = np.flatnonzero(links.kind == 0)
        band = np.clip(np.searchsorted(self.edges, links.similarity[near], "right") - 1, 0, BANDS - 1)
        a, b = linked.place[links.a[near]], linked.place[links.b[near]]
        drawn = _mixed(a.astype(np.uint64) * np.uint64(3) + b.astype(np.uint64))
        for k in np.unique(band):
            mine = np.flatnonzero(band == k)
            first = mine[np.argsort(drawn[mine], kind="stable")[:PAIRS]]
            similarity = links.similarity[near]
            some = [
                (int(drawn[i]), Pair(float(self.edges[k]), float(similarity[i]), int(a[i]), int(b[i]))) for i in first
            ]
            self._pairs[int(k)] = sorted([*self._pairs.get(int(k), []), *some])[:PAIRS]
        sizes = np.bincount(groups.group) if len(groups.group) else np.empty(0, np.int64)
        for g in np.argsort(-sizes, kind="stable")[:LARGEST]:
            mine = np.flatnonzero(groups.group == g)
            mine = mine[np.argsort(~groups.kept[mine], kind="stable")][:MEMBERS]
            self._groups.append((-int(sizes[g]), len(self._groups), linked.place[groups.row[mine]].tolist()))
        self._groups = sorted(self._groups)[:LARGEST]

    def pairs(self) -> Iterator[Pair]:
        """The pairs, the most alike first."""
        for k in sorted(self._pairs, reverse=True):
            yield from sorted((pair for _, pair in self._pairs[k]), key=lambda pair: -pair.similarity)

    def groups(self) -> Iterator[tuple[int, list[int]]]:
        """Size and places of some rows of the largest groups, the kept one first."""
        for size, _, places in self._groups:
            yield -size, places


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The end of splitmix64: equal chances for all, and the same each time."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values = (values ^ (values >> np.uint64(shift))) * np.uint64(factor)
    return values ^ (values >> np.uint64(31))
