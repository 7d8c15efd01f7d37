"""A sample of codes in the plane, for the map of a run. Knows no files and no drawing.

t-SNE of scikit-learn (van der Maaten and Hinton, 2008): of 3,000 CLIP vectors it kept more of the neighbours than UMAP
in half the time (tests/bench/RESULTS.md), and nothing has to be installed for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

POINTS = 2_500  # images on the map
STEPS = 500  # twice as many keep as many neighbours
PERPLEXITY = 30.0
SIDE = 1000  # the plane is the square from 0 to SIDE
COLOURS = 12  # of the map; neighbours have different ones
NEAR = 8  # clusters about a cluster that have another colour than it, as far as there are colours


def embed(Z_nd: NDArray[np.floating], seed: int) -> NDArray[np.float32]:
    """Codes `[n, d]` as points `[n, 2]` that fill the square from 0 to `SIDE`, near ones near.

    Of equal input equal output.
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
    made = TSNE(init=start, perplexity=min(PERPLEXITY, (len(X) - 1) / 3), max_iter=STEPS, random_state=seed)
    return np.asarray(made.fit_transform(X), np.float32)


class Centre(NamedTuple):
    """Where the name of a cluster stands, how many points it has, and which of the colours."""

    cluster: int
    x: float
    y: float
    points: int
    colour: int


class Plane(NamedTuple):
    """The points of a map, with shard and key of each image, and the clusters that have any, the largest first."""

    x: list[float]
    y: list[float]
    cluster: list[int]
    places: list[tuple[str | None, str]]
    centres: list[Centre]


def plane(points_n2: NDArray[np.floating], cluster: Sequence[int], places: list[tuple[str | None, str]]) -> Plane:
    """The map of points `[n, 2]` in the plane."""
    Y, of = np.asarray(points_n2, np.float64).round(1), np.asarray(cluster)
    numbers, counts = np.unique(of, return_counts=True)
    numbers = numbers[np.argsort(-counts, kind="stable")]
    middles = np.array([_middle(Y[of == k]) for k in numbers]).reshape(-1, 2)
    centres = [
        Centre(int(k), float(x), float(y), int((of == k).sum()), colour)
        for k, (x, y), colour in zip(numbers, middles, colours(middles), strict=True)
    ]
    return Plane(Y[:, 0].tolist(), Y[:, 1].tolist(), of.tolist(), places, centres)


def _middle(Y: NDArray[np.float64]) -> NDArray[np.float64]:
    """The point of a cluster that is nearest to its median: it lies in the cluster, whatever its shape."""
    return np.asarray(Y[np.abs(Y - np.median(Y, axis=0)).sum(axis=1).argmin()])


def colours(middles_k2: NDArray[np.float64]) -> list[int]:
    """A colour for each cluster, below `COLOURS`: the one that is farthest away among those given before it."""
    given: list[int] = []
    for i, middle in enumerate(middles_k2):
        away = np.hypot(*(middles_k2[:i] - middle).T) if i else np.empty(0)
        taken = {given[j] for j in np.argsort(away)[:NEAR]}
        used = np.bincount(np.array(given, np.int64), minlength=COLOURS)
        given.append(min((c for c in range(COLOURS) if c not in taken), key=lambda c: (int(used[c]), c)))
    return given
