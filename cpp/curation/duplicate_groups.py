"""Groups of duplicates from pairs: the image of each group that is kept, and the number dropped at every threshold.

Every dropped row has a pair at or above the threshold with the row that is kept in its place, and no two kept rows have
one. There are no chains: similarity is that to the kept row. Knows no vectors and no files.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cpp.curation.strongest_pairs import Floats, Ints, Pairs, merged

Keep = Literal["centroid", "farthest", "resolution", "first", "caption"]
DUPLICATES = pa.schema(
    {
        **{"key": "string", "group": "int64", "kept": "bool", "similarity": "float32", "kind": "string"},
        **{"kept_key": "string", "kept_image_shard": "string"},
    }
)
LEAKS = pa.schema(
    {
        **{"key": "string", "split": "string", "image_shard": "string"},
        **{"other_key": "string", "other_split": "string", "other_image_shard": "string"},
        **{"similarity": "float32", "kind": "string"},
    }
)
STEP = 0.005  # distance of the thresholds of a curve
BANDS = 8  # similarity bands with example pairs
PAIRS = 4  # example pairs in each band
LARGEST = 8  # number of the largest groups shown
MEMBERS = 8  # rows shown of each of these groups


class Linked(NamedTuple):
    """Rows that are in a pair, by ascending `place`, with their attributes, `[n]`; NaN if unknown.

    `score` is the cosine to the cluster centre, `pixels` the image size, `caption` the similarity of the caption.
    `batch` is 0 for a row of the run, and the number of the append for an appended one: an earlier row is preferred to
    a later one, so that an append drops nothing that was kept before. A row that is `removed` for another reason is
    kept only in a group of removed rows, so that every other dropped row has a kept row that is not removed.
    """

    place: Ints
    score: NDArray[np.float64]
    pixels: NDArray[np.float64]
    caption: NDArray[np.float64]
    batch: Ints | int = 0
    removed: NDArray[np.bool_] | bool = False


class Groups(NamedTuple):
    """The rows that are in a group, as ascending row numbers of a `Linked`; `group` counts from 0.

    `similarity` and `kind` are those of a dropped row's pair with the kept row, and the largest of these for that one.
    """

    row: Ints
    group: Ints
    kept: NDArray[np.bool_]
    similarity: Floats
    kind: NDArray[np.int8]


def group(linked: Linked, pairs: Pairs, threshold: float, keep: Keep) -> Groups:
    """Form the groups at a threshold, by the preferences of `keep`. ValueError as in `_preference`.

    Rows are considered from the most preferred on; a row that has a pair with a kept row is dropped, and is in the
    group of the most similar of those that are preferred to it. Exact copies count as one row.
    """
    n, pairs = len(linked.place), _above(pairs, threshold)
    leader, similarity = _leaders(n, pairs, _rank(linked, keep))
    exact_kind = _largest(n, pairs, pairs.kind)
    kind = np.where(similarity == 1, exact_kind, 0).astype(np.int8)
    dropped = np.flatnonzero(leader != np.arange(n))
    similarity[leader[dropped]], kind[leader[dropped]] = 0, 0
    np.maximum.at(similarity, leader[dropped], similarity[dropped])
    np.maximum.at(kind, leader[dropped], kind[dropped])
    row = np.union1d(dropped, leader[dropped])
    _, group_of_row = np.unique(leader[row], return_inverse=True)
    return Groups(row, group_of_row.astype(np.int64), leader[row] == row, similarity[row], kind[row])


def _above(pairs: Pairs, threshold: float) -> Pairs:
    near = pairs.similarity >= np.float32(threshold)
    return Pairs(pairs.a[near], pairs.b[near], pairs.similarity[near], pairs.kind[near])


def _rank(linked: Linked, keep: Keep) -> Ints:
    """The rank of each row, from 0 for the most preferred of the earliest batch; of equal ones the first.

    Removed rows are after all others.
    """
    rank = np.empty(len(linked.place), np.int64)
    batch, removed = (np.broadcast_to(values, len(rank)) for values in (linked.batch, linked.removed))
    rank[np.lexsort((-_preference(linked, keep), batch, removed))] = np.arange(len(rank))
    return rank


def _leaders(n: int, pairs: Pairs, rank: Ints) -> tuple[Ints, Floats]:
    """For each row the kept row that stands for it, itself if it is kept, and their similarity, `[n]` each."""
    exact = pairs.kind > 0
    copies = _connected(n, pairs.a[exact], pairs.b[exact])
    by_rank = np.argsort(rank)
    number, first = np.unique(copies[by_rank], return_index=True)
    best = np.empty(len(number), np.int64)
    best[number] = by_rank[first]  # the most preferred of the copies stands for them
    u, v = copies[pairs.a[~exact]], copies[pairs.b[~exact]]
    ends, others = np.concatenate([u, v]), np.concatenate([v, u])
    kept = _independent(len(best), ends, others, rank[best])
    to_kept = kept[others] & ~kept[ends] & (rank[best[others]] < rank[best[ends]])
    ends, others, similarity = ends[to_kept], others[to_kept], np.tile(pairs.similarity[~exact], 2)[to_kept]
    order = np.lexsort((rank[best[others]], -similarity, ends))
    ends, others, similarity = ends[order], others[order], similarity[order]
    dropped, nearest = np.unique(ends, return_index=True)
    leader, strength = best.copy(), np.ones(len(best), np.float32)
    leader[dropped], strength[dropped] = best[others[nearest]], similarity[nearest]
    return leader[copies], strength[copies]


def _independent(n: int, ends: Ints, others: Ints, rank: Ints) -> NDArray[np.bool_]:
    """Which of `n` nodes are kept, from the best rank on, if no two neighbours may be; every edge in both directions.

    All nodes that are better than their undecided neighbours are decided at a time.
    """
    kept, undecided = np.zeros(n, bool), np.ones(n, bool)
    while undecided.any():
        best_neighbour = np.full(n, np.iinfo(np.int64).max)
        np.minimum.at(best_neighbour, ends, rank[others])
        new = undecided & (rank < best_neighbour)
        kept |= new
        undecided &= ~new
        undecided[others[new[ends]]] = False
        open_edges = undecided[ends] & undecided[others]
        ends, others = ends[open_edges], others[open_edges]
    return kept


def _connected(n: int, a: Ints, b: Ints) -> Ints:
    """The component number of each of `n` rows, `[n]`."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(n, n)).tocsr()
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


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
            "resolution": "no image of a group could be read (curate.duplicates.pictures), and the metadata has no "
            "columns width and height",
            "caption": "no image of a group has a caption",
        }
        raise ValueError(
            f"curate.duplicates.keep is {keep}, but {causes.get(keep, 'there are no scores')}: use centroid"
        )
    return np.where(np.isnan(values), -np.inf, values)


def curve_thresholds(lowest: float) -> NDArray[np.float64]:
    """The thresholds of a curve: `lowest`, and every `STEP` from it to 1."""
    steps = np.arange(int(np.ceil(lowest / STEP - 1e-6)), round(1 / STEP) + 1) * STEP
    return np.unique(np.round([lowest, *steps], 6))


def curve(linked: Linked, pairs: Pairs, thresholds: NDArray[np.float64], keep: Keep) -> Ints:
    """The number of dropped rows and of groups at each threshold, `[2, thresholds]`."""
    n, rank, counts = len(linked.place), _rank(linked, keep), list[tuple[int, int]]()
    for threshold in thresholds:
        leader, _ = _leaders(n, _above(pairs, threshold), rank)
        dropped = leader != np.arange(n)
        counts.append((int(dropped.sum()), len(np.unique(leader[dropped]))))
    return np.array(counts, np.int64).reshape(-1, 2).T


def _largest(n: int, pairs: Pairs, values: NDArray[Any]) -> NDArray[Any]:
    """The largest of the values, one for each pair, that each of `n` rows has; 0 for a row without a pair."""
    largest = np.zeros(n, values.dtype)
    for end in (pairs.a, pairs.b):
        np.maximum.at(largest, end, values)
    return largest


def between_splits(pairs: Pairs, split: NDArray[np.int32]) -> Pairs:
    """Pairs of rows in different splits; `split` `[n]` is the split of every row, negative without one.

    All rows with a duplicate in another split are in a pair. An exact copy is paired with the first copy of another
    split. Of other pairs, all copies of their rows in one split are represented by the first.
    """
    exact = pairs.kind > 0
    copies = _connected(len(split), pairs.a[exact], pairs.b[exact])
    row = np.flatnonzero(split >= 0)
    _, first = np.unique(np.stack([copies[row], split[row]]), axis=1, return_index=True)
    first = row[first]  # the first copy of each split, by copies
    number = np.bincount(copies[first], minlength=len(split))
    start = np.cumsum(number) - number
    row = row[number[copies[row]] > 1]
    other = first[start[copies[row]]]
    other = np.where(split[other] == split[row], first[np.minimum(start[copies[row]] + 1, len(first) - 1)], other)
    u, v = copies[pairs.a[~exact]], copies[pairs.b[~exact]]
    times = number[u] * number[v]
    near = np.repeat(np.arange(len(u)), times)
    within = np.arange(len(near)) - np.repeat(np.cumsum(times) - times, times)
    a, b = first[start[u[near]] + within // number[v[near]]], first[start[v[near]] + within % number[v[near]]]
    kind = _largest(len(split), pairs, pairs.kind)
    ends = np.concatenate([row, a]), np.concatenate([other, b])
    similarity = np.concatenate([np.ones(len(row), np.float32), pairs.similarity[~exact][near]])
    between = split[ends[0]] != split[ends[1]]
    kinds = np.concatenate([np.minimum(kind[row], kind[other]), np.zeros(len(near), np.int8)])
    return merged(Pairs(ends[0][between], ends[1][between], similarity[between], kinds[between]))


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
