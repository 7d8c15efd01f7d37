"""Codes of a sample -> K groups: spectral clustering of the membership (the paper's way) or spherical k-means.

Knows no files; nothing here is larger than sample x sample.
Source: Chu et al., arXiv 2306.05272, section 3.3; Ng, Jordan, Weiss, "On spectral clustering", NIPS 2001.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpp.assign import Nearest, kmeans
from cpp.sinkhorn import membership


def spectral(C_nd: Tensor, n_clusters: int, eta: float, half_steps: int, seed: int) -> NDArray[np.int64]:
    """Group number `[n]` by the K leading eigenvectors of the membership of unit rows `C_nd`, then k-means.

    Takes n^2 floats. The membership is made symmetric and divided by its row sums, as Sinkhorn leaves one side inexact.
    """
    from scipy.sparse.linalg import eigsh
    from sklearn.cluster import KMeans

    _check(n_clusters, len(C_nd))
    if n_clusters == 1:
        return np.zeros(len(C_nd), np.int64)
    Pi = membership(C_nd, eta, half_steps)
    Pi = (Pi + Pi.mT) / 2
    scale_n = Pi.sum(1).rsqrt()
    affinity = (scale_n[:, None] * Pi * scale_n).cpu().numpy()
    if n_clusters < len(C_nd):
        start = np.random.default_rng(seed).standard_normal(len(C_nd))
        _, vectors = eigsh(affinity, k=n_clusters, which="LA", v0=start)
    else:
        vectors = np.linalg.eigh(affinity)[1]
    rows = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    labels: NDArray[np.int64] = KMeans(n_clusters, n_init=10, random_state=seed).fit_predict(rows).astype(np.int64)
    return labels


def spherical_kmeans(Z_nd: Tensor, n_clusters: int, seed: int, gpu: bool = False) -> NDArray[np.int64]:
    """Group number `[n]` by spherical k-means on unit rows, best of 10 k-means++ starts."""
    _check(n_clusters, len(Z_nd))
    Z = Z_nd.cpu().numpy()
    return Nearest(kmeans(Z, n_clusters, seed, restarts=10, gpu=gpu), gpu)(Z, batch=65536).cluster.astype(np.int64)


def centroids(Z_nd: Tensor, group_n: Tensor, n_clusters: int) -> Tensor:
    """Unit mean of each group, `[K, d]`; zero for an empty one."""
    sums = Z_nd.new_zeros(n_clusters, Z_nd.shape[1]).index_add(0, group_n, Z_nd)
    return torch.nn.functional.normalize(sums)


def _check(n_clusters: int, n: int) -> None:
    if not 1 <= n_clusters <= n:
        raise ValueError(f"partition.n_clusters is {n_clusters}, must be from 1 to the rows of the sample, {n}")
