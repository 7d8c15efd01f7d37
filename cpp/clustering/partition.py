"""Partition the codes of a sample into K groups: k-means from Ward's clusters, or spectral clustering.

k-means splits large classes if sizes differ much; spectral clustering of the membership joins classes that touch.
`auto` computes both and keeps spectral clustering if its silhouette is clearly larger. Knows no files and no labels.

Sources: Ward, JASA 58, 1963; Ng, Jordan, Weiss, "On spectral clustering", NIPS 2001, on the membership of Chu et al.,
arXiv 2306.05272, section 3.3; Rousseeuw, "Silhouettes", 1987.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpp.nearest import Nearest, kmeans
from cpp.rate_reduction.head import Codes
from cpp.rate_reduction.sinkhorn import membership

HALF_STEPS = 5  # Sinkhorn half-steps, as in the paper
SCORED = 4096  # rows for a silhouette
LEAD = 0.02  # silhouette by which spectral clustering must lead; with less the choice would depend on the seed
BATCH = 65536

Method = Literal["auto", "kmeans", "spectral"]


class Grouping(NamedTuple):
    """The group of every row, `[n]`, by `method`, and the silhouettes, in [-1, 1], of the compared methods."""

    group: NDArray[np.int64]
    method: Method
    silhouettes: dict[str, float]


def partition(
    codes: Codes, n_clusters: int, method: Method, eta: float, landmarks: int, seed: int, gpu: bool = False
) -> Grouping:
    """Partition unit rows by the cosine of `codes.Z`. ValueError unless 1 <= n_clusters <= n.

    Ward's method and spectral clustering see at most `landmarks` rows, drawn by `seed`, and take landmarks^2 floats.
    k-means continues from Ward's centroids over all rows; after spectral clustering every row takes its nearest
    centroid.
    """
    n = len(codes.Z)
    if not 1 <= n_clusters <= n:
        raise ValueError(f"partition.n_clusters is {n_clusters}, must be from 1 to the number of sample rows, {n}")
    if n_clusters in (1, n):
        return Grouping(np.zeros(n, np.int64) if n_clusters == 1 else np.arange(n), "kmeans", {})
    drawn = np.sort(np.random.default_rng(seed).choice(n, min(n, max(landmarks, n_clusters)), replace=False))
    sample = Codes(codes.Z[drawn], codes.C[drawn])
    Z = codes.Z.cpu().numpy()
    groups = {}
    for name in ("kmeans", "spectral") if method == "auto" else (method,):
        group = (
            ward(sample.Z, n_clusters) if name == "kmeans" else spectral(sample.C, n_clusters, eta, HALF_STEPS, seed)
        )
        centres = centroids(sample.Z.cpu(), torch.from_numpy(group), n_clusters).numpy()
        if name == "kmeans":
            centres = kmeans(Z, n_clusters, seed, gpu=gpu, start=centres)
        groups[name] = Nearest(centres, gpu)(Z, BATCH).cluster.astype(np.int64)
    if len(groups) == 1:
        return Grouping(groups[method], method, {})
    scored = drawn[np.random.default_rng(seed).permutation(len(drawn))[:SCORED]]
    silhouettes = {name: silhouette(Z[scored], group[scored]) for name, group in groups.items()}
    chosen: Method = "spectral" if silhouettes["spectral"] > silhouettes["kmeans"] + LEAD else "kmeans"
    return Grouping(groups[chosen], chosen, silhouettes)


def ward(Z_nd: Tensor, n_clusters: int) -> NDArray[np.int64]:
    """The group of each row, `[n]`, by Ward's agglomeration, from which k-means reaches its best optima."""
    from sklearn.cluster import AgglomerativeClustering

    group: NDArray[np.int64] = AgglomerativeClustering(n_clusters, linkage="ward").fit_predict(Z_nd.cpu().numpy())
    return group.astype(np.int64)


def spectral(C_nd: Tensor, n_clusters: int, eta: float, half_steps: int, seed: int) -> NDArray[np.int64]:
    """The group of each row, `[n]`, by k-means on the K leading eigenvectors of the membership of unit rows `C_nd`.

    Takes n^2 floats. The membership is made symmetric and divided by its row sums, because Sinkhorn scales one side
    inexactly.
    """
    from scipy.linalg import eigh
    from scipy.sparse.linalg import eigsh
    from sklearn.cluster import KMeans

    n = len(C_nd)
    Pi = membership(C_nd, eta, half_steps)
    Pi = (Pi + Pi.mT) / 2
    scale_n = Pi.sum(1).rsqrt()
    affinity = (scale_n[:, None] * Pi * scale_n).cpu().numpy()
    if 100 * n_clusters < n:
        start = np.random.default_rng(seed).standard_normal(n)
        _, vectors = eigsh(affinity, k=n_clusters, which="LA", v0=start)
    else:  # Lanczos is slow for many eigenvectors
        _, vectors = eigh(affinity, subset_by_index=(n - n_clusters, n - 1), overwrite_a=True, check_finite=False)
    rows = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    restarts = max(1, min(10, 1000 // n_clusters))  # a restart costs n K^2
    labels: NDArray[np.int64] = KMeans(n_clusters, n_init=restarts, random_state=seed).fit_predict(rows)
    return labels.astype(np.int64)


def silhouette(Z: NDArray[np.float32], group: NDArray[np.int64]) -> float:
    """Mean silhouette of unit rows by cosine distance; -1 if there is one group, or every row is a group."""
    from sklearn.metrics import silhouette_score

    if not 1 < len(np.unique(group)) < len(group):
        return -1.0
    return float(silhouette_score(Z, group, metric="cosine"))


def principal_directions(Z_nd: Tensor, directions: int | None) -> Tensor:
    """Basis `[d, p]` of the `directions` principal directions of codes, or of all: what lengths are measured in.

    To estimate a covariance in d directions takes more than d rows, and to keep it d^2 floats per group.
    """
    d = Z_nd.shape[1]
    if directions is None or directions >= d:
        return torch.eye(d)
    Z = (Z_nd - Z_nd.mean(0)).to(torch.float64)
    _, vectors = torch.linalg.eigh(Z.mT @ Z)
    basis: Tensor = vectors[:, -directions:].flip(1).to(torch.float32)
    return basis


def group_count(n: int) -> int:
    """The number of fine groups for `n` rows if K is unknown: one for eight rows, at most 2,048."""
    return max(1, min(n // 8, 2048))


def centroids(Z_nd: Tensor, group_n: Tensor, n_clusters: int) -> Tensor:
    """Unit mean of each group, `[K, d]`; zero for an empty one."""
    sums = Z_nd.new_zeros(n_clusters, Z_nd.shape[1]).index_add_(0, group_n, Z_nd)
    return torch.nn.functional.normalize(sums)
