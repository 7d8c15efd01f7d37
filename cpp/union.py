"""Rows in memory that are a union of subspaces or of Gaussian clusters, in any mixture with noise -> K and clusters.

Fine groups are of rows on about the same line through the origin, whichever side they are on: in a subspace neighbours
are no closer than that. Then the tree of merges, and rows that are recoded and clusters that are merged in turn until
neither lowers K. For rows as they are; the codes of images are one bunch a cluster, which `cpp.layers` takes.

Source of the lines: k-means with means up to their sign, K-subspaces of dimension one (Bradley, Mangasarian, "k-plane
clustering", 2000).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from cpp.coding import NEIGHBOURS, together
from cpp.partition import fine_groups
from cpp.recode import STRAY, Rows, recode, renumber, without_strays
from cpp.tree import Tree, grow

STEPS = 15  # of k-means
CANDIDATES = 20  # lines near a row, whose clusters it may join
TWICE = 2  # so many times K clusters are recoded first: what was merged too early can come apart
PASSES = 4  # over the rows, between two trees
TREES = 6  # at most
_BLOCK = 4096


class Union(NamedTuple):
    """The cluster of each row, int64 `[n]`, -1 for none; K; the squared distortion `e` that lengths are measured at."""

    cluster: Tensor
    n_clusters: int
    e: float


def union(Z_nd: Tensor, seed: int) -> Union:
    """K and the clusters of least coding length; each has ten rows at least. ValueError for fewer than two rows."""
    n = len(Z_nd)
    if n < 2:
        raise ValueError(f"a union needs at least 2 rows, got {n}")
    group, near = lines(Z_nd, fine_groups(n), seed)
    rows = Rows(Z_nd, group, near)
    tree = grow(rows.moments(group), noise=together(normalize(Z_nd))[1])
    many = max(TWICE * tree.best, _least(tree))
    cluster = torch.from_numpy(tree.cut(min(tree.n_groups, many)))[group]
    for _ in range(TREES):
        cluster = _recoded(rows, cluster, tree.e)
        before = int(cluster.max()) + 1
        if before:
            tree = grow(rows.moments(cluster), noise=tree.e)
            merged = torch.from_numpy(tree.cut(_least(tree)))
            cluster = renumber(torch.where(cluster == STRAY, STRAY, merged[cluster]), NEIGHBOURS)
        n_clusters = int(cluster.max()) + 1
        if not n_clusters:  # nothing stands out from all rows, so that is the cluster
            return Union(torch.zeros(n, dtype=torch.int64), 1, tree.e)
        if n_clusters == before:
            break
    return Union(cluster, n_clusters, tree.e)


def _least(tree: Tree) -> int:
    """K of the least length, even with clusters of a few rows: those that belong to nothing shall not join another."""
    return int(tree.bits.argmin()) + 1


def _recoded(rows: Rows, cluster_n: Tensor, e: float) -> Tensor:
    for _ in range(PASSES):
        before, cluster_n = cluster_n, renumber(recode(rows, cluster_n, e), 1)
        if torch.equal(before, cluster_n) or not (cluster_n != STRAY).any():
            break
    return without_strays(rows, cluster_n, e)


def lines(Z_nd: Tensor, n_lines: int, seed: int) -> tuple[Tensor, Tensor]:
    """The line that each row is nearest to, `[n]`, by k-means on squared cosines, and the lines near it, `[n, c]`.

    Lines without rows are left out; the others are numbered without gaps.
    """
    U = normalize(Z_nd)
    centres = U[torch.randperm(len(U), generator=torch.Generator().manual_seed(seed))[:n_lines]]
    for _ in range(STEPS):
        cosine, line = _nearest(U, centres, 1)
        sums = torch.zeros_like(centres).index_add_(0, line[:, 0], U * cosine.sign())
        centres = normalize(sums[torch.bincount(line[:, 0], minlength=len(centres)) > 0])
    line = _nearest(U, centres, 1)[1][:, 0]
    there, line = torch.unique(line, return_inverse=True)
    return line, _nearest(U, centres[there], min(CANDIDATES, len(there)))[1]


def _nearest(U: Tensor, centres: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Cosines and numbers, `[n, k]`, of the lines at the smallest angle to each row."""
    cosines, numbers = list[Tensor](), list[Tensor]()
    for block in U.split(_BLOCK):
        cosine = block @ centres.mT
        numbers.append(cosine.abs().topk(k).indices)
        cosines.append(cosine.gather(1, numbers[-1]))
    return torch.cat(cosines), torch.cat(numbers)
