"""The members of clusters that the pages list, by picture or by key. Knows no files and no pages."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cpp.files.top_rows import SmallestRows

PICTURES = 20_000  # members of all clusters together that are shown by a picture, at most
KEYS = 200_000  # members of all clusters together that are listed, at most
COLUMNS = ("cluster", "score", "margin", "key", "image_shard")  # of ASSIGNMENTS
MEMBERS = pa.schema(
    [
        ("cluster", pa.int32()),
        ("key", pa.string()),
        ("score", pa.float32()),
        ("margin", pa.float32()),
        ("image_shard", pa.string()),
        ("picture", pa.bool_()),
    ]
)


def level(sizes: NDArray[np.int64], budget: int) -> int:
    """The largest number of members of each cluster, `[K]` in all, whose total is within the budget; at least 1.

    A cluster of fewer members leaves its part to the larger ones.
    """
    low, high = 1, max(int(sizes.max(initial=1)), 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if int(np.minimum(sizes, middle).sum()) <= budget else (low, middle - 1)
    return low


def choose(batches: Iterable[pa.RecordBatch], sizes: NDArray[np.int64]) -> pa.Table:
    """MEMBERS of clusters of these sizes `[K]`, from batches of ASSIGNMENTS with `COLUMNS`, in one pass.

    They are in the order of clusters, the highest scores first; `picture` tells those that are shown by a picture.
    """
    kept, pictures = SmallestRows(level(sizes, KEYS)), level(sizes, PICTURES)
    for batch in batches:
        kept.add(-batch["score"].to_numpy(), batch)
    rows = kept.table()
    if rows is None:
        return MEMBERS.empty_table()
    cluster = rows["cluster"].to_numpy()
    rank = np.arange(len(cluster)) - np.searchsorted(cluster, cluster)
    return rows.append_column("picture", pa.array(rank < pictures)).select(MEMBERS.names).cast(MEMBERS)
