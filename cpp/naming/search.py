"""Finds the images and clusters nearest to a text, in the space that image vectors and words share.

Knows no run folder and no text tower: the text is given as its vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cpp.files.tables import align_batches, batches, matrix
from cpp.files.top_rows import SmallestRows
from cpp.naming.votes import ClusterSums


def nearest_images(
    features: Sequence[str],
    assignments: Sequence[str],
    column: str,
    text_d: NDArray[np.floating],
    n: int,
    prefetch: int,
) -> list[dict[str, Any]]:
    """The `n` images with the largest cosine to a unit vector: `key`, `cosine`, `image_shard`, and `in_cluster`.

    One pass over FEATURES and ASSIGNMENTS of the same shards; memory does not grow with the files. ValueError if the
    dimensions differ.
    """
    least = SmallestRows(n)
    streams = (batches(features, ["key", column], prefetch), batches(assignments, ["cluster", "image_shard"], prefetch))
    for batch, assigned in align_batches(*streams):
        X = matrix(batch[column]).astype(np.float32)
        if X.shape[1] != len(text_d):
            raise ValueError(f"the images have dimension {X.shape[1]}, the text {len(text_d)}")
        cosine = X @ text_d.astype(np.float32)
        rows = {"cluster": np.zeros(len(X), np.int32), "key": batch["key"], "cosine": cosine}
        rows |= {"in_cluster": assigned["cluster"], "image_shard": assigned["image_shard"]}
        least.add(-cosine, pa.record_batch(rows))
    return least.rows()


def nearest_clusters(sums: ClusterSums, text_d: NDArray[np.floating], n: int) -> list[tuple[int, float, float]]:
    """The `n` clusters with the largest mean cosine to a unit vector: number, mean cosine of the images, and the same
    minus the mean cosine of all images."""
    filled = np.flatnonzero(sums.count_k)
    mean = sums.sum_kd[filled] @ text_d / sums.count_k[filled]
    overall = float(sums.sum_kd.sum(0) @ text_d / sums.count_k.sum())
    order = np.argsort(-mean, kind="stable")[:n]
    return [(int(filled[i]), float(mean[i]), float(mean[i]) - overall) for i in order]
