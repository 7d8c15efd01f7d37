"""The first rows of each group by a value, over batches, in bounded memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

PENDING = 1 << 18  # rows buffered between two selections


class SmallestRows:
    """The `n` rows of each cluster with the smallest values in a stream; `n` may differ by cluster, `[n_clusters]`."""

    def __init__(self, n: int | NDArray[np.int64]) -> None:
        if isinstance(n, int) and n < 1:
            raise ValueError(f"the number of rows of each cluster is {n}, must be at least 1")
        self.n = n
        self._tables: list[pa.Table] = []
        self._kept = 0  # rows after the last selection
        self._limit = np.array([np.inf])  # value of the last kept row of each full cluster, and of all others

    def add(self, value: NDArray[np.floating], batch: pa.RecordBatch, *ties: NDArray[np.floating]) -> None:
        """Add a batch with a column `cluster`, ordered by `value` `[m]`, where NaN is the largest.

        Ties are decided by the smallest of `ties`, `[m]` each, in order, then in favour of the earlier row.
        """
        cluster = np.minimum(batch["cluster"].to_numpy(), len(self._limit) - 1)
        keep = ~(value > self._limit[cluster])
        table = pa.Table.from_batches([batch]).append_column("value", pa.array(value))
        for i, tie in enumerate(ties):
            table = table.append_column(f"tie_{i}", pa.array(tie))
        self._tables.append(table if keep.all() else table.filter(keep))
        if sum(map(len, self._tables)) > max(PENDING, 2 * self._kept):
            self._tables = [self._select()]
            self._kept = len(self._tables[0])

    def table(self) -> pa.Table | None:
        """The kept rows with their `value`, by cluster and value; None if no batch was added."""
        return self._select() if self._tables else None

    def column(self, name: str) -> NDArray[Any]:
        """A column of the kept rows, by cluster and value."""
        return self._select()[name].to_numpy() if self._tables else np.empty(0, np.int64)

    def rows(self) -> list[dict[str, Any]]:
        """The kept rows with their `value`, by cluster and value."""
        return self._select().to_pylist() if self._tables else []

    def _select(self) -> pa.Table:
        table = pa.concat_tables(self._tables)
        cluster = table["cluster"].to_numpy()
        keys = [table[name].to_numpy() for name in table.column_names if name == "value" or name.startswith("tie_")]
        order = np.lexsort((*reversed(keys), cluster))
        cluster, value = cluster[order], keys[0][order]
        rank = np.arange(len(order)) - np.searchsorted(cluster, cluster)
        n = np.broadcast_to(self.n, len(order)) if isinstance(self.n, int) else self.n[cluster]
        self._limit = np.full(int(cluster.max(initial=-1)) + 2, np.inf)
        self._limit[cluster[rank == n - 1]] = value[rank == n - 1]
        return table.take(order[rank < n])
