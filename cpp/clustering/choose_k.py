"""Choose K from the merge tree and its jackknife replicates, and choose the layers. Knows no files and no labels."""

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

FLAT = 2.0  # ratio of the interval's ends above which the data do not determine K
APART = 1.25  # least ratio of the K of two minima that are reported separately
FACTOR = 4  # approximate number of clusters that merge into one cluster of the next layer
UNCERTAIN = 10  # pairs of clusters that a person is asked about
FEWEST = 3  # approximate least number of clusters in a layer


class Choice(NamedTuple):
    """`best` is the K of least coding length; `low` and `high` bound the K of the tree and of its replicates.

    `others` are the K of further local minima in this interval. `sentence` explains the choice to a reader.
    """

    best: int
    low: int
    high: int
    others: list[int]
    sentence: str


class Layers(NamedTuple):
    """`clusters[K]` `[F]` is the cluster of each fine group in a layer, coarsest first; `main` is one of these K.

    `uncertain` are the pairs of clusters of the main layer that are least certain to be two, with the change of the
    coding length in bits if they were one.
    """

    tree: Tree
    replicates: list[Tree]
    choice: Choice
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

    The K of the main layer is `n_clusters`, or the candidate that `fine_groups` chose, or the K of least coding length.
    Groups without a row are in cluster 0 of every layer. `links` change the cuts, so a layer may have more or fewer
    clusters. ValueError if a layer has more clusters than there are groups with rows, or as in `answers.cut`.
    """
    moments = parts.merge_runs(PARTS)
    filled = moments.count_K > 0
    tree = grow(moments[filled], groups.e, refine=True)
    # K grows with the weight of the rows, and falls with their number because fewer rows make groups look tighter; at
    # the geometric mean of the retained and the full weight, replicates do not bias K
    retained = (others * (PARTS / (PARTS - 1)) ** 0.5 for _, others in leave_one_out(parts))
    replicates = [grow(m[m.count_K > 0], tree.e) for m in retained]
    choice = choose_k(tree, replicates)
    candidate = len(filled) if groups.candidates else None
    main = min(n_clusters or candidate or choice.best, tree.n_groups)
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
    return Layers(tree, replicates, choice, int(into.max()) + 1, clusters, uncertain)


def leave_one_out(parts: Moments) -> Iterator[tuple[Moments, Moments]]:
    """Yield for each part of the rows the moments of the groups in this part, and in all others together."""
    part = torch.arange(len(parts.count_K)) % PARTS
    for left_out in range(PARTS):
        yield parts[part == left_out], parts[part != left_out].merge_runs(PARTS - 1)


def choose_k(tree: Tree, replicates: Sequence[Tree]) -> Choice:
    """Choose K from the tree and its jackknife replicates."""
    candidates = [tree.best, *(replicate.best for replicate in replicates)]
    low, high = min(candidates), max(candidates)
    others = [K for K in _minima(tree)[1:] if low <= K <= high]
    sentence = f"The coding length is least at {tree.best} clusters"
    if tree.best == tree.n_groups > 1:
        sentence += ", the number of fine groups; raise partition.fine to test a larger K."
    elif high > FLAT * low:
        sentence += f", but the curve is flat from {low} to {high}."
    else:
        sentence += f"; replicates give {low} to {high}."
    if others:
        sentence += f" Other minima: {', '.join(map(str, others))}."
    return Choice(tree.best, low, high, others, sentence)


def _minima(tree: Tree) -> list[int]:
    """List the K of the local minima, the deepest first, without those that are close to a deeper one."""
    bits = np.pad(tree.bits[: tree.most], 1, constant_values=np.inf)
    inner = np.flatnonzero((bits[1:-1] < bits[:-2]) & (bits[1:-1] <= bits[2:]))
    minima = list[int]()
    for K in (inner[np.argsort(tree.bits[inner], kind="stable")] + 1).tolist():
        if all(max(K, deeper) >= APART * min(K, deeper) + 1 for deeper in minima):
            minima.append(K)
    return minima


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
