"""Measures of each cluster, and warnings about collapsed clusterings. Knows no files and no labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from cpp.rate_reduction.coding_rate import Moments

SMALL = 0.05  # cosine; a member with a smaller margin could equally belong to the next cluster
LARGE = 0.5  # share of the images in one cluster above which a warning is given


def effective_rank(gram_dd: Tensor) -> float:
    """exp of the entropy of the eigenvalues of a Gram matrix, scaled to sum 1: from 1 (a line) to d (all directions).

    Roy and Vetterli, "The effective rank", EUSIPCO 2007, on the second moments.
    """
    import torch

    values = torch.linalg.eigvalsh(gram_dd.to(torch.float64)).clamp_min(0)
    return float(torch.special.entr(values / values.sum()).sum().exp())


class Measures(NamedTuple):
    """Measures of every cluster, `[K]` each.

    `coding_rate` in nats per image, at the distortion of the run; `effective_rank`; `rate_share`, the cluster's part of
    the rate reduction; `nearest`, the cluster with the most similar directions (-1 without another), and `overlap`, the
    cosine of the two Gram matrices about the mean of all images.
    """

    coding_rate: NDArray[np.float64]
    effective_rank: NDArray[np.float64]
    rate_share: NDArray[np.float64]
    nearest: NDArray[np.int64]
    overlap: NDArray[np.float64]


def measures(moments: Moments, e: float) -> Measures:
    """Measures of clusters from their moments. A cluster without rows has rate, rank and share 0."""
    import torch

    from cpp.clustering.merge_tree import affinity

    total = moments.merge_runs(len(moments.count_K))
    rate = moments.coding_rate(e)
    gain = moments.count_K * (total.coding_rate(e) - rate)
    grams = zip(moments.count_K, moments.gram_Kdd, strict=True)
    rank = torch.tensor([effective_rank(G) if n else 0.0 for n, G in grams], dtype=torch.float64)
    mean = total.sum_Kd[0] / total.count_K.clamp_min(1)
    similarity = affinity(moments.centred_at(mean)).fill_diagonal_(-1)
    overlap, nearest = similarity.max(dim=1)
    nearest, overlap = nearest.masked_fill(overlap < 0, -1), overlap.clamp_min(0).to(torch.float64)
    share = gain / gain.sum().clamp_min(1e-12)
    return Measures(*(measure.numpy() for measure in (rate, rank, share, nearest, overlap)))


def warnings(moments: Moments, sizes: Sequence[int], method: str) -> list[str]:
    """Sentences about collapsed codes, and about clusters that are too large or empty.

    `moments` are those of the clusters, which count copies once, `sizes` their numbers of images, and `method` that of
    the partition, "kmeans" or "spectral".
    """
    total, K, d = sum(sizes), len(sizes), moments.gram_Kdd.shape[-1]
    sentences = []
    rank = effective_rank(moments.gram_Kdd.sum(0))
    if rank < min(K, d) / 4:
        sentences.append(
            f"The codes have collapsed: their effective rank is {rank:.1f} for {K} clusters, which mean little. "
            "With fit.recipe paper, raise fit.warmup_steps or lower fit.gamma."
        )
    if total and max(sizes) > LARGE * total and K > 2:
        sentences.append(_large(moments, sizes, method))
    if empty := sum(size == 0 for size in sizes):
        sentences.append(f"{empty} of {K} clusters are empty: lower partition.n_clusters.")
    return sentences


def _large(moments: Moments, sizes: Sequence[int], method: str) -> str:
    """What the largest cluster holds, and what to do about it, which depends on why it is large."""
    largest = int(np.argmax(sizes))
    share = f"Cluster {largest} holds {sizes[largest] / sum(sizes):.0%} of the images"
    if 2 * int(moments.count_K[largest]) < sizes[largest]:
        return f"{share}, most of which are copies or near-copies of others."
    advice = {
        "kmeans": "A larger partition.n_clusters divides it.",
        "spectral": "Try partition.method kmeans, or a larger partition.eta.",
    }
    return f"{share}: the others are small. {advice[method]}"
