"""Nearest group for everything, and k-means: the one door to FAISS.

Rows are unit vectors and similarity is the inner product. Among more than `EXACT` centroids on a CPU the search goes
through an inverted file: k-means puts the centroids into 2 sqrt(K) lists, and of these the nearest are looked through.
Knows no files, no names and no networks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
EXACT = 16_384  # centroids: up to here all are compared, as 20,000 rows a second and core can be
LISTS = 24  # that are looked through, of 2 sqrt(K); tests/bench/RESULTS.md says what they miss
TIE = 1e-6  # in cosine: two such are one
SAMPLE = 256  # rows that the misses of a search are counted on


class Assignment(NamedTuple):
    """For every row, `[n]`: `cluster` and `score` of the nearest centroid, `second` and its lead `margin` over that.

    `second` is the next nearest *cluster*, -1 where there is only one; `margin` is then `score` + 1.
    """

    cluster: NDArray[np.int32]
    score: Floats
    second: NDArray[np.int32]
    margin: Floats


class Nearest:
    """Inner-product search among unit centroids `[F, d]`; on the GPUs if `gpu`. `exact` says whether it finds all.

    `cluster` `[F]` says which cluster each centroid stands for, where several stand for one; else each is its own.
    """

    def __init__(self, centroids: Floats, gpu: bool = False, cluster: NDArray[np.integer] | None = None) -> None:
        self.dim = centroids.shape[1]
        self.cluster = np.arange(len(centroids)) if cluster is None else cluster
        self.only = len(np.unique(self.cluster)) == 1
        # among so many, one is of another cluster
        self._k = min(len(centroids), 1 + int(np.bincount(self.cluster).max()))
        self._all = _exact(_rows(centroids), gpu)
        self.exact = gpu or len(centroids) <= EXACT
        self._index = self._all if self.exact else _lists(_rows(centroids))

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
            found, near, other = self._search(_rows(Z[block]))
            pair = np.arange(len(near))[:, None], np.stack([np.zeros_like(other), other], axis=1)
            scores[block], ids[block] = found[pair], near[pair]
        cluster = self.cluster[ids].astype(np.int32)
        if self.only:
            scores[:, 1], cluster[:, 1] = -1, -1
        return ids[:, 0].copy(), Assignment(
            cluster[:, 0], scores[:, 0].copy(), cluster[:, 1], scores[:, 0] - scores[:, 1]
        )

    def _search(self, rows: Floats) -> tuple[Floats, NDArray[np.int64], NDArray[np.intp]]:
        """Scores and numbers of the nearest centroids, and the first place where one is of another cluster."""
        found, near = self._index.search(rows, self._k)
        differs = (self.cluster[near] != self.cluster[near[:, :1]]) & (near >= 0)
        if not self.exact and len(short := np.flatnonzero(~differs.any(axis=1))):  # the lists held no second cluster
            found[short], near[short] = self._all.search(rows[short], self._k)
            differs[short] = self.cluster[near[short]] != self.cluster[near[short, :1]]
        return found, near, differs.argmax(axis=1)

    def recall(self, Z: Floats) -> float:
        """The share of rows whose nearest centroid is found, on at most `SAMPLE` of these, evenly spaced; 1 of none."""
        some = _rows(Z[:: max(1, len(Z) // SAMPLE)][:SAMPLE])
        if self.exact or not len(some):
            return 1.0
        return float((self._index.search(some, 1)[0] >= self._all.search(some, 1)[0] - TIE).mean())


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


def _lists(rows: Floats) -> Any:
    """An inverted file of these rows, the same whatever the number of threads."""
    count = int(2 * len(rows) ** 0.5)
    index: Any = faiss.index_factory(rows.shape[1], f"IVF{count},Flat", faiss.METRIC_INNER_PRODUCT)
    index.nprobe = LISTS
    index.cp.seed, index.cp.spherical, index.cp.min_points_per_centroid = 0, True, 1
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        index.train(rows)
        index.add(rows)
    finally:
        faiss.omp_set_num_threads(threads)
    return index


def _rows(X: Any) -> Floats:
    return np.ascontiguousarray(X, dtype=np.float32)
