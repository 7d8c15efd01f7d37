"""Near-duplicates within a cluster: exact copies, and all pairs with at least a given cosine (SemDeDup).

Abbas et al., "SemDeDup: Data-efficient learning at web-scale through semantic deduplication", 2023. Cosines of the
float16 vectors are computed in float32. A cluster is searched tile by tile, so no pair is missed, and memory is bounded
by two tiles and one pair per row. Knows no files.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cpp.curation.spanning_forest import Floats, Forest, Ints
from cpp.nearest import pairs_from

KINDS = ("near", "vector", "bytes")  # kinds of duplicates, from the weakest to the strongest
HASHED = 4096  # rows that are hashed at a time
TILE = 2048  # rows in each of the two factors of a matrix product


class Rows(NamedTuple):
    """Rows of several clusters, `[n]` each. A guest belongs to another cluster, and this is its second cluster.

    `vector` `[n, d]` may be memory-mapped. Equal vectors have equal `vector_hash`. Equal files have equal
    `bytes_hash`, which is 0 for an unknown file.
    """

    cluster: NDArray[np.int32]
    guest: NDArray[np.bool_]
    vector_hash: NDArray[np.uint64]
    bytes_hash: NDArray[np.uint64]
    vector: NDArray[np.float16]


class Pairs(NamedTuple):
    """Pairs of rows `a` and `b`, the cosine of their vectors (1 for exact copies), and the index into `KINDS`."""

    a: Ints
    b: Ints
    similarity: Floats
    kind: NDArray[np.int8]


def duplicate_forest(rows: Rows, lowest: float) -> Pairs:
    """The maximum spanning forest of all pairs within a cluster whose cosine is at least `lowest`.

    A pair is a member of the cluster with another member or a guest. Exact copies are paired first, so that only one of
    several equal vectors is compared.
    """
    order = np.argsort(rows.cluster, kind="stable")
    ends = np.flatnonzero(np.diff(rows.cluster[order])) + 1
    forests = [_cluster(rows, np.sort(of_one), lowest) for of_one in np.split(order, ends) if len(of_one) > 1]
    a, b = (np.concatenate([np.empty(0, np.int64), *(forest[i] for forest in forests)]) for i in (0, 1))
    similarity = np.concatenate([np.empty(0, np.float32), *(forest[2] for forest in forests)])
    return Pairs(a, b, np.minimum(similarity, np.float32(1)), kinds(rows, a, b))


def kinds(rows: Rows, a: Ints, b: Ints) -> NDArray[np.int8]:
    """The index into `KINDS` of pairs of rows."""
    same_bytes = (rows.bytes_hash[a] == rows.bytes_hash[b]) & (rows.bytes_hash[a] != 0)
    same_vector = rows.vector_hash[a] == rows.vector_hash[b]
    return np.where(same_bytes, 2, np.where(same_vector, 1, 0)).astype(np.int8)


def _cluster(rows: Rows, of_one: Ints, lowest: float) -> tuple[Ints, Ints, Floats]:
    """The forest of one cluster with the row numbers `of_one`."""
    members_first = of_one[np.argsort(rows.guest[of_one], kind="stable")]
    forest = Forest(len(members_first), lowest)
    vector_hash = rows.vector_hash[members_first]
    forest.add(*_copies(vector_hash, rows.bytes_hash[members_first]))
    forest.settle()
    distinct = np.sort(np.unique(vector_hash, return_index=True)[1])
    members = int((distinct < len(members_first) - rows.guest[members_first].sum()).sum())
    for i in range(0, members, TILE):
        A = _unit(rows, members_first[distinct[i : min(i + TILE, members)]])
        for j in range(i, len(distinct), TILE):
            B = A if j == i and j + TILE <= members else _unit(rows, members_first[distinct[j : j + TILE]])
            a, b, similarity = pairs_from(A, B, lowest)
            once = i + a < j + b
            a, b = distinct[i + a[once]], distinct[j + b[once]]
            forest.add(a, b, np.minimum(similarity[once], np.float32(1)))
    forest.settle()
    return members_first[forest.a], members_first[forest.b], forest.similarity


def _copies(vector_hash: NDArray[np.uint64], bytes_hash: NDArray[np.uint64]) -> tuple[Ints, Ints, Floats]:
    """One pair for each row that repeats an earlier file or vector, with a similarity slightly above 1 to retain it."""
    known = np.flatnonzero(bytes_hash)
    by_bytes = known[_repeats(bytes_hash[known])]
    by_vector = _repeats(vector_hash)
    a, b = np.concatenate([by_bytes, by_vector], axis=1)
    above = np.repeat([1 + 2**-20, 1 + 2**-21], [by_bytes.shape[1], by_vector.shape[1]]).astype(np.float32)
    _, first = np.unique(a * len(vector_hash) + b, return_index=True)
    return a[first], b[first], above[first]


def _repeats(values: NDArray[np.uint64]) -> Ints:
    """Pair the first row of each value with every later row of equal value, `[2, repeats]`."""
    _, first, of_row = np.unique(values, return_index=True, return_inverse=True)
    before = first[of_row]
    later = np.flatnonzero(before != np.arange(len(values)))
    return np.stack([before[later], later])


def _unit(rows: Rows, selected: Ints) -> Floats:
    X = rows.vector[selected].astype(np.float32)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return X


def hash_vectors(X_nd: NDArray[np.float16]) -> NDArray[np.uint64]:
    """A 64-bit hash of each row `[n, d]`: a multilinear hash with the finaliser of MurmurHash3."""
    return np.concatenate(
        [_hash_block(X_nd[i : i + HASHED]) for i in range(0, len(X_nd), HASHED)] or [np.empty(0, np.uint64)]
    )


def _hash_block(X_nd: NDArray[np.float16]) -> NDArray[np.uint64]:
    words = np.ascontiguousarray(X_nd).view(np.uint16).astype(np.uint64)
    factors = np.random.default_rng(0).integers(1 << 63, size=words.shape[1], dtype=np.uint64) * np.uint64(2)
    h: NDArray[np.uint64] = (words * (factors + np.uint64(1))).sum(axis=1, dtype=np.uint64)
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        h = (h ^ (h >> np.uint64(33))) * np.uint64(factor)
    return h ^ (h >> np.uint64(33))
