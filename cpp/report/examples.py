"""Which members of every cluster a person is shown: typical, borderline and odd ones. Knows no files or pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from cpp.files.top_rows import SmallestRows

KINDS = {"typical": 8, "borderline": 4, "odd": 4}  # members of a cluster that are shown, at most
SHOWN = 100_000  # members of all clusters together, about
COLUMNS = ("cluster", "score", "margin", "key", "image_shard")  # of ASSIGNMENTS
EXAMPLES = pa.schema(
    [
        ("cluster", pa.int32()),
        ("kind", pa.string()),
        ("rank", pa.int32()),
        ("key", pa.string()),
        ("score", pa.float32()),
        ("margin", pa.float32()),
        ("image_shard", pa.string()),
    ]
)


def choose(batches: Iterable[pa.RecordBatch], n_clusters: int) -> pa.Table:
    """EXAMPLES of `n_clusters` clusters from batches of ASSIGNMENTS with `COLUMNS`, in one pass.

    Typical members have the highest score, and are at most half of a cluster; borderline ones have the least margin,
    odd ones the least score. A member is shown once. `rank` counts from 0, the most so first.
    """
    many = {kind: _share(n, n_clusters) for kind, n in KINDS.items()}
    enough = sum(many.values())  # of each kind, so that enough are left where a member is of several
    kept = {kind: SmallestRows(enough) for kind in KINDS}
    seen = 0
    for batch in batches:
        rows = np.arange(seen, seen := seen + len(batch))
        numbered = batch.append_column("row", pa.array(rows))
        score, margin = batch["score"].to_numpy(), batch["margin"].to_numpy()
        for kind, value in zip(KINDS, (-score, margin, score), strict=True):
            kept[kind].add(value, numbered)
    return pa.Table.from_pylist(list(_once(kept, many)), EXAMPLES)


def _share(n: int, n_clusters: int) -> int:
    return max(1, min(n, n * SHOWN // (sum(KINDS.values()) * max(n_clusters, 1))))


def _once(kept: dict[str, SmallestRows], many: dict[str, int]) -> Iterator[dict[str, Any]]:
    taken: set[int] = set()
    counts: dict[tuple[int, str], int] = {}
    sizes: dict[int, int] = {}
    for row in kept["typical"].rows():  # all members of a cluster, where it has few
        sizes[row["cluster"]] = sizes.get(row["cluster"], 0) + 1
    for kind, least in kept.items():
        for row in least.rows():
            cluster, rank = row["cluster"], counts.get((row["cluster"], kind), 0)
            most = min(many[kind], (sizes[cluster] + 1) // 2) if kind == "typical" else many[kind]
            if row["row"] not in taken and rank < most:
                taken.add(row["row"])
                counts[cluster, kind] = rank + 1
                yield {**{name: row.get(name) for name in EXAMPLES.names}, "kind": kind, "rank": rank}
