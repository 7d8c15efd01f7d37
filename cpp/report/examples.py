"""The choice of members that stand for a cluster: typical, borderline and odd ones. Knows no files or pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from cpp.files.top_rows import SmallestRows

KINDS = {"typical": 8, "borderline": 4, "odd": 4}  # members of a cluster that are shown, at most
SHOWN = 100_000  # members of all clusters together, approximately
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

    Typical members have the highest scores and are at most half of a cluster; borderline ones have the smallest
    margins, odd ones the lowest scores. A member is chosen for one kind only. `rank` is 0 for the most extreme one.
    """
    limits = {kind: _share(n, n_clusters) for kind, n in KINDS.items()}
    candidates = sum(limits.values())  # of each kind, so that enough are left if a member is extreme in several ways
    kept = {kind: SmallestRows(candidates) for kind in KINDS}
    seen = 0
    for batch in batches:
        rows = np.arange(seen, seen := seen + len(batch))
        numbered = batch.append_column("row", pa.array(rows))
        score, margin = batch["score"].to_numpy(), batch["margin"].to_numpy()
        for kind, value in zip(KINDS, (-score, margin, score), strict=True):
            kept[kind].add(value, numbered)
    return pa.Table.from_pylist(list(_once(kept, limits)), EXAMPLES)


def _share(n: int, n_clusters: int) -> int:
    return max(1, min(n, n * SHOWN // (sum(KINDS.values()) * max(n_clusters, 1))))


def _once(kept: dict[str, SmallestRows], limits: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Rows of EXAMPLES, in which no member occurs twice."""
    taken: set[int] = set()
    counts = Counter[tuple[int, str]]()
    sizes = Counter(row["cluster"] for row in kept["typical"].rows())  # all members of a small cluster
    for kind, extremes in kept.items():
        for row in extremes.rows():
            cluster, rank = row["cluster"], counts[row["cluster"], kind]
            limit = min(limits[kind], (sizes[cluster] + 1) // 2) if kind == "typical" else limits[kind]
            if row["row"] not in taken and rank < limit:
                taken.add(row["row"])
                counts[cluster, kind] += 1
                yield {**{name: row.get(name) for name in EXAMPLES.names}, "kind": kind, "rank": rank}
