"""Groups of duplicates from pairs: the image of each group that is kept, and the number dropped at every threshold.

Pairs at or above the threshold connect a group (single linkage), so two of its rows may be less similar than the
threshold. Knows no vectors and no files.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cpp.curation.spanning_forest import Floats, Ints, Pairs, connected, spanning

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


class Groups(NamedTuple):
    """The rows that are in a group, as ascending row numbers of a `Linked`; `group` counts from 0.

    `similarity` is the cosine to the nearest row of the group, `kind` the strongest kind among the row's pairs.
    """

    row: Ints
    group: Ints
    kept: NDArray[np.bool_]
    similarity: Floats
    kind: NDArray[np.int8]


def merge_forests(n: int, pairs: Pairs) -> Pairs:
    """Merge several forests over `n` rows, which may share pairs, into one."""
    low, high = np.minimum(pairs.a, pairs.b), np.maximum(pairs.a, pairs.b)
    _, first = np.unique(low * n + high, return_index=True)
    weight = pairs.similarity[first] + (EXACT * pairs.kind[first]).astype(np.float32)
    a, b, weight = spanning(n, low[first], high[first], weight)
    kind = np.round(np.maximum(weight - 1, 0) / EXACT).astype(np.int8)
    return Pairs(a, b, np.minimum(weight, np.float32(1)), kind)


def group(linked: Linked, pairs: Pairs, threshold: float, keep: Keep) -> Groups:
    """Form the groups at a threshold; each keeps its first best row by `keep`. ValueError as in `_preference`."""
    n, near = len(linked.place), pairs.similarity >= np.float32(threshold)
    pairs = Pairs(pairs.a[near], pairs.b[near], pairs.similarity[near], pairs.kind[near])
    best = _largest(n, pairs, pairs.similarity)
    row = np.flatnonzero(best)
    _, group_of_row = np.unique(connected(n, pairs.a, pairs.b)[row], return_inverse=True)
    order = np.lexsort((row, -_preference(linked, keep)[row], group_of_row))
    kept = np.zeros(len(row), bool)
    kept[order[np.diff(group_of_row[order], prepend=-1) > 0]] = True
    return Groups(row, group_of_row.astype(np.int64), kept, best[row], _largest(n, pairs, pairs.kind)[row])


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


def curve_thresholds(lowest: float) -> NDArray[np.float64]:
    """The thresholds of a curve: `lowest`, and every `STEP` from it to 1."""
    steps = np.arange(int(np.ceil(lowest / STEP - 1e-6)), round(1 / STEP) + 1) * STEP
    return np.unique(np.round([lowest, *steps], 6))


def curve(n: int, pairs: Pairs, thresholds: NDArray[np.float64]) -> Ints:
    """The number of dropped rows and of groups at each threshold, `[2, thresholds]`, of a forest over `n` rows."""
    dropped = _at_least(pairs.similarity, thresholds)
    return np.stack([dropped, _at_least(_largest(n, pairs, pairs.similarity), thresholds) - dropped])


def _largest(n: int, pairs: Pairs, values: NDArray[Any]) -> NDArray[Any]:
    """The largest of the values, one for each pair, that each of `n` rows has; 0 for a row without a pair."""
    largest = np.zeros(n, values.dtype)
    for end in (pairs.a, pairs.b):
        np.maximum.at(largest, end, values)
    return largest


def _at_least(values: Floats, thresholds: NDArray[np.float64]) -> Ints:
    return np.asarray(len(values) - np.searchsorted(np.sort(values), thresholds.astype(np.float32)), np.int64)


def example_pairs(linked: Linked, pairs: Pairs, lowest: float) -> dict[str, NDArray[Any]]:
    """Candidates for example pairs: all pairs but exact copies, as columns of one row for each pair.

    `cluster` and `band` are the number and the lower edge of one of `BANDS` bands of similarity, `drawn` is a
    pseudo-random number, `a` and `b` are places.
    """
    near = np.flatnonzero(pairs.kind == 0)
    similarity, a, b = pairs.similarity[near], linked.place[pairs.a[near]], linked.place[pairs.b[near]]
    edges = np.linspace(lowest, 1, BANDS + 1)
    band = np.clip(np.searchsorted(edges, similarity, "right") - 1, 0, BANDS - 1)
    drawn = _mix(a.astype(np.uint64) * np.uint64(3) + b.astype(np.uint64))
    return {"cluster": band, "band": edges[band], "drawn": drawn, "similarity": similarity, "a": a, "b": b}


def largest_groups(linked: Linked, groups: Groups) -> list[tuple[int, list[int]]]:
    """The sizes of the `LARGEST` groups, and the places of up to `MEMBERS` rows of each, the kept row first."""
    sizes = np.bincount(groups.group)
    largest = []
    for g in np.argsort(-sizes, kind="stable")[:LARGEST]:
        members = np.flatnonzero(groups.group == g)
        members = members[np.argsort(~groups.kept[members], kind="stable")][:MEMBERS]
        largest.append((int(sizes[g]), linked.place[groups.row[members]].tolist()))
    return largest


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64, a fixed pseudo-random permutation."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values = (values ^ (values >> np.uint64(shift))) * np.uint64(factor)
    return values ^ (values >> np.uint64(31))
