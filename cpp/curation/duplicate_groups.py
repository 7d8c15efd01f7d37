"""Groups of duplicates from pairs: the image of each group that is kept, and the number dropped at every threshold.

Pairs at or above the threshold connect a group (single linkage), so two of its rows may be less similar than the
threshold. Knows no vectors and no files.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cpp.curation.spanning_forest import Floats, Ints, connected, spanning

Keep = Literal["centroid", "farthest", "resolution", "first", "caption"]
STEP = 0.005  # distance of the thresholds of a curve
BANDS = 8  # similarity bands with example pairs
PAIRS = 4  # example pairs in each band
LARGEST = 8  # number of the largest groups shown
MEMBERS = 8  # rows shown of each of these groups
EXACT = 2.0**-21  # weight above 1 for each stronger kind of exact copy, so that the forest prefers it


class Linked(NamedTuple):
    """Rows that are in a pair, by ascending `place`, with their attributes, `[n]`; NaN if unknown.

    `score` is the cosine to the cluster centre, `pixels` the image size, `caption` the similarity of the caption.
    """

    place: Ints
    score: NDArray[np.float64]
    pixels: NDArray[np.float64]
    caption: NDArray[np.float64]


class Links(NamedTuple):
    """A forest of pairs of row numbers of a `Linked`; `kind` is an index into `duplicate_pairs.KINDS`."""

    a: Ints
    b: Ints
    similarity: Floats
    kind: NDArray[np.int8]


class Groups(NamedTuple):
    """The rows that are in a group, as ascending row numbers of a `Linked`; `group` counts from 0.

    `similarity` is the cosine to the nearest row of the group, `kind` the strongest kind among the row's pairs.
    """

    row: Ints
    group: Ints
    kept: NDArray[np.bool_]
    similarity: Floats
    kind: NDArray[np.int8]


def merge_forests(n: int, links: Links) -> Links:
    """Merge several forests, which may share pairs, into one."""
    low, high = np.minimum(links.a, links.b), np.maximum(links.a, links.b)
    _, once = np.unique(low * n + high, return_index=True)
    weight = links.similarity[once] + (EXACT * links.kind[once]).astype(np.float32)
    a, b, weight = spanning(n, low[once], high[once], weight)
    kind = np.round(np.maximum(weight - 1, 0) / EXACT).astype(np.int8)
    return Links(a, b, np.minimum(weight, np.float32(1)), kind)


def group(linked: Linked, links: Links, threshold: float, keep: Keep) -> Groups:
    """Form the groups at a threshold; each keeps its first best row by `keep`. ValueError as in `_preference`."""
    near = links.similarity >= np.float32(threshold)
    a, b, similarity, kind = links.a[near], links.b[near], links.similarity[near], links.kind[near]
    best, strongest = np.zeros(len(linked.place), np.float32), np.zeros(len(linked.place), np.int8)
    for end in (a, b):
        np.maximum.at(best, end, similarity)
        np.maximum.at(strongest, end, kind)
    row = np.flatnonzero(best)
    _, of_row = np.unique(connected(len(linked.place), a, b)[row], return_inverse=True)
    order = np.lexsort((row, -_preference(linked, keep)[row], of_row))
    kept = np.zeros(len(row), bool)
    kept[order[np.diff(of_row[order], prepend=-1) > 0]] = True
    return Groups(row, of_row.astype(np.int64), kept, best[row], strongest[row])


def _preference(linked: Linked, keep: Keep) -> NDArray[np.float64]:
    """The value by which `keep` prefers a row, `[n]`, -inf if unknown. ValueError if it is unknown for every row."""
    values = {
        "centroid": linked.score,
        "farthest": -linked.score,
        "resolution": linked.pixels,
        "caption": linked.caption,
        "first": np.zeros(len(linked.place)),
    }[keep]
    if len(values) and np.isnan(values).all():
        causes = {
            "resolution": "no image of a group could be read (curate.duplicates.bytes), and the metadata has no "
            "columns width and height",
            "caption": "the column of curate.duplicates.similarity has no number for any image of a group",
        }
        raise ValueError(
            f"curate.duplicates.keep is {keep}, but {causes.get(keep, 'there are no scores')}: use centroid"
        )
    return np.where(np.isnan(values), -np.inf, values)


class Curve:
    """The number of dropped rows and of groups at each of `thresholds`, summed over forests."""

    def __init__(self, lowest: float) -> None:
        steps = np.arange(int(np.ceil(lowest / STEP - 1e-6)), round(1 / STEP) + 1) * STEP
        self.thresholds = np.unique(np.round([lowest, *steps], 6))
        self.dropped = np.zeros(len(self.thresholds), np.int64)
        self.groups = np.zeros(len(self.thresholds), np.int64)

    def add(self, n: int, links: Links) -> None:
        """Add a forest over the rows 0 to `n` - 1."""
        best = np.zeros(n, np.float32)
        for end in (links.a, links.b):
            np.maximum.at(best, end, links.similarity)
        dropped = _at_least(links.similarity, self.thresholds)
        self.dropped += dropped
        self.groups += _at_least(best, self.thresholds) - dropped


def _at_least(values: Floats, thresholds: NDArray[np.float64]) -> Ints:
    return np.asarray(len(values) - np.searchsorted(np.sort(values), thresholds.astype(np.float32)), np.int64)


class Pair(NamedTuple):
    """An example pair: two places, and the lower edge of its similarity band."""

    band: float
    similarity: float
    a: int
    b: int


class Examples:
    """Example pairs of every similarity band, drawn uniformly, and the largest groups of a stream of forests."""

    def __init__(self, lowest: float) -> None:
        self.edges = np.linspace(lowest, 1, BANDS + 1)
        self._pairs: dict[int, list[tuple[int, Pair]]] = {}
        self._groups: list[tuple[int, int, list[int]]] = []

    def add(self, linked: Linked, links: Links, groups: Groups) -> None:
        near = np.flatnonzero(links.kind == 0)
        band = np.clip(np.searchsorted(self.edges, links.similarity[near], "right") - 1, 0, BANDS - 1)
        a, b = linked.place[links.a[near]], linked.place[links.b[near]]
        drawn = _mix(a.astype(np.uint64) * np.uint64(3) + b.astype(np.uint64))
        for k in np.unique(band):
            in_band = np.flatnonzero(band == k)
            first = in_band[np.argsort(drawn[in_band], kind="stable")[:PAIRS]]
            similarity = links.similarity[near]
            examples = [
                (int(drawn[i]), Pair(float(self.edges[k]), float(similarity[i]), int(a[i]), int(b[i]))) for i in first
            ]
            self._pairs[int(k)] = sorted([*self._pairs.get(int(k), []), *examples])[:PAIRS]
        sizes = np.bincount(groups.group) if len(groups.group) else np.empty(0, np.int64)
        for g in np.argsort(-sizes, kind="stable")[:LARGEST]:
            members = np.flatnonzero(groups.group == g)
            members = members[np.argsort(~groups.kept[members], kind="stable")][:MEMBERS]
            self._groups.append((-int(sizes[g]), len(self._groups), linked.place[groups.row[members]].tolist()))
        self._groups = sorted(self._groups)[:LARGEST]

    def pairs(self) -> Iterator[Pair]:
        """Yield the example pairs, the most similar first."""
        for k in sorted(self._pairs, reverse=True):
            yield from sorted((pair for _, pair in self._pairs[k]), key=lambda pair: -pair.similarity)

    def groups(self) -> Iterator[tuple[int, list[int]]]:
        """Yield the size of each of the largest groups and the places of some rows, the kept row first."""
        for size, _, places in self._groups:
            yield -size, places


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64, a fixed pseudo-random permutation."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values = (values ^ (values >> np.uint64(shift))) * np.uint64(factor)
    return values ^ (values >> np.uint64(31))
