"""Which K: the least coding length of a tree, how sure that is, and the layers around it. Knows no files, no labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpp.clustering.merge_tree import Tree, grow
from cpp.rate_reduction.coding_rate import Moments

PARTS = 5  # of the rows; the interval comes from leaving out one after the other
FLAT = 2.0  # upper end of the interval over its lower: beyond it the data do not say
APART = 1.25  # K of two minima that are worth a word, at least so far from each other
FACTOR = 4  # about so many clusters of a layer come together in the next
FEWEST = 3  # clusters, about, of a layer that is worth showing


class Choice(NamedTuple):
    """`best` is K of the least coding length; `low` and `high` are the least and largest of those of subsamples, too.

    `others` are K of further minima whose length, is in between. `sentence` says it in plain words.
    """

    best: int
    low: int
    high: int
    others: list[int]
    sentence: str


def jackknife_replicates(parts: Moments, e: float) -> Iterator[Tree]:
    """Trees of all rows but one part of them, for each part; `parts` are as from `split_groups`.

    K grows with the rows that are counted, and shrinks with those that are known: fewer make groups look tighter. Rows
    are counted half way, by the geometric mean, between those that are there and all, which keeps K where it was.
    """
    n_groups = len(parts.count_K) // PARTS
    for left_out in range(PARTS):
        kept = torch.arange(n_groups * PARTS) % PARTS != left_out
        into = torch.arange(n_groups).repeat_interleave(PARTS - 1)
        moments = parts[kept].merge(into, n_groups) * (PARTS / (PARTS - 1)) ** 0.5
        yield grow(moments[moments.count_K > 0], e)


def split_groups(group_n: Tensor, first: int = 0) -> Tensor:
    """Numbers of groups that are cut into `PARTS` each, row by row in turn; `first` rows came before."""
    return group_n * PARTS + (torch.arange(len(group_n)) + first) % PARTS


def choose_k(tree: Tree, draws: Sequence[Tree]) -> Choice:
    """What the tree and its those of subsamples say of K."""
    found = sorted([tree.best, *(draw.best for draw in draws)])
    low, high = found[0], found[-1]
    others = [K for K in _minima(tree) if low <= K <= high and not _close(K, tree.best)]
    if tree.best == tree.n_groups > 1:
        said = f"The coding length is least with all {tree.n_groups} groups; a larger partition.fine would show more."
    elif high > FLAT * low:
        said = f"The curve is flat: anything from {low} to {high} clusters is about as good as {tree.best}."
    else:
        said = f"The coding length is least at {tree.best} clusters; subsamples put it between {low} and {high}."
    if others:
        said += f" Other minima: {', '.join(map(str, others))}."
    return Choice(tree.best, low, high, others, said)


def _close(a: int, b: int) -> bool:
    return max(a, b) < APART * min(a, b) + 1


def _minima(tree: Tree) -> list[int]:
    """K of the local minima of the curve, the deepest first, none close to a deeper one."""
    bits = np.concatenate([[np.inf], tree.bits[: tree.most], [np.inf]])
    inner = np.flatnonzero((bits[1:-1] < bits[:-2]) & (bits[1:-1] <= bits[2:]))
    kept: list[int] = []
    for K in inner[np.argsort(tree.bits[inner], kind="stable")] + 1:
        if not any(_close(int(K), other) for other in kept):
            kept.append(int(K))
    return kept


def layers(tree: Tree, n_clusters: int, asked: Sequence[int] | Literal["auto"]) -> list[int]:
    """K of every layer, the coarsest first; `n_clusters` is always one of them.

    `auto` goes up from there: of about a quarter of the clusters, that K at which the next merge costs most more than
    the one before it, until about `FEWEST` are left. ValueError for more clusters than there are groups.
    """
    if asked != "auto":
        if over := [K for K in asked if tree.n_groups < K]:
            raise ValueError(
                f"partition.layers has {over[0]}, and there are {tree.n_groups} fine groups: "
                "raise partition.fine, or take the layer out"
            )
        return sorted({n_clusters, *asked})
    found = [n_clusters]
    cost = np.diff(tree.bits, prepend=np.inf)  # cost[K - 1] is bits(K) - bits(K - 1): what splitting into K brings
    while (middle := found[0] / FACTOR) >= FEWEST:
        near = np.arange(max(2, round(middle / 1.5)), max(3, round(middle * 1.5) + 1))
        found.insert(0, int(near[(cost[near] - cost[near - 1]).argmax()]))
    return found


def parents(finer: NDArray[np.int64], coarser: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of each cluster of a layer, the one of the coarser layer that it is in; both are by fine group, `[F]`."""
    above = np.zeros(finer.max() + 1, np.int64)
    above[finer] = coarser
    return above
