"""Merge fine groups into a tree and cut it into layers. Knows no files and no labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cpp.clustering.answers import NO_LINKS, Links, cut

if TYPE_CHECKING:
    from cpp.clustering.merge_tree import Tree
    from cpp.clustering.partition import FineGroups
    from cpp.rate_reduction.coding_rate import Moments

FEWEST = 3  # clusters of a layer where the silhouette has no peak
CUTS = 48  # coarser cuts whose silhouettes are compared, in geometric steps
BLOCK = 1024  # clusters whose distances to all others are in memory at a time
UNCERTAIN = 10  # pairs of clusters that a person is asked about


class Layers(NamedTuple):
    """`clusters[K]` `[F]` is the cluster of each fine group in a layer, coarsest first; `main` is one of these K.

    `uncertain` are the pairs of clusters of the main layer that are least certain to be two, with the change of the
    coding length in bits if they were one.
    """

    tree: Tree
    main: int
    clusters: dict[int, NDArray[np.int64]]
    uncertain: list[tuple[int, int, float]]


def build_layers(
    groups: FineGroups, parts: Moments, requested: Sequence[int] | Literal["auto"], links: Links = NO_LINKS
) -> Layers:
    """Build the merge tree of fine groups from their moments, by part, and cut it into layers.

    The clusters of the main layer are those of the partition. Groups without a row are in cluster 0 of every layer.
    `links` change the cuts, so a layer may have more or fewer clusters. ValueError if a layer has more clusters than
    there are groups with rows, or as in `answers.cut`.
    """
    import torch

    from cpp.clustering.merge_tree import grow, least_certain
    from cpp.clustering.partition import PARTS

    moments = parts.merge_runs(PARTS)
    filled = moments.count_K > 0
    rows, cluster = moments[filled], groups.cluster[filled.numpy()]
    tree = grow(rows, groups.e, refine=True, cluster=cluster)
    main, links = len(np.unique(cluster)), links.among(filled.numpy())
    cuts = {K: cut(tree, K, links) for K in layers(tree, rows, main, requested)}
    into = torch.from_numpy(cuts[main])
    merged, answered = (
        rows.merge(into, int(into.max()) + 1),
        {frozenset(into[[*p]].tolist()) for p in links.different},
    )
    pairs = least_certain(merged, tree.e, UNCERTAIN + len(answered))
    uncertain = [pair for pair in pairs if {*pair[:2]} not in answered][:UNCERTAIN]
    clusters = {}
    for within in cuts.values():
        K = int(within.max()) + 1
        clusters[K] = np.zeros(len(filled), np.int64)
        clusters[K][filled.numpy()] = within
    return Layers(tree, int(into.max()) + 1, clusters, uncertain)


def leave_one_out(parts: Moments) -> Iterator[tuple[Moments, Moments]]:
    """Yield for each part of the rows the moments of the groups in this part, and in all others together."""
    import torch

    from cpp.clustering.partition import PARTS

    part = torch.arange(len(parts.count_K)) % PARTS
    for left_out in range(PARTS):
        yield parts[part == left_out], parts[part != left_out].merge_runs(PARTS - 1)


def layers(tree: Tree, groups: Moments, n_clusters: int, requested: Sequence[int] | Literal["auto"]) -> list[int]:
    """List the K of every layer, the coarsest first, `n_clusters` included.

    `auto` adds coarser layers: the K between an eighth and a half of the layer before where the silhouette of the cut
    has its highest peak, or a quarter of the layer before, and at least `FEWEST`, if it has none there.
    ValueError if a requested layer has more clusters than the tree has groups.
    """
    if requested != "auto":
        if excessive := [K for K in requested if tree.n_groups < K]:
            raise ValueError(
                f"partition.layers has {excessive[0]}, but there are only {tree.n_groups} fine groups: "
                "raise partition.fine, or remove the layer"
            )
        return sorted({n_clusters, *requested})
    chosen, K = [n_clusters], np.unique(np.geomspace(2, max(n_clusters // 2, 2), CUTS).round().astype(np.int64))
    curve = np.array([mean_silhouette(groups, tree.cut(k)) for k in K]) if n_clusters > 2 else np.zeros(1)
    is_peak = np.diff(curve, prepend=-np.inf) > 0
    is_peak &= np.diff(curve, append=np.inf) < 0  # not at the end, beyond which there may be a higher value
    while True:
        peaks = np.flatnonzero(is_peak & (chosen[0] / 8 <= K) & (chosen[0] / 2 >= K))
        coarser = int(K[peaks[curve[peaks].argmax()]]) if len(peaks) else round(chosen[0] / 4)
        if coarser < (2 if len(peaks) else FEWEST):
            return chosen
        chosen.insert(0, coarser)


def mean_silhouette(groups: Moments, cluster: NDArray[np.int64]) -> float:
    """Mean silhouette of the clusters of groups with unit rows, from -1 to 1, with one value for all rows of a cluster.

    The mean cosine distance between the rows of two clusters is one minus the product of their means, so the sums are
    enough. Rousseeuw, "Silhouettes", 1987.
    """
    import torch

    into = torch.from_numpy(cluster)
    count = torch.zeros(int(into.max()) + 1, dtype=torch.float64).index_add_(0, into, groups.count_K)
    sums = torch.zeros(len(count), groups.sum_Kd.shape[1], dtype=torch.float64).index_add_(0, into, groups.sum_Kd)
    mean = sums / count[:, None]
    within = (1 - mean.square().sum(1)) * count / (count - 1).clamp_min(1)
    nearest = torch.empty_like(within)
    for rows in torch.arange(len(count)).split(BLOCK):
        distance = 1 - mean[rows] @ mean.mT
        distance[torch.arange(len(rows)), rows] = torch.inf
        nearest[rows] = distance.min(1).values
    silhouette = (nearest - within) / torch.maximum(nearest, within).clamp_min(1e-12)
    return float((silhouette * count)[count > 1].sum() / count.sum())


def parents(finer: NDArray[np.int64], coarser: NDArray[np.int64]) -> NDArray[np.int64]:
    """Map each cluster of a layer to its cluster in a coarser layer; both arguments are by fine group, `[F]`."""
    parent = np.zeros(finer.max() + 1, np.int64)
    parent[finer] = coarser
    return parent
