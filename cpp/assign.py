"""Nearest group for everything, and k-means: the one door to FAISS.

Rows are unit vectors and similarity is the inner product. Knows no files, no names and no networks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class Assignment(NamedTuple):
    """For every row, `[n]`: `cluster` and `score` of the nearest centroid, `second` and its lead `margin` over that.

    `second` is the next nearest *cluster*, -1 where there is only one; `margin` is then `score` + 1.
    """

    cluster: NDArray[np.int32]
    score: Floats
    second: NDArray[np.int32]
    margin: Floats


class Nearest:
    """Exact inner-product search among unit centroids `[F, d]`; on the GPUs if `gpu`.

    `cluster` `[F]` says which cluster each centroid stands for, where several stand for one; else each is its own.
    """

    def __init__(self, centroids: Floats, gpu: bool = False, cluster: NDArray[np.integer] | None = None) -> None:
        self.dim = centroids.shape[1]
        self.cluster = np.arange(len(centroids)) if cluster is None else cluster
        self.only = len(np.unique(self.cluster)) == 1
        # among so many, one is of another cluster
        self._k = min(len(centroids), 1 + int(np.bincount(self.cluster).max()))
        self._index = _exact(_rows(centroids), gpu)

    def __call__(self, Z: Floats, batch: int) -> Assignment:
        """Assign rows `[n, d]`, `batch` at a time. ValueError where the dimension is not the centroids'."""
        return self.groups(Z, batch)[1]

    def groups(self, Z: Floats, batch: int) -> tuple[NDArray[np.int64], Assignment]:
        """The nearest centroid of each row, `[n]`, beside the assignment."""
        if Z.shape[1] != self.dim:
            raise ValueError(f"rows have dimension {Z.shape[1]}, the centroids {self.dim}")
        scores, ids = np.empty((len(Z), 2), np.float32), np.empty((len(Z), 2), np.int64)
        for start in range(0, len(Z), batch):
            block = slice(start, start + batch)
            found, near = self._index.search(_rows(Z[block]), self._k)
            other = (self.cluster[near] != self.cluster[near[:, :1]]).argmax(axis=1)
            pair = np.arange(len(near))[:, None], np.stack([np.zeros_like(other), other], axis=1)
            scores[block], ids[block] = found[pair], near[pair]
        cluster = self.cluster[ids].astype(np.int32)
        if self.only:
            scores[:, 1], cluster[:, 1] = -1, -1
        return ids[:, 0].copy(), Assignment(
            cluster[:, 0], scores[:, 0].copy(), cluster[:, 1], scores[:, 0] - scores[:, 1]
        )


class Neighbours:
    """The `k` largest inner products of rows with fixed rows `[m, d]`, exact; on the GPUs if `gpu`."""

    def __init__(self, rows: Floats, k: int, gpu: bool = False) -> None:
        self.k, self._index = k, _exact(_rows(rows), gpu)

    def __call__(self, X: Floats, batch: int) -> Floats:
        """`[n, k]`, the largest first, `batch` rows at a time."""
        parts = [self._index.search(_rows(X[i : i + batch]), self.k)[0] for i in range(0, len(X), batch)]
        return np.concatenate([np.empty((0, self.k), np.float32), *parts])


def nearest_rows(X: Floats, k: int, gpu: bool = False) -> NDArray[np.int64]:
    """The `k` other rows of largest inner product with each row of `X`, `[n, k]`, nearest first; exact."""
    if not 1 <= k < len(X):
        raise ValueError(f"k is {k}, must be from 1 to the number of other rows, {len(X) - 1}")
    rows = _rows(X)
    index = _exact(rows, gpu)
    _, found = index.search(rows, k + 1)
    own = found == np.arange(len(rows))[:, None]
    own[~own.any(axis=1), k] = True  # a row with more than k copies need not be among its own nearest
    others: NDArray[np.int64] = found[~own].reshape(len(rows), k)
    return others


def pairs_from(A: Floats, B: Floats, lowest: float) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Every pair of rows `i` of `A` and `j` of `B` with an inner product of at least `lowest`, and that; by `i`."""
    below = float(np.nextafter(np.float32(lowest), np.float32(-1)))  # faiss takes what is above
    ends, similarity, j = _exact(_rows(B), False).range_search(_rows(A), below)
    return np.repeat(np.arange(len(A)), np.diff(ends.astype(np.int64))), j, similarity


def kmeans(
    X: Floats,
    n_clusters: int,
    seed: int,
    restarts: int = 1,
    spherical: bool = True,
    gpu: bool = False,
    start: Floats | None = None,
) -> Floats:
    """Centroids `[K, d]` of the best of `restarts` runs of Lloyd's algorithm from k-means++ starts, or from `start`.

    `spherical` normalises the centroids after every step. Uses every row it is given.
    """
    if not 1 <= n_clusters <= len(X):
        raise ValueError(f"n_clusters is {n_clusters}, must be from 1 to the number of rows, {len(X)}")
    clustering = faiss.Kmeans(
        X.shape[1],
        n_clusters,
        niter=50,
        nredo=restarts,
        seed=seed,
        spherical=spherical,
        gpu=gpu,
        init_method=faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS,
        min_points_per_centroid=1,
        max_points_per_centroid=len(X),
    )
    clustering.train(_rows(X), init_centroids=None if start is None else _rows(start))
    return _rows(clustering.centroids)


def _exact(rows: Floats, gpu: bool) -> Any:
    exact = faiss.IndexFlatIP(rows.shape[1])
    index = faiss.index_cpu_to_all_gpus(exact) if gpu else exact
    index.add(rows)
    return index


def _rows(X: Any) -> Floats:
    return np.ascontiguousarray(X, dtype=np.float32)
