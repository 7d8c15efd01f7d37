"""Copies and near-copies among feature rows, which count once wherever K is chosen. Knows no pictures and no files.

A picture that is there a thousand times is no class of a thousand images: its copies would be one another's nearest
neighbours, and their distances would pass for the noise of the data. Every row is still assigned to a cluster.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpp.nearest import closest_rows

COPY = 1e-6  # squared distance of two copies, as a share of the spread: rounding errors of vectors, float16 included
NEAR = 0.02  # that of near-copies: about a cosine of 0.995 in CLIP features, which re-encoded pictures reach
STEP = 4.0  # factor between the limits that are tried
CLEAR = 16.0  # the median distinct row must be this many times farther from the next one, squared, than near-copies are
ALONE = 0.1  # least share of rows without near-copies; with fewer, tight clusters could be taken for near-copies
SPREAD = 0.9  # quantile of the squared distances to the median row: neither copies nor outliers decide it
CANDIDATES = 8  # nearest rows that are compared with a row at a time

Rows = NDArray[np.int64]


class Distinct(NamedTuple):
    """`rows` `[m]`, ascending, are the rows that represent all; `rows[of[i]]` represents row i of `of` `[n]`."""

    rows: Rows
    of: Rows

    @property
    def repeated(self) -> Rows:
        """The indices into `rows` of those that represent several rows."""
        return np.flatnonzero(np.bincount(self.of) > 1)


class _Search(NamedTuple):
    """Pairs of rows that are near each other, and the squared distance of each row to the nearest other row."""

    earlier: Rows
    later: Rows
    squared: NDArray[np.float32]
    nearest: NDArray[np.float32]


def distinct_rows(X_nD: Tensor, gpu: bool = False) -> Distinct:
    """Find the rows that are no copies of earlier ones, in O(n) memory. Rows must be finite.

    A row is a copy of an earlier row if their squared distance is at most `COPY` times the spread of the rows. It is a
    near-copy up to the largest limit, `NEAR` times the spread or less, at which near-copies stand out: most of the
    remaining rows have none, and are much farther from each other (`ALONE`, `CLEAR`).
    """
    X = X_nD.to(torch.float32)
    leader = _equal(X)
    different = np.unique(leader)
    if len(different) > 1:
        X = X - X[different].median(0).values
        X = X / X.abs().max()  # squares of small numbers would be 0
        spread = float(np.quantile(X[different].square().sum(1).numpy(), SPREAD))
        leader, search = _follow(X, leader, COPY * spread, NEAR * spread, gpu)
        limit = NEAR * spread
        while limit > COPY * spread:
            close, remaining = _follow(X, leader, limit, NEAR * spread, gpu, search)
            if _stand_out(leader, close, remaining, limit):
                leader = close
                break
            limit /= STEP
    rows, of = np.unique(leader, return_inverse=True)
    return Distinct(rows, of)


def _equal(X: Tensor) -> Rows:
    """The first row that is equal to each row, `[n]`."""
    as_bytes = np.ascontiguousarray((X + 0.0).numpy()).view(np.dtype((np.void, 4 * X.shape[1]))).ravel()
    _, first, of = np.unique(as_bytes, return_index=True, return_inverse=True)
    return np.asarray(first[of], np.int64)


def _follow(
    X: Tensor, leader: Rows, limit: float, furthest: float, gpu: bool, search: _Search | None = None
) -> tuple[Rows, _Search]:
    """Let every row follow the first leader within `limit`, until no two leaders are that near."""
    while True:
        leaders = np.unique(leader)
        search = search or _pairs(X[leaders], furthest, gpu)
        near = search.squared <= limit
        if not near.any():
            return leader, search
        follows = np.arange(len(leaders))
        for later, earlier in sorted(zip(search.later[near].tolist(), search.earlier[near].tolist(), strict=True)):
            if follows[later] == later and follows[earlier] == earlier:
                follows[later] = earlier
        leader, search = leaders[follows][np.searchsorted(leaders, leader)], None


def _pairs(X: Tensor, furthest: float, gpu: bool) -> _Search:
    """Pairs of rows among their `CANDIDATES` nearest, up to the squared distance `furthest`."""
    if len(X) < 2:
        return _Search(*(np.zeros(0, np.int64),) * 2, *(np.zeros(0, np.float32),) * 2)
    squared, near = closest_rows(X.numpy(), min(CANDIDATES, len(X) - 1), gpu)
    row, column = np.nonzero(squared <= 2 * furthest)  # these distances are inexact
    other = near[row, column]
    pairs = np.unique(np.stack([np.minimum(row, other), np.maximum(row, other)]), axis=1)
    blocks = np.array_split(pairs, max(1, pairs.shape[1] // 8192), axis=1)
    exact = [(X[low] - X[high]).square().sum(1).numpy() for low, high in blocks]
    return _Search(pairs[0], pairs[1], np.concatenate(exact), squared[:, 0])


def _stand_out(leader: Rows, close: Rows, search: _Search, limit: float) -> bool:
    """Whether the near-copies that follow `close` are other than the members of tight clusters."""
    members = np.bincount(np.unique(close, return_inverse=True)[1][np.unique(leader)])
    alone = int((members == 1).sum())
    enough = alone >= max(len(members) / 2, ALONE * members.sum())
    return bool(enough and len(search.nearest) and np.median(search.nearest) >= CLEAR * limit)
