"""Merge fine groups into a tree: a partition, and its coding length, for every K. From `Moments` alone.

The pair whose merge lowers the coding length most, or raises it least, comes next (Ma et al., TPAMI 29(9), 2007,
algorithm 1), among neighbours only, so the cost does not grow with the square of the number of groups. When no merge
lowers the length any more, groups of fewer than ten rows come first: in many dimensions a few isolated rows cost little
by themselves, but they are no cluster.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpp.clustering.coding_length import NEIGHBOURS, STEP, evidence_bits, label_bits, prefers_finer
from cpp.rate_reduction.coding_rate import Moments

NEAR = 10  # nearest groups that a group may merge with
SKETCH = 512  # dimensions for the comparison of Gram matrices
DENSE = 32_768  # groups up to which the products of all pairs are kept, in 4 GiB; above, they are computed as needed
_CHUNK_FLOATS = 2**19  # in one stack of d x d matrices, which stays in the CPU cache


class Tree(NamedTuple):
    """Merge t makes group F + t from the two in `merged[t]`, int64 `[F - 1, 2]`, as in SciPy's linkage.

    `bits[K - 1]` is the coding length with K clusters, K from 1 to F, at the squared distortion `e`. With up to `most`
    clusters every cluster has at least ten rows (`most` is 1 if there are fewer rows).
    """

    merged: NDArray[np.int64]
    bits: NDArray[np.float64]
    e: float
    most: int

    @property
    def n_groups(self) -> int:
        return len(self.bits)

    @property
    def best(self) -> int:
        """The K with the least coding length, among those with ten rows in every cluster."""
        return int(self.bits[: self.most].argmin()) + 1

    def cut(self, n_clusters: int) -> NDArray[np.int64]:
        """The cluster of each fine group, `[F]`, numbered by its first group. ValueError unless 1 <= K <= F."""
        F = self.n_groups
        if not 1 <= n_clusters <= F:
            raise ValueError(f"cannot cut {F} groups into {n_clusters} clusters: K must be from 1 to {F}")
        into = np.arange(F + len(self.merged))
        for t in range(F - n_clusters - 1, -1, -1):
            into[self.merged[t]] = into[F + t]
        _, first, cluster = np.unique(into[:F], return_index=True, return_inverse=True)
        return np.argsort(np.argsort(first))[cluster]


def grow(moments: Moments, e: float, refine: bool = False, cluster: NDArray[np.int64] | None = None) -> Tree:
    """Build the merge tree of groups, each with rows, at the squared distortion `e`.

    With `cluster` `[F]`, the groups of each cluster are merged before any groups of different clusters, so the cut at
    the number of clusters gives these clusters.
    With `refine`, the distortion is halved as long as `coding_length.prefers_finer` holds for the clusters at the best
    K, and the groups are then merged again. One thread works, because for matrices this small threads would only wait
    for each other.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        while True:
            tree = _Merging(moments, e, cluster).tree()
            clusters = moments.merge(torch.from_numpy(tree.cut(tree.best)), tree.best)
            while refine and prefers_finer(clusters, e):
                e /= STEP
            if e == tree.e:
                return tree
    finally:
        torch.set_num_threads(threads)


def least_certain(moments: Moments, e: float, n: int) -> list[tuple[int, int, float]]:
    """The `n` pairs of neighbouring clusters whose merge changes the coding length least, with the change in bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        merging = _Merging(moments, e)
        merging._push(sorted(set(merging._nearest(range(len(moments.count_K)))) if len(moments.count_K) > 1 else []))
    finally:
        torch.set_num_threads(threads)
    return [(a, b, cost) for _, cost, a, b in sorted(merging.heap, key=lambda entry: abs(entry[1]))[:n]]


def affinity(moments: Moments) -> Tensor:
    """Cosine between the Gram matrices of every two groups, `[K, K]`: the similarity of their directions."""
    sketch = _sketch(moments)
    products = sketch @ sketch.mT
    scale = products.diagonal().clamp_min(1e-30).rsqrt()
    return products * scale[:, None] * scale


def _sketch(moments: Moments) -> Tensor:
    """Rows `[K, s]` whose dot products are <G_i, G_j>: the sum of (z . z')^2 over the rows of both groups.

    Above `SKETCH` dimensions by a random projection. Linear: the row of a merged group is the sum of its parts' rows.
    """
    d = moments.sum_Kd.shape[1]
    blocks = moments.gram_Kdd.flatten(1).split(max(1, _CHUNK_FLOATS // (d * d)))  # all in float32 would be a copy
    if d * d <= 4 * SKETCH:
        return torch.cat([G.to(torch.float32) for G in blocks])
    random = torch.randn(d * d, SKETCH, generator=torch.Generator().manual_seed(0)) / math.sqrt(SKETCH)
    return torch.cat([G.to(torch.float32) @ random for G in blocks])


class _Merging:
    """The current groups, and a heap of the cost of merging two of them.

    A group is a row of the tensors; a merged group takes the row of its first part. Lists have an entry for every
    number of a group, merged ones included, and `row` the current groups by number.
    """

    def __init__(self, moments: Moments, e: float, cluster: NDArray[np.int64] | None = None) -> None:
        F, d = moments.sum_Kd.shape
        self.cluster = torch.zeros(F, dtype=torch.int64) if cluster is None else torch.from_numpy(cluster)  # by row
        self.unmerged = self.cluster.bincount()  # groups of each cluster
        self.e, self.n_rows, self.chunk = e, float(moments.count_K.sum()), max(1, _CHUNK_FLOATS // (d * d))
        self.moments = moments * 1.0  # a copy, which the merges change
        self.row = {k: k for k in range(F)}
        self.number = list(range(F))  # of the group in a row
        self.count: list[float] = moments.count_K.tolist()
        self.length = self._lengths([(k,) for k in range(F)])
        self.total, self.merged = [sum(self.length)], list[tuple[int, int]]()
        self.heap: list[tuple[int, float, int, int]] = []  # the rank of the merge, its cost, the two groups
        self.sketch = _sketch(moments)
        self.products = self.sketch @ self.sketch.mT if F <= DENSE else None
        squares = self.sketch.square().sum(1) if self.products is None else self.products.diagonal()
        self.scale = squares.clamp_min(1e-30).rsqrt()
        self.gone = torch.zeros_like(self.scale)  # -inf for a row without a group

    def tree(self) -> Tree:
        """Merge all groups."""
        while len(self.row) > 1:
            goal = max(1, len(self.row) * 3 // 4)  # after that some groups have lost all their neighbours
            self.heap = sorted(entry for entry in self.heap if entry[2] in self.row and entry[3] in self.row)
            blocks = torch.tensor(list(self.row)).split(256)
            pairs = {pair for block in blocks for pair in self._nearest(block.tolist())}
            self._push(sorted(pairs - {entry[2:] for entry in self.heap}))
            while self.heap and len(self.row) > goal:
                _, cost, a, b = heapq.heappop(self.heap)
                if a in self.row and b in self.row:
                    self._merge(cost, a, b)
        merged = np.array(self.merged, np.int64).reshape(-1, 2)
        with_small = np.flatnonzero((np.array(self.count)[merged] < NEIGHBOURS).any(1))  # merges of small groups
        most = len(merged) - int(with_small.max(initial=-1))
        return Tree(merged, np.array(self.total[::-1]), self.e, most)

    def _lengths(self, unions: Sequence[tuple[int, ...]]) -> list[float]:
        """Coding length of every union of groups, with the labels of its rows."""
        lengths = list[float]()
        for i in range(0, len(unions), self.chunk):
            columns = zip(*unions[i : i + self.chunk], strict=True)
            first, *others = (self.moments[[self.row[k] for k in column]] for column in columns)
            m = sum(others, first)
            lengths += (evidence_bits(m, self.e) + label_bits(m.count_K, self.n_rows)).tolist()
        return lengths

    def _push(self, pairs: Sequence[tuple[int, int]]) -> None:
        for (a, b), length in zip(pairs, self._lengths(pairs), strict=True):
            cost = length - self.length[a] - self.length[b]
            apart = self.cluster[self.row[a]] != self.cluster[self.row[b]]
            deferred = cost > 0 and min(self.count[a], self.count[b]) >= NEIGHBOURS
            heapq.heappush(self.heap, (2 * int(apart) + deferred, cost, a, b))

    def _nearest(self, numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Pairs of each of these groups and its neighbours, in its cluster as long as it is in parts, smaller first."""
        rows = torch.tensor([self.row[k] for k in numbers])
        products = self.sketch[rows] @ self.sketch.mT if self.products is None else self.products[rows]
        near = products * self.scale + self.gone
        near[torch.arange(len(rows)), rows] = -torch.inf
        own = self.cluster[rows][:, None]
        near[(self.unmerged[own] > 1) & (self.cluster != own)] = -torch.inf
        nearest = near.topk(min(NEAR, len(self.row) - 1))
        for i, column in (nearest.values > -torch.inf).nonzero().tolist():
            k, other = numbers[i], self.number[int(nearest.indices[i, column])]
            yield min(k, other), max(k, other)

    def _merge(self, cost: float, a: int, b: int) -> None:
        new, kept, lost = len(self.count), self.row.pop(a), self.row.pop(b)
        self.unmerged[self.cluster[lost]] -= 1
        self.row[new], self.number[kept], self.gone[lost] = kept, new, -torch.inf
        for part in (self.moments.count_K, self.moments.sum_Kd, self.moments.gram_Kdd):
            part[kept] += part[lost]
        self.count.append(self.count[a] + self.count[b])
        self.length.append(self.length[a] + self.length[b] + cost)
        self.total.append(self.total[-1] + cost)
        self.merged.append((a, b))
        if self.products is None:
            self.sketch[kept] += self.sketch[lost]
            square = self.sketch[kept].square().sum()
        else:
            products = self.products[kept] + self.products[lost]
            products[kept] += products[lost]
            self.products[kept] = self.products[:, kept] = products
            square = products[kept]
        self.scale[kept] = square.clamp_min(1e-30).rsqrt()
        self._push(list(self._nearest([new])))
