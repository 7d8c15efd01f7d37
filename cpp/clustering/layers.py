"""Merge fine groups into a tree and cut it into layers. Knows no files and no labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from cpp.clustering.answers import NO_LINKS, Links, cut
from cpp.clustering.merge_tree import Tree, grow, least_certain
from cpp.clustering.partition import PARTS, FineGroups
from cpp.rate_reduction.coding_rate import Moments

FACTOR = 4  # approximate number of clusters that merge into one cluster of the next layer
UNCERTAIN = 10  # pairs of clusters that a person is asked about
FEWEST = 3  # approximate least number of clusters in a layer


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
    groups: FineGroups,
    parts: Moments,
    n_clusters: int | None,
    requested: Sequence[int] | Literal["auto"],
    links: Links = NO_LINKS,
) -> Layers:
    """Build the merge tree of fine groups from their moments, by part, and cut it into layers.

    The K of the main layer is `n_clusters`; None makes every group a cluster. Groups without a row are in cluster 0 of
    every layer. `links` change the cuts, so a layer may have more or fewer clusters. ValueError if a layer has more
    clusters than there are groups with rows, or as in `answers.cut`.
    """
    moments = parts.merge_runs(PARTS)
    filled = moments.count_K > 0
    tree = grow(moments[filled], groups.e, refine=True)
    main = min(n_clusters or len(filled), tree.n_groups)
    links = links.among(filled.numpy())
    cuts = {K: cut(tree, K, links) for K in layers(tree, main, requested)}
    into = torch.from_numpy(cuts[main])
    merged, answered = (
        moments[filled].merge(into, int(into.max()) + 1),
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
    part = torch.arange(len(parts.count_K)) % PARTS
    for left_out in range(PARTS):
        yield parts[part == left_out], parts[part != left_out].merge_runs(PARTS - 1)


def layers(tree: Tree, n_clusters: int, requested: Sequence[int] | Literal["auto"]) -> list[int]:
    """List the K of every layer, the coarsest first, `n_clusters` included.

    `auto` adds coarser layers. Each has about a quarter of the clusters of the one before, at the K near that number
    where the cost of the next merge rises most, and the last has about `FEWEST` clusters. ValueError if a requested
    layer has more clusters than the tree has groups.
    """
    if requested != "auto":
        if excessive := [K for K in requested if tree.n_groups < K]:
            raise ValueError(
                f"partition.layers has {excessive[0]}, but there are only {tree.n_groups} fine groups: "
                "raise partition.fine, or remove the layer"
            )
        return sorted({n_clusters, *requested})
    chosen = [n_clusters]
    changes = np.diff(tree.bits, prepend=np.inf)  # changes[K - 1] is bits(K) - bits(K - 1)
    while (target := chosen[0] / FACTOR) >= FEWEST:
        near = np.arange(max(2, round(target / 1.5)), max(3, round(target * 1.5) + 1))
        chosen.insert(0, int(near[(changes[near] - changes[near - 1]).argmax()]))
    return chosen


def parents(finer: NDArray[np.int64], coarser: NDArray[np.int64]) -> NDArray[np.int64]:
    """Map each cluster of a layer to its cluster in a coarser layer; both arguments are by fine group, `[F]`."""
    parent = np.zeros(finer.max() + 1, np.int64)
    parent[finer] = coarser
    return parent
