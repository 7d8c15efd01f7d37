"""The first rows of each group by a value, over batches, in bounded memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

PENDING = 1 << 18  # rows buffered between two selections


class TopRows:
    """The `n` most confident rows of each cluster in a stream of rows; `n` may differ by cluster, `[n_clusters]`.

    Ties in confidence (NaN is lowest) go to the higher score, then to the lower lot, then to the earlier row.
    """

    def __init__(self, n: int | NDArray[np.int64], n_clusters: int) -> None:
        if isinstance(n, int) and n < 1:
            raise ValueError(f"per_cluster is {n}, must be at least 1")
        self.n = np.broadcast_to(n, n_clusters)
        self._least = np.full(
            (2, n_clusters), -np.inf
        )  # confidence and score of the last kept row of each full cluster
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
        """Add rows, `[m]` each, with ascending row numbers beyond those of earlier calls."""
        confidence = np.nan_to_num(confidence.astype(np.float64), nan=-1.0)
        score = score.astype(np.float64)
        least_confidence, least_score = self._least[:, cluster]
        equal = confidence == least_confidence
        keep = (confidence > least_confidence) | (equal & (score >= least_score))
        lots = np.zeros(len(row)) if lot is None else lot
        self._parts.append(np.stack([cluster, confidence, score, lots, row])[:, keep])
        self._pending += int(keep.sum())
        if self._pending > max(PENDING, int(self.n.sum())):
            self._parts, self._pending = [self._select()], 0

    def rows(self) -> NDArray[np.int64]:
        """The numbers of the kept rows, ascending."""
        return np.sort(self._select()[4].astype(np.int64)) if self._parts else np.empty(0, np.int64)

    def _select(self) -> NDArray[np.float64]:
        rows = np.concatenate(self._parts, axis=1)
        cluster, confidence, score, lot, row = rows
        rows = rows[:, np.lexsort((row, lot, -score, -confidence, cluster))]
        cluster = rows[0].astype(np.int64)
        rank = np.arange(len(cluster)) - np.searchsorted(cluster, cluster)
        last = rank == self.n[cluster] - 1
        self._least[:, cluster[last]] = rows[1:3, last]
        return rows[:, rank < self.n[cluster]]


class SmallestRows:
    """The `n` rows of each cluster with the smallest value in a stream of batches."""

    def __init__(self, n: int) -> None:
        self.n = n
        self._kept: pa.Table | None = None

    def add(self, value: NDArray[np.floating], batch: pa.RecordBatch) -> None:
        """Add a batch with a column `cluster`, ordered by `value` `[m]`; ties go to the earlier row."""
        table = pa.Table.from_batches([batch]).append_column("value", pa.array(value))
        if self._kept is not None:
            table = pa.concat_tables([self._kept, table])
        cluster = table["cluster"].to_numpy()
        order = np.lexsort((np.arange(len(table)), table["value"].to_numpy(), cluster))
        ordered = cluster[order]
        rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
        self._kept = table.take(order[rank < self.n])

    def rows(self) -> list[dict[str, Any]]:
        """The kept rows with their `value`, by cluster and value."""
        return self._kept.to_pylist() if self._kept is not None else []
