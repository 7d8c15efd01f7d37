"""Signs that a clustering has collapsed, in plain words. Knows no files and no labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cpp.rate import Moments

LARGE = 0.5  # share of the images in one cluster that is worth a word


def effective_rank(gram_dd: Tensor) -> float:
    """exp of the entropy of the eigenvalues of a Gram matrix, scaled to sum 1: from 1, a line, to d, all directions.

    Roy and Vetterli, "The effective rank", EUSIPCO 2007, on the second moments.
    """
    values = torch.linalg.eigvalsh(gram_dd.to(torch.float64)).clamp_min(0)
    share = values / values.sum()
    return float(torch.special.entr(share).sum().exp())


def warnings(moments: Moments, sizes: Sequence[int]) -> list[str]:
    """Sentences about codes that fell together and clusters that did; none where all is well.

    `moments` are of the clusters in the partition's sample, `sizes` their images in the whole set.
    """
    total, K, d = sum(sizes), len(sizes), moments.gram_Kdd.shape[-1]
    found = []
    rank = effective_rank(moments.gram_Kdd.sum(0))
    if rank < min(K, d) / 4:
        found.append(
            f"The codes have collapsed: they use {rank:.1f} directions (effective rank) for {K} clusters. "
            "Their clusters mean little; with fit.recipe paper, raise fit.warmup_steps or lower fit.gamma."
        )
    if total and max(sizes) > LARGE * total and K > 2:
        found.append(
            f"Cluster {max(range(K), key=sizes.__getitem__)} holds {max(sizes) / total:.0%} of the images: "
            "the others are small pieces beside it. Try partition.method kmeans, or a larger partition.eta."
        )
    if empty := sum(size == 0 for size in sizes):
        found.append(f"{empty} of {K} clusters are empty: lower partition.n_clusters.")
    return found
