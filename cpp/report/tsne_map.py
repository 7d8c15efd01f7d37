"""The map of a run: codes in the plane, a sample by t-SNE (van der Maaten and Hinton, 2008), others beside it.

Draws nothing.

For 3,000 CLIP vectors, scikit-learn's t-SNE kept more neighbours than UMAP in half the time (tests/bench/RESULTS.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

POINTS = 2_500  # images on the map
STEPS = 500  # 1,000 steps do not keep more neighbours
PERPLEXITY = 30.0
NEIGHBOURS = 5  # points of the sample between which another image is placed
SIDE = 1000  # the points lie in the square from 0 to SIDE
COLOURS = 12
NEAR = 8  # the nearest clusters that get a different colour


def embed(Z_nd: NDArray[np.floating], seed: int) -> NDArray[np.float32]:
    """Points `[n, 2]` for codes `[n, d]`: similar codes are close. They fill the square from 0 to `SIDE`.

    Equal input gives equal output.
    """
    import threadpoolctl

    X, n = Z_nd.astype(np.float32), len(Z_nd)
    with threadpoolctl.threadpool_limits(1):  # sums of several threads differ from run to run
        Y = _tsne(X, seed) if n > 4 and np.ptp(X, axis=0).any() else np.stack([np.arange(n), np.zeros(n)], axis=1)
    spread = np.maximum(np.ptp(Y, axis=0), 1e-12)
    middle = (Y.max(axis=0) + Y.min(axis=0)) / 2
    return np.asarray((Y - middle) / spread * SIDE + SIDE / 2, np.float32)


def _tsne(X: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    start = PCA(2, svd_solver="full").fit_transform(X)
    start *= 1e-4 / max(float(start[:, 0].std()), 1e-12)  # Kobak and Berens, 2019
    tsne = TSNE(init=start, perplexity=min(PERPLEXITY, (len(X) - 1) / 3), max_iter=STEPS, random_state=seed)
    return np.asarray(tsne.fit_transform(X), np.float32)


def place(
    Z_nd: NDArray[np.floating], sample_md: NDArray[np.floating], points_m2: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Points `[n, 2]` for unit codes `[n, d]` beside the points `[m, 2]` of the sample.

    Each is the mean of its `NEIGHBOURS` nearest in the sample, weighted by the inverse square of one minus the cosine,
    so that a code of the sample keeps its place.
    """
    from cpp import nearest

    cosines, near = nearest.nearest_among(sample_md, Z_nd, min(NEIGHBOURS, len(sample_md)))
    weights = np.maximum(1 - cosines.astype(np.float64), 1e-6) ** -2
    weights /= weights.sum(axis=1, keepdims=True)
    return np.asarray((points_m2[near] * weights[..., None]).sum(axis=1), np.float32)


def plane(points_n2: NDArray[np.floating], cluster: Sequence[int]) -> dict[str, Any]:
    """The map of points `[n, 2]` with their clusters: `x`, `y` and `cluster` of each, and the `centres` of clusters.

    A centre has its `cluster`, the number of its `points`, the place `x` and `y` of its name and a `colour` below
    `COLOURS`. The largest cluster is first.
    """
    Y, clusters = np.asarray(points_n2, np.float64).round(1), np.asarray(cluster)
    numbers, counts = np.unique(clusters, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    middles = np.empty((len(order), 2))
    for middle, k in zip(middles, numbers[order], strict=True):
        own = Y[clusters == k]  # the point nearest to the median lies within the cluster whatever its shape
        middle[:] = own[np.abs(own - np.median(own, axis=0)).sum(axis=1).argmin()]
    columns = zip(numbers[order].tolist(), *middles.T.tolist(), counts[order].tolist(), colours(middles), strict=True)
    centres = [{"cluster": k, "x": x, "y": y, "points": n, "colour": colour} for k, x, y, n, colour in columns]
    return {"x": Y[:, 0].tolist(), "y": Y[:, 1].tolist(), "cluster": clusters.tolist(), "centres": centres}


def colours(middles_k2: NDArray[np.float64]) -> list[int]:
    """A colour for each cluster, below `COLOURS`: the least used one that none of the `NEAR` nearest has so far."""
    chosen: list[int] = []
    for i, middle in enumerate(middles_k2):
        distances = np.hypot(*(middles_k2[:i] - middle).T) if i else np.empty(0)
        taken = {chosen[j] for j in np.argsort(distances)[:NEAR]}
        used = np.bincount(np.array(chosen, np.int64), minlength=COLOURS)
        chosen.append(min((c for c in range(COLOURS) if c not in taken), key=lambda c: (int(used[c]), c)))
    return chosen
