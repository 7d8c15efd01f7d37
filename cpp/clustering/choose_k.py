"""Choose K from the merge tree and its jackknife replicates, and K of the layers. Knows no files and no labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpp.clustering.merge_tree import Tree, grow
from cpp.rate_reduction.coding_rate import Moments

PARTS = 5  # parts of the rows; each jackknife replicate leaves out one of them
FLAT = 2.0  # ratio of the ends of the interval from which the data do not determine K
APART = 1.25  # least ratio of K at two minima that are both reported
FACTOR = 4  # about this many clusters of a layer form one of the next coarser layer
FEWEST = 3  # about the least number of clusters in a layer


class Choice(NamedTuple):
    """`best` is the K with the least coding length; `low` and `high` bound it and the best K of the replicates.

    `others` are further minima of the curve between `low` and `high`. `sentence` says this in words.
    """

    best: int
    low: int
    high: int
    others: list[int]
    sentence: str


def jackknife_replicates(parts: Moments, e: float) -> Iterator[Tree]:
    """Jackknife replicates: merge trees of all rows except one part, for each part. `parts` come from `split_groups`.

    The best K grows with the number of counted rows, and shrinks with the number of seen rows, because fewer rows make
    groups look tighter. Rows are weighted by the geometric mean of both numbers, which keeps K unbiased.
    """
    n_groups = len(parts.count_K) // PARTS
    for left_out in range(PARTS):
        kept = torch.arange(n_groups * PARTS) % PARTS != left_out
        into = torch.arange(n_groups).repeat_interleave(PARTS - 1)
        moments = parts[kept].merge(into, n_groups) * (PARTS / (PARTS - 1)) ** 0.5
        yield grow(moments[moments.count_K > 0], e)


def split_groups(group_n: Tensor, first: int = 0) -> Tensor:
    """The part of each row: group * PARTS + the row number modulo PARTS. `first` rows came before these."""
    return group_n * PARTS + (torch.arange(len(group_n)) + first) % PARTS


def choose_k(tree: Tree, draws: Sequence[Tree]) -> Choice:
    """Choose K from the tree and its jackknife replicates."""
    found = sorted([tree.best, *(draw.best for draw in draws)])
    low, high = found[0], found[-1]
    others = [K for K in _minima(tree) if low <= K <= high and not _close(K, tree.best)]
    if tree.best == tree.n_groups > 1:
        sentence = (
            f"The coding length is least with all {tree.n_groups} groups; a larger partition.fine would show more."
        )
    elif high > FLAT * low:
        sentence = f"The curve is flat: anything from {low} to {high} clusters is about as good as {tree.best}."
    else:
        sentence = f"The coding length is least at {tree.best} clusters; subsamples put it between {low} and {high}."
    if others:
        sentence += f" Other minima: {', '.join(map(str, others))}."
    return Choice(tree.best, low, high, others, sentence)


def _close(a: int, b: int) -> bool:
    return max(a, b) < APART * min(a, b) + 1


def _minima(tree: Tree) -> list[int]:
    """K at the local minima of the curve, the deepest first, without those close to a deeper one."""
    bits = np.concatenate([[np.inf], tree.bits[: tree.most], [np.inf]])
    inner = np.flatnonzero((bits[1:-1] < bits[:-2]) & (bits[1:-1] <= bits[2:]))
    kept: list[int] = []
    for K in inner[np.argsort(tree.bits[inner], kind="stable")] + 1:
        if not any(_close(int(K), other) for other in kept):
            kept.append(int(K))
    return kept


def layers(tree: Tree, n_clusters: int, asked: Sequence[int] | Literal["auto"]) -> list[int]:
    """K of every layer, the coarsest first, `n_clusters` among them. ValueError for more clusters than groups.

    `auto` adds coarser layers until about `FEWEST` clusters remain: near a quarter of the K before, the K at which the
    cost of the next merge increases most.
    """
    if asked != "auto":
        if over := [K for K in asked if tree.n_groups < K]:
            raise ValueError(
                f"partition.layers has {over[0]}, and there are {tree.n_groups} fine groups: "
                "raise partition.fine, or remove the layer"
            )
        return sorted({n_clusters, *asked})
    chosen = [n_clusters]
    cost = np.diff(tree.bits, prepend=np.inf)  # cost[K - 1] is bits(K) - bits(K - 1)
    while (middle := chosen[0] / FACTOR) >= FEWEST:
        near = np.arange(max(2, round(middle / 1.5)), max(3, round(middle * 1.5) + 1))
        chosen.insert(0, int(near[(cost[near] - cost[near - 1]).argmax()]))
    return chosen


def parents(finer: NDArray[np.int64], coarser: NDArray[np.int64]) -> NDArray[np.int64]:
    """The parent of each cluster: its cluster in the coarser layer. Both layers are given by fine group, `[F]`."""
    parent = np.zeros(finer.max() + 1, np.int64)
    parent[finer] = coarser
    return parent
