"""Nearest-centroid search and k-means: the only module that imports FAISS.

Rows are unit vectors and similarity is the inner product. Above `EXACT` centroids, a CPU uses an inverted file: k-means
divides the K centroids into 2 sqrt(K) lists, and a query searches the nearest `LISTS` of them. Knows no files, no names
and no networks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
EXACT = 16_384  # largest number of centroids searched exhaustively, at 20,000 rows per second and core
LISTS = 24  # lists searched by a query; tests/bench/RESULTS.md has the recall
PROBES = 16  # lists searched for the nearest other rows
BATCH = 65_536  # rows that are searched at a time
COARSE = 4  # lists searched for copies, which are nearly always in one list
TRAINED = 48  # rows of a list that these lists are trained on; the training is most of the cost of the search
TIE = 1e-6  # cosine difference within which two centroids count as equally near
SAMPLE = 256  # rows on which the recall of a search is measured


class Assignment(NamedTuple):
    """For every row, `[n]`: its nearest centroid, the `group`; its `cluster` and `score`; `second` and `margin`.

    `second` is the next nearest *cluster*; with one cluster it is -1, and `margin` is `score` + 1.
    """

    group: NDArray[np.int64]
    cluster: NDArray[np.int32]
    score: Floats
    second: NDArray[np.int32]
    margin: Floats


class Nearest:
    """Inner-product search among unit centroids `[F, d]`, on the GPUs if `gpu`. `exact` is False for an inverted file.

    `cluster` `[F]` is the cluster that each centroid represents; without it, every centroid is a cluster.
    """

    def __init__(self, centroids: Floats, gpu: bool = False, cluster: NDArray[np.integer] | None = None) -> None:
        self.dim = centroids.shape[1]
        self.cluster = np.arange(len(centroids)) if cluster is None else cluster
        sizes = np.bincount(self.cluster)
        self.single = np.count_nonzero(sizes) == 1
        self._k = min(len(centroids), 1 + int(sizes.max()))  # of so many centroids one is of another cluster
        self._all = _exact(centroids, gpu)
        self.exact = gpu or len(centroids) <= EXACT
        self._index = self._all if self.exact else _lists(centroids)

    def __call__(self, Z: Floats, batch: int) -> Assignment:
        """Assign rows `[n, d]`, `batch` at a time. ValueError for a dimension other than the centroids'."""
        if Z.shape[1] != self.dim:
            raise ValueError(f"rows have dimension {Z.shape[1]}, the centroids {self.dim}")
        blocks = [self._search(_rows(Z[i : i + batch])) for i in range(0, max(len(Z), 1), batch)]
        scores, ids = (np.concatenate(pairs).T.copy() for pairs in zip(*blocks, strict=True))
        cluster = self.cluster[ids].astype(np.int32)
        if self.single:
            scores[1], cluster[1] = -1, -1
        return Assignment(ids[0], cluster[0], scores[0], cluster[1], scores[0] - scores[1])

    def _search(self, rows: Floats) -> tuple[Floats, NDArray[np.int64]]:
        """Scores and numbers, `[n, 2]`, of the nearest centroid and of the nearest one of another cluster."""
        scores, near = self._index.search(rows, self._k)
        differs = (self.cluster[near] != self.cluster[near[:, :1]]) & (near >= 0)
        if not self.exact and len(short := np.flatnonzero(~differs.any(axis=1))):  # lists without a second cluster
            scores[short], near[short] = self._all.search(rows[short], self._k)
            differs[short] = self.cluster[near[short]] != self.cluster[near[short, :1]]
        pair = np.stack([np.zeros(len(rows), np.intp), differs.argmax(axis=1)], axis=1)
        return np.take_along_axis(scores, pair, 1), np.take_along_axis(near, pair, 1)

    def recall(self, Z: Floats) -> float:
        """The share of at most `SAMPLE` evenly spaced rows whose nearest centroid is found; 1 without rows."""
        sample = _rows(Z[:: max(1, len(Z) // SAMPLE)][:SAMPLE])
        if self.exact or not len(sample):
            return 1.0
        return float((self._index.search(sample, 1)[0] >= self._all.search(sample, 1)[0] - TIE).mean())


class Neighbours:
    """The `k` largest inner products of rows with fixed rows `[m, d]`, exact; on the GPUs if `gpu`."""

    def __init__(self, rows: Floats, k: int, gpu: bool = False) -> None:
        self.k, self._index = k, _exact(rows, gpu)

    def __call__(self, X: Floats, batch: int) -> Floats:
        """Inner products `[n, k]`, the largest first, computed `batch` rows at a time."""
        starts = range(0, max(len(X), 1), batch)
        return np.concatenate([self._index.search(_rows(X[i : i + batch]), self.k)[0] for i in starts])


def nearest_among(rows: Floats, X: Floats, k: int) -> tuple[Floats, NDArray[np.int64]]:
    """The `k` largest inner products of rows `X` `[n, d]` with `rows` `[m, d]` and their numbers, `[n, k]`; exact."""
    products, near = _exact(rows, gpu=False).search(_rows(X), k)
    return products, near


def nearest_rows(X: Floats, k: int, gpu: bool = False, rows: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """The `k` other rows of `X` with the largest inner product with each of `rows`, by default of all; nearest first.

    Returns `[len(rows), k]`. Exact for up to `EXACT` rows or on GPUs; more rows are searched in an inverted file.
    ValueError unless 1 <= k < n.
    """
    if not 1 <= k < len(X):
        raise ValueError(f"k is {k}, must be from 1 to the number of other rows, {len(X) - 1}")
    numbers = np.arange(len(X)) if rows is None else rows
    exact = gpu or len(X) <= EXACT
    index = _exact(X, gpu) if exact else _lists(X, probes=PROBES, trained=TRAINED)
    near = np.empty((len(numbers), k + 1), np.int64)
    for start in range(0, len(numbers), BATCH):
        part = slice(start, start + BATCH)
        near[part] = index.search(_rows(X[numbers[part]]), k + 1)[1]
    if not exact and len(short := np.flatnonzero((near < 0).any(axis=1))):  # the lists have fewer rows than k
        near[short] = _exact(X, gpu).search(_rows(X[numbers[short]]), k + 1)[1]
    own = near == numbers[:, None]
    own[~own.any(axis=1), k] = True  # a row with more than k copies need not be among its own nearest
    others: NDArray[np.int64] = near[~own].reshape(len(numbers), k)
    return others


def closest_rows(X: Floats, k: int, gpu: bool = False) -> tuple[Floats, NDArray[np.int64]]:
    """Squared distances to the `k` other rows nearest to each row of `X`, nearest first, and their numbers, `[n, k]`.

    On a CPU, more than `EXACT` rows are searched in an inverted file, which finds rows that are very near, but misses
    some of the others: their places hold infinity and the row itself. ValueError unless 1 <= k < n.
    """
    if not 1 <= k < len(X):
        raise ValueError(f"k is {k}, must be from 1 to the number of other rows, {len(X) - 1}")
    rows, numbers = _rows(X), np.arange(len(X))[:, None]
    if gpu or len(X) <= EXACT:
        index: Any = faiss.IndexFlatL2(X.shape[1])
        index = faiss.index_cpu_to_all_gpus(index) if gpu else index
        index.add(rows)
    else:
        index = _lists(rows, faiss.METRIC_L2, COARSE, TRAINED)
    squared, near = index.search(rows, k + 1)
    own = near == numbers
    own[~own.any(axis=1), k] = True  # a row with more than k copies need not be among its own nearest
    others, near = squared[~own].reshape(len(X), k), near[~own].reshape(len(X), k)
    return np.where(near < 0, np.inf, others), np.where(near < 0, numbers, near)


def kmeans(X: Floats, n_clusters: int, seed: int, gpu: bool = False, start: Floats | None = None) -> Floats:
    """Unit centroids `[K, d]` of spherical k-means, which starts from `start` or from k-means++, and uses every row."""
    plus_plus = faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS
    every_row = {"min_points_per_centroid": 1, "max_points_per_centroid": len(X)}
    clustering = faiss.Kmeans(
        X.shape[1], n_clusters, niter=50, seed=seed, spherical=True, gpu=gpu, init_method=plus_plus, **every_row
    )
    clustering.train(_rows(X), init_centroids=None if start is None else _rows(start))
    return _rows(clustering.centroids)


def _exact(X: Floats, gpu: bool) -> Any:
    index: Any = faiss.IndexFlatIP(X.shape[1])
    index = faiss.index_cpu_to_all_gpus(index) if gpu else index
    index.add(_rows(X))
    return index


def _lists(X: Floats, metric: int = faiss.METRIC_INNER_PRODUCT, probes: int = LISTS, trained: int = 256) -> Any:
    """An inverted file of the rows, trained on `trained` of them a list; independent of the number of threads."""
    index: Any = faiss.index_factory(X.shape[1], f"IVF{int(2 * len(X) ** 0.5)},Flat", metric)
    index.nprobe = probes
    index.cp.seed, index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = 0, 1, trained
    index.cp.spherical = metric == faiss.METRIC_INNER_PRODUCT
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        index.train(_rows(X))
        index.add(_rows(X))
    finally:
        faiss.omp_set_num_threads(threads)
    return index


def _rows(X: Any) -> Floats:
    return np.ascontiguousarray(X, dtype=np.float32)
