"""Near-duplicates among the members of a cluster: exact copies, then every pair from a cosine on (SemDeDup).

Abbas et al., "SemDeDup: Data-efficient learning at web-scale through semantic deduplication", 2023. Cosines are those
of the float16 vectors, computed in float32. A cluster is searched tile against tile, so that no pair is lost however
large it is, and memory is that of two tiles and a pair for each row. Knows no files.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cpp.curation.spanning_forest import Forest
from cpp.nearest import pairs_from

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
KINDS = ("near", "vector", "bytes")  # why two rows are one, from the weakest to the strongest
HASHED = 4096  # rows hashed at a time
TILE = 2048  # rows that are multiplied with as many others


class Rows(NamedTuple):
    """Rows of some clusters, `[n]` each. A guest is a row of another cluster whose second cluster is this one.

    `vector` `[n, d]` may lie on disk; `vector_hash` and `bytes_hash` are equal for equal vectors and equal files, 0
    where the file is not known.
    """

    cluster: NDArray[np.int32]
    guest: NDArray[np.bool_]
    vector_hash: NDArray[np.uint64]
    bytes_hash: NDArray[np.uint64]
    vector: NDArray[np.float16]


class Pairs(NamedTuple):
    """Rows `a` and `b` with the cosine of their vectors, 1 of exact copies, and the place of their kind in `KINDS`."""

    a: Ints
    b: Ints
    similarity: Floats
    kind: NDArray[np.int8]


def duplicate_forest(rows: Rows, lowest: float) -> Pairs:
    """A maximum spanning forest (`cpp.curation.spanning_forest`) of all pairs within a cluster of a cosine of at
    least `lowest`.

    A pair has a member of the cluster and a member or a guest. Exact copies are looked for first, so that of equal
    vectors only one is compared.
    """
    order = np.argsort(rows.cluster, kind="stable")
    ends = np.flatnonzero(np.diff(rows.cluster[order])) + 1
    found = [_cluster(rows, np.sort(of_one), lowest) for of_one in np.split(order, ends) if len(of_one) > 1]
    a, b = (np.concatenate([np.empty(0, np.int64), *(f[i] for f in found)]) for i in (0, 1))
    similarity = np.concatenate([np.empty(0, np.float32), *(f[2] for f in found)])
    return Pairs(a, b, np.minimum(similarity, np.float32(1)), kinds(rows, a, b))


def kinds(rows: Rows, a: Ints, b: Ints) -> NDArray[np.int8]:
    """The place in `KINDS` of pairs of rows."""
    same_bytes = (rows.bytes_hash[a] == rows.bytes_hash[b]) & (rows.bytes_hash[a] != 0)
    same_vector = rows.vector_hash[a] == rows.vector_hash[b]
    return np.where(same_bytes, 2, np.where(same_vector, 1, 0)).astype(np.int8)


def _cluster(rows: Rows, of_one: Ints, lowest: float) -> tuple[Ints, Ints, Floats]:
    """The forest of one cluster, whose rows are `of_one`."""
    mine = of_one[np.argsort(rows.guest[of_one], kind="stable")]  # members first
    forest = Forest(len(mine), lowest)
    vector_hash = rows.vector_hash[mine]
    forest.add(*_copies(vector_hash, rows.bytes_hash[mine]))
    forest.settle()
    different = np.sort(np.unique(vector_hash, return_index=True)[1])
    members = int((different < len(mine) - rows.guest[mine].sum()).sum())
    for i in range(0, members, TILE):
        A = _unit(rows, mine[different[i : min(i + TILE, members)]])
        for j in range(i, len(different), TILE):
            B = A if j == i and j + TILE <= members else _unit(rows, mine[different[j : j + TILE]])
            a, b, similarity = pairs_from(A, B, lowest)
            once = i + a < j + b
            a, b = different[i + a[once]], different[j + b[once]]
            forest.add(a, b, np.minimum(similarity[once], np.float32(1)))
    forest.settle()
    return mine[forest.a], mine[forest.b], forest.similarity


def _copies(vector_hash: NDArray[np.uint64], bytes_hash: NDArray[np.uint64]) -> tuple[Ints, Ints, Floats]:
    """A pair for each row that repeats the file or the vector of one before it, a little above 1 so that it is kept."""
    known = np.flatnonzero(bytes_hash)
    by_bytes = known[_repeats(bytes_hash[known])]
    by_vector = _repeats(vector_hash)
    a, b = np.concatenate([by_bytes, by_vector], axis=1)
    above = np.repeat([1 + 2**-20, 1 + 2**-21], [by_bytes.shape[1], by_vector.shape[1]]).astype(np.float32)
    _, first = np.unique(a * len(vector_hash) + b, return_index=True)
    return a[first], b[first], above[first]


def _repeats(values: NDArray[np.uint64]) -> Ints:
    """The first row of each value and a later one that has it, `[2, repeats]`."""
    _, first, of_row = np.unique(values, return_index=True, return_inverse=True)
    before = first[of_row]
    later = np.flatnonzero(before != np.arange(len(values)))
    return np.stack([before[later], later])


def _unit(rows: Rows, some: Ints) -> Floats:
    X = rows.vector[some].astype(np.float32)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return X


def hash_vectors(X_nd: NDArray[np.float16]) -> NDArray[np.uint64]:
    """A 64-bit hash of each row `[n, d]`: multilinear, then mixed so that every bit depends on all (the end of
    MurmurHash3)."""
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
