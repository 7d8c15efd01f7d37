"""Codes of a sample -> fine groups -> a tree, K and layers of clusters: what a run and the estimator both do.

Knows no files and no labels.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpp.clustering.choose_k import PARTS, Choice, by_part, choose, layers, subsampled
from cpp.clustering.coding_length import together
from cpp.clustering.k_baselines import candidates, compared
from cpp.clustering.merge_tree import Tree, grow
from cpp.clustering.partition import BATCH, Method, centroids, fine_groups, leading, partition
from cpp.nearest import Nearest
from cpp.rate_reduction.coding_rate import Moments
from cpp.rate_reduction.head import Codes

HELD = 2**25  # floats of rows whose moments are added at a time
REACH = 0.001  # of the rows that groups were made of, so many are farther from their centroid than a row that counts


class Fine(NamedTuple):
    """Fine groups of a sample. `e` is the squared distortion of its coding lengths, in the space of `basis`.

    `centroids` `[F, d]` unit rows; `basis` `[d, p]`; a row whose similarity to its centroid is below `reach` counts for
    no length. `candidates` are the published lengths of each K that was tried, `compared` what other measures say of K.
    """

    centroids: NDArray[np.float32]
    basis: NDArray[np.float32]
    e: float
    reach: float
    method: Method
    silhouettes: dict[str, float]
    candidates: dict[int, float]
    compared: dict[str, int]

    def moments(self, blocks: Iterable[NDArray[np.float32]], nearest: Nearest, batch: int) -> tuple[Moments, int]:
        """The moments of groups, by part, of unit rows `[n, d]` that come in blocks; how many rows there were.

        Many rows are added at a time: with few in each of many groups the groups take longer than the rows.
        """
        p = self.basis.shape[1]
        parts = Moments.of(torch.zeros(0, p), torch.zeros(0, dtype=torch.int64), len(self.centroids) * PARTS)
        held, floats, rows, counted = list[tuple[Tensor, Tensor]](), 0, 0, 0
        for Z in blocks:
            group, found = nearest.groups(Z, batch)
            close = found.score >= self.reach
            part = by_part(torch.from_numpy(group[close]), counted)
            held.append((torch.from_numpy(Z[close] @ self.basis), part))
            rows, counted, floats = rows + len(Z), counted + len(part), floats + held[-1][0].numel()
            if floats >= HELD:
                parts.add_(*map(torch.cat, zip(*held, strict=True)))
                held, floats = [], 0
        if held:
            parts.add_(*map(torch.cat, zip(*held, strict=True)))
        return parts, rows


class Layers(NamedTuple):
    """`clusters[K]` `[F]` is the cluster of each fine group in a layer, coarsest first; `main` is one of these K."""

    tree: Tree
    draws: list[Tree]
    choice: Choice
    main: int
    clusters: dict[int, NDArray[np.int64]]


def fine(
    codes: Codes,
    n_groups: int | None,
    method: Method,
    eta: float,
    landmarks: int,
    directions: int | None,
    distortion: float | None,
    tried: Sequence[int],
    seed: int,
    gpu: bool = False,
    many: int | None = None,
) -> Fine:
    """`n_groups` groups of unit rows by `partition`, of all rows. Without: `many` (or `fine_groups`), by k-means if
    `method` is auto, of the rows that are not alone, since rows that belong to nothing would be clusters of their own.

    With `tried` it is the K of these whose partition has the least published length, and all rows are partitioned.
    `distortion` overrules the noise that is measured. ValueError as in `partition`.
    """
    basis = leading(codes.Z, directions)
    kept, noise = together(codes.Z @ basis, gpu)
    reach, lengths, others = -1.0, dict[int, float](), dict[str, int]()
    if n_groups is None:
        others = compared(codes.Z, codes.C, eta, seed)
    if n_groups is None and tried:
        again = functools.partial(partition, codes, method=method, eta=eta, landmarks=landmarks, seed=seed, gpu=gpu)
        lengths = candidates(codes.Z @ basis, tried, lambda K: again(K).group, distortion or noise)
        n_groups = min(lengths, key=lengths.__getitem__)
    if n_groups is None:
        codes = Codes(codes.Z[kept], codes.C[kept])
        n_groups = min(many or fine_groups(len(codes.Z)), len(codes.Z))
        method = "kmeans" if method == "auto" else method
    how = partition(codes, n_groups, method, eta, landmarks, seed, gpu)
    centres = centroids(codes.Z, torch.from_numpy(how.group), n_groups).numpy()
    if len(codes.Z) < len(kept):
        reach = float(np.quantile(Nearest(centres, gpu)(codes.Z.numpy(), BATCH).score, REACH))
    e = distortion or noise
    return Fine(centres, basis.numpy(), e, reach, how.method, how.silhouettes, lengths, others)


def build(e: float, parts: Moments, n_clusters: int | None, asked: Sequence[int] | Literal["auto"]) -> Layers:
    """The tree of fine groups with these moments, by part, and its layers, from the distortion `e`.

    Groups without a row are in cluster 0 of every layer. ValueError where a layer has more clusters than there are
    groups with rows.
    """
    F = len(parts.count_K) // PARTS
    moments = parts.merge(torch.arange(F).repeat_interleave(PARTS), F)
    there = moments.count_K > 0
    tree = grow(moments[there], noise=e)
    draws = list(subsampled(parts, tree.e))
    choice = choose(tree, draws)
    main = min(n_clusters or choice.best, tree.n_groups)
    clusters = {}
    for K in layers(tree, main, asked):
        clusters[K] = np.zeros(F, np.int64)
        clusters[K][there.numpy()] = tree.cut(K)
    return Layers(tree, draws, choice, main, clusters)
