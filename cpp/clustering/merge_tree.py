"""Merges fine groups into a tree: a partition, and its coding length, for every K. From `Moments` alone.

Greedy: the pair whose merge lowers the coding length most, or raises it least, comes next (Ma et al., TPAMI 29(9),
2007, algorithm 1). Only neighbours are compared, so the cost grows with the number of groups and not with its square.
When no merge lowers the length any more, groups of fewer than ten rows are merged before all others: in many dimensions
a few isolated rows cost little by themselves, but they are no cluster.
"""

from __future__ import annotations

import functools
import heapq
import math
import operator
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpp.clustering.coding_length import NEIGHBOURS, STEP, Bits, evidence_bits, label_bits, prefers_finer
from cpp.rate_reduction.coding_rate import Moments

NEAR = 10  # nearest groups that a group may merge with
SKETCH = 512  # dimensions for the comparison of Gram matrices
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


def grow(moments: Moments, e: float | None = None, noise: float = 0.1, bits: Bits = evidence_bits) -> Tree:
    """Build the merge tree of groups at the squared distortion `e`. ValueError if a group has no rows.

    Without `e`, the distortion starts at `noise`. It is halved as long as `coding_length.prefers_finer` holds for the
    clusters at the best K, and the groups are then merged again.
    """
    if not (moments.count_K > 0).all():
        raise ValueError(f"{int((moments.count_K <= 0).sum())} groups have no rows: remove them")
    if e is not None:
        return _Merging(moments, e, bits).tree()
    e = noise
    while True:
        tree = _Merging(moments, e, bits).tree()
        clusters = moments.merge(torch.from_numpy(tree.cut(tree.best)), tree.best)
        while prefers_finer(clusters, e):
            e /= STEP
        if e == tree.e:
            return tree


def affinity(moments: Moments) -> Tensor:
    """Cosine between the Gram matrices of every two groups, `[K, K]`: the similarity of their directions."""
    products = _products(moments)
    scale = products.diagonal().clamp_min(1e-30).rsqrt()
    return products * scale[:, None] * scale


def _products(moments: Moments) -> Tensor:
    """<G_i, G_j> of every two groups, float32 `[K, K]`: the sum of (z . z')^2 over the rows of both.

    Above `SKETCH` dimensions by a random projection. Bilinear: the products of a merged group are sums.
    """
    d = moments.sum_Kd.shape[1]
    random = None
    if d * d > 4 * SKETCH:
        generator = torch.Generator().manual_seed(0)
        random = torch.randn(d * d, SKETCH, generator=generator).to(moments.gram_Kdd.device) / math.sqrt(SKETCH)
    parts = []
    for G in moments.gram_Kdd.split(max(1, _CHUNK_FLOATS // (d * d))):  # all of them in float32 would be a copy
        flat = G.flatten(1).to(torch.float32)
        parts.append(flat if random is None else flat @ random)
    sketch = torch.cat(parts)
    return sketch @ sketch.mT


class _Merging:
    """The current groups by number, and a heap of the cost of merging two of them."""

    def __init__(self, moments: Moments, e: float, bits: Bits) -> None:
        F, d = moments.sum_Kd.shape
        self.n, self.e, self.bits = float(moments.count_K.sum()), e, bits
        self.chunk = max(1, _CHUNK_FLOATS // (d * d))
        self.groups = {k: moments[k : k + 1] for k in range(F)}
        self.own = dict(enumerate(self._lengths([(k,) for k in range(F)])))
        self.total, self.merged = [sum(self.own.values())], list[tuple[int, int]]()
        self.heap: list[tuple[bool, float, int, int]] = []  # whether the merge is deferred, its cost, the two groups
        self.small = {k for k, count in enumerate(moments.count_K.tolist()) if count < NEIGHBOURS}
        self.most = 1 if self.small else F
        self.row = {k: k for k in range(F)}  # row of a group in `products`; a merged group takes that of its first part
        self.at = list(range(F))  # group of a row
        self.products = _products(moments)
        self.scale = self.products.diagonal().clamp_min(1e-30).rsqrt()
        self.gone = torch.zeros_like(self.scale)  # -inf for a row without a group

    def tree(self) -> Tree:
        """Merge all groups. In one thread, because for matrices this small threads would only wait for each other."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return self._tree()
        finally:
            torch.set_num_threads(threads)

    def _tree(self) -> Tree:
        F = len(self.groups)
        while len(self.groups) > 1:
            goal = len(self.groups) * 3 // 4  # after that some groups have lost all their neighbours
            self._find_neighbours()
            while self.heap and len(self.groups) > max(1, goal):
                _, cost, a, b = heapq.heappop(self.heap)
                if a in self.groups and b in self.groups:
                    self._merge(cost, a, b, F + len(self.merged))
        merged = np.array(self.merged, np.int64).reshape(-1, 2)
        return Tree(merged, np.array(self.total[::-1]), self.e, self.most)

    def _lengths(self, unions: Sequence[tuple[int, ...]]) -> list[float]:
        """Coding length of every union of groups, with the labels of its rows."""
        lengths = list[float]()
        for i in range(0, len(unions), self.chunk):
            parts = [_stack([self.groups[k] for k in ks]) for ks in zip(*unions[i : i + self.chunk], strict=True)]
            m = functools.reduce(operator.add, parts)
            lengths += (self.bits(m, self.e) + label_bits(m.count_K, self.n)).tolist()
        return lengths

    def _push(self, pairs: Sequence[tuple[int, int]]) -> None:
        for (a, b), length in zip(pairs, self._lengths(pairs), strict=True):
            cost = length - self.own[a] - self.own[b]
            heapq.heappush(self.heap, (cost > 0 and self.small.isdisjoint((a, b)), cost, a, b))

    def _nearest(self, ids: list[int]) -> Iterator[tuple[int, int]]:
        """Pairs of each of these groups and its neighbours, the smaller number first."""
        rows = torch.tensor([self.row[k] for k in ids])
        near = self.products[rows] * self.scale + self.gone
        near[torch.arange(len(rows)), rows] = -torch.inf
        for k, others in zip(ids, near.topk(min(NEAR, len(self.groups) - 1)).indices.tolist(), strict=True):
            yield from ((min(k, self.at[other]), max(k, self.at[other])) for other in others)

    def _find_neighbours(self) -> None:
        self.heap = [entry for entry in self.heap if entry[2] in self.groups and entry[3] in self.groups]
        heapq.heapify(self.heap)
        ids = list(self.groups)
        pairs = {pair for i in range(0, len(ids), 256) for pair in self._nearest(ids[i : i + 256])}
        self._push(sorted(pairs - {entry[2:] for entry in self.heap}))

    def _merge(self, cost: float, a: int, b: int, new: int) -> None:
        self.groups[new] = self.groups.pop(a) + self.groups.pop(b)
        self.own[new] = self.own.pop(a) + self.own.pop(b) + cost
        self.merged.append((a, b))
        self.total.append(self.total[-1] + cost)
        self.small -= {a, b}
        if float(self.groups[new].count_K) < NEIGHBOURS:
            self.small.add(new)
        elif not self.small and self.most == 1:
            self.most = len(self.groups)
        kept, lost = self.row.pop(a), self.row.pop(b)
        self.row[new], self.at[kept], self.gone[lost] = kept, new, -torch.inf
        both = self.products[kept] + self.products[lost]
        both[kept] += both[lost]
        self.products[kept] = self.products[:, kept] = both
        self.scale[kept] = both[kept].clamp_min(1e-30).rsqrt()
        self._push(list(self._nearest([new])))


def _stack(groups: list[Moments]) -> Moments:
    parts = zip(*((g.count_K, g.sum_Kd, g.gram_Kdd) for g in groups), strict=True)
    return Moments(*(torch.cat(part) for part in parts))
