"""Each row to the cluster in which it takes the fewest bits, or to none. Knows no files and no labels.

Groups of a few rows mix two clusters now and then, and what is merged of them keeps their mistakes. A row is moved by
what it adds to the coding length (`cpp.coding`) of a cluster without it, labels included: a mixed cluster empties.
Rows of no cluster are coded by one round Gaussian around all rows: such a row lies anywhere, so that is what it costs.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from cpp.coding import bits_of, evidence_bits, label_bits, posterior
from cpp.rate import Moments

STRAY = -1  # the cluster of a row that belongs to none


class Rows(NamedTuple):
    """Rows `Z` `[n, d]`, the fine group of each `[n]` and the groups near it `[n, c]`, whose clusters it may join."""

    Z: Tensor
    group: Tensor
    near: Tensor

    def moments(self, cluster_n: Tensor) -> Moments:
        """Of each cluster; stray rows are in none."""
        there = cluster_n != STRAY
        return Moments.of(self.Z[there], cluster_n[there], int(cluster_n.max()) + 1)


def recode(rows: Rows, cluster_n: Tensor, e: float) -> Tensor:
    """The cluster of each row, `[n]`, after all have moved at once to where they took the fewest bits."""
    n = len(rows.Z)
    row, cluster = _candidates(rows, cluster_n)
    added = _added(rows, cluster_n, row, cluster, e)
    least = torch.full((n,), math.inf, dtype=added.dtype).scatter_reduce(0, row, added, "amin")
    found = torch.full((n,), STRAY)
    is_least = added == least[row]
    found[row[is_least]] = cluster[is_least]
    stray = (cluster_n == STRAY).sum().double()
    alone = stray_bits(rows.Z, e) + label_bits(stray + 1, n) - label_bits(stray, n)
    return torch.where(alone < least, STRAY, found)


def stray_bits(Z_nd: Tensor, e: float) -> Tensor:
    """Bits `[n]` of each row by a Gaussian around the mean of all, as wide in every direction, on the same grid."""
    d = Z_nd.shape[1]
    squared = (Z_nd - Z_nd.mean(0)).to(torch.float64).square().sum(1)
    variance = squared.mean().clamp_min(1e-30) / d
    return (squared / variance + d * torch.log(2 * math.pi * variance * d / e)) / (2 * math.log(2))


def without_strays(rows: Rows, cluster_n: Tensor, e: float) -> Tensor:
    """Rows of a cluster that takes more bits than they would take as stray rows are stray: noise is no cluster.

    Row by row it would stay: where no row is stray yet, the label of the first costs the most.
    """
    there = cluster_n != STRAY
    if not there.any():
        return cluster_n
    apart = evidence_bits(rows.moments(cluster_n), e)
    alone = torch.zeros_like(apart).index_add_(0, cluster_n[there], stray_bits(rows.Z, e)[there])
    number = torch.where(apart <= alone, torch.arange(len(apart)), STRAY)
    return renumber(torch.cat([number, number.new_full((1,), STRAY)])[cluster_n], 1)


def renumber(cluster_n: Tensor, least: int) -> Tensor:
    """Clusters numbered without gaps; rows of those with fewer than `least` rows are stray."""
    count = torch.bincount(cluster_n[cluster_n != STRAY])
    kept = count >= least
    number = torch.where(kept, kept.cumsum(0) - 1, STRAY)
    return torch.cat([number, number.new_full((1,), STRAY)])[cluster_n]  # STRAY is the last


def _candidates(rows: Rows, cluster_n: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of a row and a cluster that it may be in, its own among them, in the order of clusters."""
    K = int(cluster_n.max()) + 1
    pairs, count = torch.unique(rows.group * (K + 1) + cluster_n + 1, return_counts=True)
    pairs = pairs[count.argsort(stable=True)]  # the most frequent cluster of a group is written last
    of_group = torch.full((int(rows.group.max()) + 1,), STRAY)
    of_group[pairs // (K + 1)] = pairs % (K + 1) - 1
    of_row = torch.cat([of_group[rows.near], cluster_n[:, None]], 1).sort(1).values
    new = of_row != STRAY
    new[:, 1:] &= of_row[:, 1:] != of_row[:, :-1]
    row, cluster = new.nonzero()[:, 0], of_row[new]
    order = cluster.argsort(stable=True)
    return row[order], cluster[order]


def _added(rows: Rows, cluster_n: Tensor, row: Tensor, cluster: Tensor, e: float) -> Tensor:
    """Bits that each of these rows adds to its candidate, which is without it.

    The scale matrix of a group changes by one outer product, so its determinant by one factor: 1 + w / (w + 1) q where
    a row comes in and 1 - w / (w - 1) q where it goes out; w is the weight of the group, q the row's squared distance.
    """
    n, d = rows.Z.shape
    moments = rows.moments(cluster_n)
    mean, M = posterior(moments, e)
    found = []
    sizes = torch.bincount(cluster, minlength=len(mean)).tolist()
    for k, some in enumerate(row.split(sizes)):
        L = torch.linalg.cholesky(M[k])
        logdet, count = 2 * L.diagonal().log().sum(), moments.count_K[k]
        inverse = torch.linalg.solve_triangular(L, torch.eye(d, dtype=L.dtype), upper=False).to(rows.Z.dtype)
        q = ((rows.Z[some] - mean[k].to(rows.Z.dtype)) @ inverse.mT).square().sum(1).to(L.dtype)
        w, here = e + count, cluster_n[some] == k
        change = torch.where(here, (-w / (w - 1) * q).clamp_min(1e-9 - 1), w / (w + 1) * q).log1p()
        before, now, after = (
            bits_of(m, det, d, e) + label_bits(m, n)
            for m, det in (
                ((count - 1).clamp_min(0), logdet + change),
                (count, logdet),
                (count + 1, logdet + change),
            )
        )
        found.append(torch.where(here, now - before, after - now))
    return torch.cat(found)
