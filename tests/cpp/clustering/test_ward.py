"""Ward's tree from our distances is SciPy's, and a cut has exactly K clusters."""

import numpy as np
import torch
from scipy.cluster.hierarchy import linkage

from cpp.clustering.ward import cut, ward
from cpp.evaluation.metrics import scores


def rows(n: int, d: int) -> np.ndarray:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0)).numpy()


def test_merges_are_those_of_scipy_across_blocks() -> None:
    Z = rows(2100, 6)
    assert np.allclose(ward(Z), linkage(Z, "ward"))


def test_a_cut_has_exactly_k_clusters_also_among_copies() -> None:
    Z = rows(5, 3).repeat(8, axis=0)
    merges = ward(Z)
    assert all(len(np.unique(cut(merges, K))) == K for K in range(1, 41))
    assert scores(np.arange(5).repeat(8), cut(merges, 5)).ari == 1
