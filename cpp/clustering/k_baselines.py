"""Other ways to say K, beside the tree: the paper's candidates, and for comparison the silhouette and the eigengap.

Sources: Chu et al., arXiv 2306.05272, section 3.4 and algorithm 3; Rousseeuw, "Silhouettes", 1987; von Luxburg, "A
tutorial on spectral clustering", 2007, section 8.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpp.clustering.coding_length import coding_length, lossy_bits
from cpp.clustering.partition import HALF_STEPS, silhouette
from cpp.rate_reduction.coding_rate import Moments
from cpp.rate_reduction.sinkhorn import membership

ROWS = 2048  # that the two comparisons look at, at most
TRIED = 25  # K that the silhouette is computed at, from 2 to a quarter of the rows


def candidates(
    Z_nd: Tensor, tried: Sequence[int], groups: Callable[[int], NDArray[np.int64]], e: float
) -> dict[int, float]:
    """The published coding length, in bits, of a partition made anew for each K that is tried."""
    found = {}
    for K in sorted(set(tried)):
        moments = Moments.of(Z_nd, torch.from_numpy(groups(K)), K)
        found[K] = coding_length(moments, e, lossy_bits)
    return found


def compared(Z_nd: Tensor, C_nd: Tensor, eta: float, seed: int) -> dict[str, int]:
    """K of the largest silhouette among cuts of Ward's tree, and of the largest gap in the membership's eigenvalues."""
    from scipy.cluster.hierarchy import cut_tree, ward

    drawn = np.sort(np.random.default_rng(seed).permutation(len(Z_nd))[:ROWS])
    Z, n = Z_nd[drawn].cpu().numpy(), len(drawn)
    if n < 8:
        return {}
    tried = np.unique(np.geomspace(2, n // 4, TRIED).round().astype(int))
    cuts = cut_tree(ward(Z), tried)
    best = max(range(len(tried)), key=lambda i: silhouette(Z, cuts[:, i]))
    Pi = membership(C_nd[drawn], eta, HALF_STEPS)
    Pi = (Pi + Pi.mT) / 2
    scale = Pi.sum(1).rsqrt()
    values = torch.linalg.eigvalsh(scale[:, None] * Pi * scale).flip(0)
    gaps = values[1 : n // 4] - values[2 : n // 4 + 1]  # from K = 2: the first value is always 1
    return {"silhouette": int(tried[best]), "eigengap": int(gaps.argmax()) + 2}
