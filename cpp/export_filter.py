"""Which images are exported: those of some clusters, of some confidence, at most n of a cluster. Knows no files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PENDING = 1 << 18  # rows that wait until the best are looked for again


@dataclass(frozen=True)
class Filter:
    """`clusters` of the exported layer, None for all; `min_confidence` from 0 to 1; at most `per_cluster` images."""

    clusters: frozenset[int] | None = None
    min_confidence: float | None = None
    per_cluster: int | None = None


class Passed(NamedTuple):
    """Which rows pass, `[n]`, and how many do not, by reason."""

    keep: NDArray[np.bool_]
    left_out: Counter[str]


def passing(
    cluster: NDArray[np.integer],
    confidence: NDArray[np.floating],
    wanted: Filter,
    dropped: Mapping[str, NDArray[np.int64]] | None = None,
) -> Passed:
    """Rows by cluster `[n]` and confidence `[n]`, NaN where it is not known. Knows nothing of `per_cluster`.

    `dropped` are the rows that curation took out, by reason; that is looked at first.
    """
    keep, left_out = np.ones(len(cluster), np.bool_), Counter[str]()
    for reason, rows in (dropped or {}).items():
        keep[rows] = False
        left_out[f"dropped by curation: {reason}"] += len(rows)
    if wanted.clusters is not None:
        other = keep & ~np.isin(cluster, list(wanted.clusters))
        left_out["of a cluster that was not asked for"] += int(other.sum())
        keep &= ~other
    if wanted.min_confidence is not None:
        low = keep & ~(confidence >= wanted.min_confidence)
        left_out[f"of a confidence below {wanted.min_confidence:g}, or without one"] += int(low.sum())
        keep &= ~low
    return Passed(keep, +left_out)


class Best:
    """The surest rows of each cluster, `n` of it or `[n_clusters]`, kept while rows pass by.

    Of equal confidence (NaN is the least) the higher score comes first, of equal scores the lower lot, then the earlier
    row.
    """

    def __init__(self, n: int | NDArray[np.int64], n_clusters: int) -> None:
        if isinstance(n, int) and n < 1:
            raise ValueError(f"per_cluster is {n}, must be at least 1")
        self.n = np.broadcast_to(n, n_clusters)
        self._least = np.full((2, n_clusters), -np.inf)  # what the last of n rows has
        self._least[:, self.n == 0] = np.inf
        self._parts: list[NDArray[np.float64]] = []
        self._pending = 0

    def add(
        self,
        row: NDArray[np.int64],
        cluster: NDArray[np.integer],
        confidence: NDArray[np.floating],
        score: NDArray[np.floating],
        lot: NDArray[np.floating] | None = None,
    ) -> None:
        """Rows of ascending number, each `[m]`, after those before."""
        sure = np.nan_to_num(confidence.astype(np.float64), nan=-1.0)
        score = score.astype(np.float64)
        least_sure, least_score = self._least[:, cluster]
        keep = (sure > least_sure) | ((sure == least_sure) & (score >= least_score))
        lots = np.zeros(len(row)) if lot is None else lot
        self._parts.append(np.stack([cluster, sure, score, lots, row])[:, keep])
        self._pending += int(keep.sum())
        if self._pending > max(PENDING, int(self.n.sum())):
            self._parts, self._pending = [self._best()], 0

    def rows(self) -> NDArray[np.int64]:
        """The numbers of the rows that are kept, ascending."""
        return np.sort(self._best()[4].astype(np.int64)) if self._parts else np.empty(0, np.int64)

    def _best(self) -> NDArray[np.float64]:
        found = np.concatenate(self._parts, axis=1)
        cluster, sure, score, lot, row = found
        found = found[:, np.lexsort((row, lot, -score, -sure, cluster))]
        cluster = found[0].astype(np.int64)
        rank = np.arange(len(cluster)) - np.searchsorted(cluster, cluster)
        last = rank == self.n[cluster] - 1
        self._least[:, cluster[last]] = found[1:3, last]
        return found[:, rank < self.n[cluster]]
