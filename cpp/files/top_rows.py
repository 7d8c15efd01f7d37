"""The first rows of each group by a value, over batches, in bounded memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

PENDING = 1 << 18  # rows that wait until the best are looked for again


class TopRows:
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


class SmallestRows:
    """The `n` rows of each cluster with the least value, kept while batches of rows pass by."""

    def __init__(self, n: int) -> None:
        self.n = n
        self._kept: pa.Table | None = None

    def add(self, value: NDArray[np.floating], batch: pa.RecordBatch) -> None:
        """`value` `[m]` orders the rows of a batch with a column `cluster`. Of equal values the earlier row stays."""
        table = pa.Table.from_batches([batch]).append_column("value", pa.array(value))
        if self._kept is not None:
            table = pa.concat_tables([self._kept, table])
        cluster = table["cluster"].to_numpy()
        order = np.lexsort((np.arange(len(table)), table["value"].to_numpy(), cluster))
        ordered = cluster[order]
        rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
        self._kept = table.take(order[rank < self.n])

    def rows(self) -> list[dict[str, Any]]:
        return self._kept.to_pylist() if self._kept is not None else []
