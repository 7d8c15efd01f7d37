"""From the codes of a sample to fine groups, and from their moments to a merge tree, K and layers of clusters.

A run and the estimator share this. The paper's candidates for K: Chu et al., arXiv 2306.05272, section 3.4 and
algorithm 3. Knows no files and no labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpp.clustering.choose_k import PARTS, Choice, choose_k, jackknife_replicates, layers, split_groups
from cpp.clustering.coding_length import coding_length, exclude_isolated, lossy_bits
from cpp.clustering.merge_tree import Tree, grow
from cpp.clustering.partition import BATCH, Method, centroids, group_count, partition, principal_directions
from cpp.nearest import Nearest
from cpp.rate_reduction.coding_rate import Moments
from cpp.rate_reduction.head import Codes

HELD = 2**25  # floats of rows that are collected before their moments are added
REACH = 0.001  # share of the grouped rows whose cosine to their centroid is below `reach`


class FineGroups(NamedTuple):
    """Fine groups of a sample, and the space and distortion in which their coding lengths are measured.

    `centroids` float32 `[F, d]`, unit rows; `basis` float32 `[d, p]`, the leading directions; `e` the squared
    distortion in their space. A row whose cosine to its centroid is below `reach` is left out of the lengths.
    `silhouettes` are those of the methods that were compared, `candidates` the published length in bits of each K.
    """

    centroids: NDArray[np.float32]
    basis: NDArray[np.float32]
    e: float
    reach: float
    method: Method
    silhouettes: dict[str, float]
    candidates: dict[int, float]

    def moments(self, blocks: Iterable[NDArray[np.float32]], nearest: Nearest, batch: int) -> tuple[Moments, int]:
        """Return the moments of the groups, by part, over blocks of unit rows `[n, d]`, and the number of rows.

        Rows are collected and added `HELD` floats at a time, because an addition visits every group.
        """
        p = self.basis.shape[1]
        parts = Moments.of(torch.zeros(0, p), torch.zeros(0, dtype=torch.int64), len(self.centroids) * PARTS)
        held, floats, rows, counted = list[tuple[Tensor, Tensor]](), 0, 0, 0
        for Z in blocks:
            group, assignment = nearest.groups(Z, batch)
            close = assignment.score >= self.reach
            part = split_groups(torch.from_numpy(group[close]), counted)
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
    replicates: list[Tree]
    choice: Choice
    main: int
    clusters: dict[int, NDArray[np.int64]]


def fine_groups(
    codes: Codes,
    *,
    n_groups: int | None = None,
    max_groups: int | None = None,
    candidates: Sequence[int] = (),
    method: Method = "auto",
    eta: float = 0.1,
    landmarks: int = 8192,
    directions: int | None = None,
    distortion: float | None = None,
    seed: int,
    gpu: bool = False,
) -> FineGroups:
    """Partition unit rows into `n_groups` groups by `partition`.

    Without `n_groups`, isolated rows are left out, because each would be a cluster by itself, and
    the others form `max_groups` groups, or `group_count` of them, by k-means if `method` is "auto". With `candidates`,
    the number of groups is the candidate whose partition of all rows has the least published length. `distortion`
    replaces the measured noise. ValueError as in `partition`.
    """
    basis = principal_directions(codes.Z, directions)
    kept, noise = exclude_isolated(codes.Z @ basis, gpu)
    e, reach, lengths = distortion or noise, -1.0, dict[int, float]()
    settings: dict[str, Any] = {"eta": eta, "landmarks": landmarks, "seed": seed, "gpu": gpu}
    if n_groups is None and candidates:
        for K in sorted(set(candidates)):
            group = torch.from_numpy(partition(codes, K, method, **settings).group)
            lengths[K] = coding_length(Moments.of(codes.Z @ basis, group, K), e, lossy_bits)
        n_groups = min(lengths, key=lengths.__getitem__)
    if n_groups is None:
        codes = Codes(codes.Z[kept], codes.C[kept])
        n_groups = min(max_groups or group_count(len(codes.Z)), len(codes.Z))
        method = "kmeans" if method == "auto" else method
    partitioned = partition(codes, n_groups, method, **settings)
    centres = centroids(codes.Z, torch.from_numpy(partitioned.group), n_groups).numpy()
    if len(codes.Z) < len(kept):
        reach = float(np.quantile(Nearest(centres, gpu)(codes.Z.numpy(), BATCH).score, REACH))
    return FineGroups(centres, basis.numpy(), e, reach, partitioned.method, partitioned.silhouettes, lengths)


def build_layers(
    e: float, parts: Moments, n_clusters: int | None, requested: Sequence[int] | Literal["auto"]
) -> Layers:
    """Build the merge tree of fine groups from their moments, by part, and cut it into layers.

    Groups without a row are in cluster 0 of every layer. ValueError if a layer has more clusters than there are groups
    with rows.
    """
    F = len(parts.count_K) // PARTS
    moments = parts.merge(torch.arange(F).repeat_interleave(PARTS), F)
    filled = moments.count_K > 0
    tree = grow(moments[filled], noise=e)
    replicates = list(jackknife_replicates(parts, tree.e))
    choice = choose_k(tree, replicates)
    main = min(n_clusters or choice.best, tree.n_groups)
    clusters = {}
    for K in layers(tree, main, requested):
        clusters[K] = np.zeros(F, np.int64)
        clusters[K][filled.numpy()] = tree.cut(K)
    return Layers(tree, replicates, choice, main, clusters)
