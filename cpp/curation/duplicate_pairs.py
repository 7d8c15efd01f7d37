"""Near-duplicates within a cell: exact copies, and all pairs with at least a given cosine (SemDeDup).

Abbas et al., "SemDeDup: Data-efficient learning at web-scale through semantic deduplication", 2023. Cosines of the
float16 vectors are computed in float32. Most pairs are ruled out by an upper bound of their cosine, the inner product
of two short unit rows: the projections of a vector to `DIRECTIONS` principal directions of its cell, and the length of
what these leave out (by the Cauchy-Schwarz inequality). The short rows are divided into blocks (`blocks.py`) in which
all pairs with a bound of at least the given cosine meet, so that none is missed. Memory is bounded by the short rows
and `LIMIT` pairs per row. Knows no files and no pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cpp.curation.blocks import Blocks
from cpp.curation.strongest_pairs import Floats, Ints, Pairs, StrongestPairs

KINDS = ("near", "vector", "bytes")  # kinds of duplicates, from the weakest to the strongest
BATCH = 2048  # rows that are projected at a time
DIRECTIONS = 96  # of the upper bound: a fifth of the dimensions of CLIP; tests/bench/RESULTS.md has the gain
SAMPLE = 4096  # rows of a cell from which the directions are computed
FEW = 0.01  # share of the pairs of a block up to which single cosines cost less than the whole product
SLACK = 1e-5  # added to the bound, against rounding
Check = Callable[[Ints, Ints], NDArray[np.bool_]]  # which pairs of row numbers are one picture


class Rows(NamedTuple):
    """Rows of several cells, `[n]` each. A guest belongs to another cell, but is near the border of this one.

    `vector` `[n, d]` may be memory-mapped. Rows with equal vectors, and no others, have equal `vector_id`. Equal files
    have equal `bytes_hash`, which is 0 for an unknown file.
    """

    cell: NDArray[np.int32]
    guest: NDArray[np.bool_]
    vector_id: NDArray[np.int64]
    bytes_hash: NDArray[np.uint64]
    vector: NDArray[np.float16]


def similar_pairs(rows: Rows, lowest: float, check: Check | None = None) -> Pairs:
    """The pairs within a cell whose cosine is at least `lowest` and which are one picture as far as `check` tells.

    A pair is a member of the cell with another member or a guest. Exact copies are paired with the first of them, which
    stands for all copies in other pairs, and are not checked. Of its other pairs a row keeps the strongest
    (`StrongestPairs`).
    """
    members_first = np.lexsort((rows.guest, rows.cell))
    ends = np.flatnonzero(np.diff(rows.cell[members_first])) + 1
    cells = [_cell(rows, cell, lowest, check) for cell in np.split(members_first, ends) if len(cell) > 1]
    empty = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    a, b, similarity = (np.concatenate(parts) for parts in zip(empty, *cells, strict=True))
    return Pairs(a, b, np.minimum(similarity, np.float32(1)), kinds(rows, a, b))


def kinds(rows: Rows, a: Ints, b: Ints) -> NDArray[np.int8]:
    """The index into `KINDS` of pairs of rows."""
    same_bytes = (rows.bytes_hash[a] == rows.bytes_hash[b]) & (rows.bytes_hash[a] != 0)
    same_vector = rows.vector_id[a] == rows.vector_id[b]
    return np.where(same_bytes, 2, np.where(same_vector, 1, 0)).astype(np.int8)


def _cell(rows: Rows, members_first: Ints, lowest: float, check: Check | None) -> tuple[Ints, Ints, Floats]:
    """The pairs of one cell with these row numbers, the guests last."""
    vector_id, bytes_hash = rows.vector_id[members_first], rows.bytes_hash[members_first]
    copies = _copies(vector_id, bytes_hash)
    strongest = StrongestPairs()
    distinct = np.sort(np.unique(vector_id, return_index=True)[1])
    selected = members_first[distinct]
    bounds = _bounds(rows, selected)
    blocks = Blocks(bounds, int((~rows.guest[selected]).sum()), lowest)
    for of_a, of_b in blocks:
        candidates = np.flatnonzero(bounds[of_a] @ bounds[of_b].T >= np.float32(lowest - SLACK))
        a, b = of_a[candidates // len(of_b)], of_b[candidates % len(of_b)]
        counted = blocks.counts_here(a, b)
        a, b = a[counted], b[counted]
        similarity = _cosines(rows, selected, a, b)
        similar = similarity >= np.float32(lowest)
        a, b, similarity = distinct[a[similar]], distinct[b[similar]], similarity[similar]
        new = (bytes_hash[a] != bytes_hash[b]) | (bytes_hash[a] == 0)  # the others are among the copies
        if check is not None:
            new[new] = check(members_first[a[new]], members_first[b[new]])
        strongest.add(a[new], b[new], similarity[new])
    near = strongest.pairs()
    a, b = (np.concatenate([copies[end], near[end]]) for end in (0, 1))
    return members_first[a], members_first[b], np.concatenate([copies[2], near[2]])


def _copies(vector_id: NDArray[np.int64], bytes_hash: NDArray[np.uint64]) -> tuple[Ints, Ints, Floats]:
    """One pair of similarity 1 for each row that repeats an earlier file or vector."""
    known = np.flatnonzero(bytes_hash)
    by_bytes = known[_repeats(bytes_hash[known])]
    a, b = np.unique(np.concatenate([by_bytes, _repeats(vector_id)], axis=1), axis=1)
    return a, b, np.ones(len(a), np.float32)


def _repeats(values: NDArray[np.integer]) -> Ints:
    """Pair the first row of each value with every later row of equal value, `[2, repeats]`."""
    _, first, of_row = np.unique(values, return_index=True, return_inverse=True)
    before = first[of_row]
    later = np.flatnonzero(before != np.arange(len(values)))
    return np.stack([before[later], later])


def _bounds(rows: Rows, selected: Ints) -> Floats:
    """Short unit rows `[n, DIRECTIONS + 1]` whose inner products are at least the cosines of the selected rows."""
    sample = _unit(rows, selected[:: max(1, len(selected) // SAMPLE)][:SAMPLE])
    directions = np.linalg.eigh(sample.T @ sample)[1][:, -DIRECTIONS:]
    parts = [np.empty((0, directions.shape[1] + 1), np.float32)]
    for start in range(0, len(selected), BATCH):
        X = _unit(rows, selected[start : start + BATCH])
        projections = X @ directions
        left_out = 1 - np.square(projections).sum(axis=1, keepdims=True)
        parts.append(np.concatenate([projections, np.sqrt(left_out.clip(0))], axis=1))
    return np.concatenate(parts)


def _cosines(rows: Rows, selected: Ints, a: Ints, b: Ints) -> Floats:
    """The cosines, `[n]`, of pairs `a` and `b` of the selected rows."""
    a_compared, i = np.unique(a, return_inverse=True)
    b_compared, j = np.unique(b, return_inverse=True)
    A, B = _unit(rows, selected[a_compared]), _unit(rows, selected[b_compared])
    if len(a) > FEW * len(A) * len(B):
        return np.asarray((A @ B.T)[i, j])
    return np.asarray(np.einsum("nd,nd->n", A[i], B[j]))


def _unit(rows: Rows, selected: Ints) -> Floats:
    X = rows.vector[selected].astype(np.float32)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return X
