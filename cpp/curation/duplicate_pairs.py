"""Near-duplicates within a cluster: exact copies, and all pairs with at least a given cosine (SemDeDup).

Abbas et al., "SemDeDup: Data-efficient learning at web-scale through semantic deduplication", 2023. Cosines of the
float16 vectors are computed in float32. A cluster is searched tile by tile, so no pair is missed, and memory is bounded
by two tiles and one pair per row. Knows no files.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cpp.curation.spanning_forest import Floats, Forest, Ints, Pairs, no_pairs
from cpp.nearest import pairs_from

KINDS = ("near", "vector", "bytes")  # kinds of duplicates, from the weakest to the strongest
TILE = 2048  # rows in each of the two factors of a matrix product


class Rows(NamedTuple):
    """Rows of several clusters, `[n]` each. A guest belongs to another cluster, and this is its second cluster.

    `vector` `[n, d]` may be memory-mapped. Rows with equal vectors, and no others, have equal `vector_id`. Equal files
    have equal `bytes_hash`, which is 0 for an unknown file.
    """

    cluster: NDArray[np.int32]
    guest: NDArray[np.bool_]
    vector_id: NDArray[np.int64]
    bytes_hash: NDArray[np.uint64]
    vector: NDArray[np.float16]


def duplicate_forest(rows: Rows, lowest: float) -> Pairs:
    """The maximum spanning forest of all pairs within a cluster whose cosine is at least `lowest`.

    A pair is a member of the cluster with another member or a guest. Exact copies are paired first, so that only one of
    several equal vectors is compared.
    """
    members_first = np.lexsort((rows.guest, rows.cluster))
    ends = np.flatnonzero(np.diff(rows.cluster[members_first])) + 1
    forests = [_cluster(rows, cluster, lowest) for cluster in np.split(members_first, ends) if len(cluster) > 1]
    a, b, similarity = (np.concatenate(parts) for parts in zip(no_pairs(), *forests, strict=True))
    return Pairs(a, b, np.minimum(similarity, np.float32(1)), kinds(rows, a, b))


def kinds(rows: Rows, a: Ints, b: Ints) -> NDArray[np.int8]:
    """The index into `KINDS` of pairs of rows."""
    same_bytes = (rows.bytes_hash[a] == rows.bytes_hash[b]) & (rows.bytes_hash[a] != 0)
    same_vector = rows.vector_id[a] == rows.vector_id[b]
    return np.where(same_bytes, 2, np.where(same_vector, 1, 0)).astype(np.int8)


def _cluster(rows: Rows, members_first: Ints, lowest: float) -> tuple[Ints, Ints, Floats]:
    """The forest of one cluster with these row numbers, the guests last."""
    vector_id = rows.vector_id[members_first]
    forest = Forest(len(members_first), lowest)
    forest.add(*_copies(vector_id, rows.bytes_hash[members_first]))
    forest.settle()
    distinct = np.sort(np.unique(vector_id, return_index=True)[1])
    members = int((~rows.guest[members_first[distinct]]).sum())
    for i in range(0, members, TILE):
        A = _unit(rows, members_first[distinct[i : min(i + TILE, members)]])
        for j in range(i, len(distinct), TILE):
            B = A if j == i and j + TILE <= members else _unit(rows, members_first[distinct[j : j + TILE]])
            a, b, similarity = pairs_from(A, B, lowest)
            ordered = i + a < j + b  # each pair in one direction, and no row with itself
            a, b = distinct[i + a[ordered]], distinct[j + b[ordered]]
            forest.add(a, b, np.minimum(similarity[ordered], np.float32(1)))
    forest.settle()
    return members_first[forest.a], members_first[forest.b], forest.similarity


def _copies(vector_id: NDArray[np.int64], bytes_hash: NDArray[np.uint64]) -> tuple[Ints, Ints, Floats]:
    """One pair for each row that repeats an earlier file or vector, with a similarity slightly above 1 to retain it."""
    known = np.flatnonzero(bytes_hash)
    by_bytes = known[_repeats(bytes_hash[known])]
    by_vector = _repeats(vector_id)
    a, b = np.concatenate([by_bytes, by_vector], axis=1)
    above = np.repeat([1 + 2**-20, 1 + 2**-21], [by_bytes.shape[1], by_vector.shape[1]]).astype(np.float32)
    _, first = np.unique(a * len(vector_id) + b, return_index=True)
    return a[first], b[first], above[first]


def _repeats(values: NDArray[np.integer]) -> Ints:
    """Pair the first row of each value with every later row of equal value, `[2, repeats]`."""
    _, first, of_row = np.unique(values, return_index=True, return_inverse=True)
    before = first[of_row]
    later = np.flatnonzero(before != np.arange(len(values)))
    return np.stack([before[later], later])


def _unit(rows: Rows, selected: Ints) -> Floats:
    X = rows.vector[selected].astype(np.float32)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return X
