"""Partition the codes of a sample into fine groups: k-means from Ward's clusters, or spectral clustering.

k-means splits large classes if sizes differ much, and spectral clustering of the membership joins classes that touch:
`auto` keeps the one of clearly larger silhouette. Knows no files and no labels.

Sources: Ward, JASA 58, 1963; Ng, Jordan, Weiss, "On spectral clustering", NIPS 2001, on the membership of Chu et al.,
arXiv 2306.05272, section 3.3; candidates for K: section 3.4 and algorithm 3 there; Rousseeuw, "Silhouettes", 1987.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpp.clustering.coding_length import coding_length, exclude_isolated, lossy_bits
from cpp.clustering.spectral import feasible, spectral
from cpp.clustering.ward import LARGEST, cut, ward
from cpp.nearest import TIE, Nearest, kmeans
from cpp.rate_reduction.coding_rate import Moments
from cpp.rate_reduction.copies import Distinct
from cpp.rate_reduction.head import Codes

PARTS = 5  # into which the rows of each group are dealt out, so that each can be left out
HELD = 2**25  # floats of rows that are collected before their moments are added
REACH = 0.001  # share of the grouped rows whose cosine to their centroid is below `reach`
HALF = 1e-4  # error of the cosine of a unit row that is read as float16
HALF_STEPS = 5  # Sinkhorn half-steps, as in the paper
SCORED = 4096  # rows for a silhouette
LEAD = 0.015  # silhouette by which spectral clustering must lead; it led by up to 0.011 where it was much worse
BATCH = 65536

Method = Literal["auto", "kmeans", "spectral"]


class Measured(NamedTuple):
    """Moments of fine groups, by part, over the rows that count, and the numbers of all rows and of copies."""

    moments: Moments
    rows: int
    copies: int


class FineGroups(NamedTuple):
    """Fine groups of a sample, and the space and distortion in which their coding lengths are measured.

    `centroids` float32 `[F, d]`, unit rows; `cluster` int64 `[F]`, the cluster that each group is a part of; `basis`
    float32 `[d, p]`, the leading directions; `e` the squared distortion in their space. A row whose cosine to its
    centroid is below `reach` is left out of the lengths.
    `silhouettes` are those of the methods that were compared, `candidates` the published length in bits of each K.
    `repeated` float32 `[r, d]` are the codes that stand for several rows of the sample, and `copy_reach` `[r]` the
    cosines from which a row is a copy of each.
    """

    centroids: NDArray[np.float32]
    cluster: NDArray[np.int64]
    basis: NDArray[np.float32]
    e: float
    reach: float
    method: Method
    silhouettes: dict[str, float]
    candidates: dict[int, float]
    repeated: NDArray[np.float32]
    copy_reach: NDArray[np.float32]

    def moments(self, blocks: Iterable[NDArray[np.float32]], batch: int, gpu: bool = False) -> Measured:
        """Return the moments of the groups over blocks of unit rows `[n, d]`, in which copies count once.

        Rows near a repeated code are replaced by this code. Part p of group k is group `PARTS` k + p of the moments.
        Rows are collected and added `HELD` floats at a time, because an addition visits every group.
        """
        nearest = Nearest(self.centroids, gpu)
        parts = Moments.zeros(len(self.centroids) * PARTS, self.basis.shape[1])
        held, rows, counted = list[tuple[Tensor, Tensor]](), 0, 0
        once = _Once(self, batch, gpu)
        for Z in itertools.chain(map(once.without_copies, blocks), once.replacements()):
            assigned = nearest(Z, batch)
            close = assigned.score >= self.reach
            part = assigned.group[close] * PARTS + (np.arange(close.sum()) + counted) % PARTS
            held.append((torch.from_numpy(Z[close] @ self.basis), torch.from_numpy(part)))
            rows, counted = rows + len(Z), counted + len(part)
            if sum(codes.numel() for codes, _ in held) >= HELD:
                parts.add_(*map(torch.cat, zip(*held, strict=True)))
                held = []
        if held:
            parts.add_(*map(torch.cat, zip(*held, strict=True)))
        return Measured(parts, rows + once.copies, once.copies)


class _Once:
    """Takes the copies of repeated codes out of blocks of rows, and counts them."""

    def __init__(self, groups: FineGroups, batch: int, gpu: bool) -> None:
        self.repeated, self.reach, self.batch = groups.repeated, groups.copy_reach, batch
        self.rows = np.zeros(len(self.repeated), np.int64)
        self.nearest = Nearest(self.repeated, gpu) if len(self.repeated) else None

    def without_copies(self, Z: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.nearest is None:
            return Z
        unit = Z / np.linalg.norm(Z, axis=1, keepdims=True).clip(1e-12)  # rows of float16 are not exactly unit rows
        code = self.nearest(unit, self.batch)
        is_copy = code.score >= self.reach[code.group]
        self.rows += np.bincount(code.group[is_copy], minlength=len(self.rows))
        return Z[~is_copy]

    def replacements(self) -> Iterator[NDArray[np.float32]]:
        """Yield the repeated codes of the blocks so far, each once."""
        yield self.repeated[self.rows > 0]

    @property
    def copies(self) -> int:
        return int(self.rows.sum() - np.count_nonzero(self.rows))


def fine_groups(
    codes: Codes,
    distinct: Distinct | None = None,
    *,
    n_clusters: int | None = None,
    fine: int | None = None,
    candidates: Sequence[int] = (),
    method: Method = "auto",
    eta: float = 0.1,
    landmarks: int = 8192,
    directions: int | None = None,
    distortion: float | None = None,
    isolated: bool = True,
    seed: int,
    gpu: bool = False,
) -> FineGroups:
    """Partition unit rows by `partition` into `n_clusters` clusters, and these into at least `fine` groups altogether.

    Copies count once: only the rows in `distinct` are partitioned, and there are never more groups than these. Without
    `isolated`, and with more groups than clusters, isolated rows are left out, because each would be a group by itself.
    With `candidates` in place of `n_clusters`, K is the candidate whose partition of all rows has the least published
    length. `distortion` replaces the measured noise. ValueError as in `partition`.
    """
    if n_clusters is not None and not 1 <= n_clusters <= len(codes.Z):
        raise ValueError(
            f"partition.n_clusters is {n_clusters}, must be from 1 to the number of sample rows, {len(codes.Z)}"
        )
    repeated, copy_reach = _repeated(codes.Z, distinct)
    codes = codes if distinct is None else codes.rows(distinct.rows)
    partitioned = functools.partial(partition, eta=eta, landmarks=landmarks, seed=seed, gpu=gpu)
    basis = principal_directions(codes.Z, directions)
    kept, noise = exclude_isolated(codes.Z @ basis, gpu)
    e, lengths = distortion or noise, dict[int, float]()
    for K in sorted({min(K, len(codes.Z)) for K in candidates}):
        moments = Moments.of(codes.Z @ basis, torch.from_numpy(partitioned(codes, K, method).group), K)
        lengths[K] = coding_length(moments, e, lossy_bits)
    K = n_clusters or min(lengths, key=lengths.__getitem__)
    n_groups = max(K, fine or 0)
    if n_groups > K or not isolated:
        codes = codes.rows(kept)
    K = min(K, len(codes.Z))
    grouping = partitioned(codes, K, method)
    group, cluster = grouping.group, np.arange(K)
    if n_groups > K:
        group, cluster = _parts(codes, group, n_groups, functools.partial(partitioned, method="kmeans"))
    centres = centroids(codes.Z, group, len(cluster))
    reach = _reach(centres, codes.Z, gpu) if len(codes.Z) < len(kept) else -1.0
    return FineGroups(
        centres, cluster, basis.numpy(), e, reach, grouping.method, grouping.silhouettes, lengths, repeated, copy_reach
    )


def _parts(
    codes: Codes, cluster: NDArray[np.int64], fine: int, partitioned: Callable[[Codes, int], Grouping]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide clusters of rows in proportion to their sizes: the group of each row, the cluster of each group."""
    group, clusters = np.zeros(len(cluster), np.int64), list[int]()
    for k in np.unique(cluster).tolist():
        rows = np.flatnonzero(cluster == k)
        n_parts = min(len(rows), math.ceil(fine * len(rows) / len(cluster)))
        group[rows] = len(clusters) + partitioned(codes.rows(rows), n_parts).group
        clusters += [k] * n_parts
    return group, np.array(clusters)


def _reach(centres: NDArray[np.float32], Z: Tensor, gpu: bool) -> float:
    """The cosine to its centre that all but `REACH` of the rows have."""
    return min(float(np.quantile(Nearest(centres, gpu)(Z.numpy(), BATCH).score, REACH)), 1 - HALF)


def _repeated(Z: Tensor, distinct: Distinct | None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The codes that stand for several rows, and the least cosine of each to these rows, less a rounding error."""
    if distinct is None:
        return np.zeros((0, Z.shape[1]), np.float32), np.zeros(0, np.float32)
    cosine = torch.cat(
        [(Z[rows] * Z[distinct.rows[distinct.of[rows]]]).sum(1) for rows in torch.arange(len(Z)).split(BATCH)]
    )
    reach = np.ones(len(distinct.rows), np.float32)
    np.minimum.at(reach, distinct.of, cosine.numpy())
    return Z[distinct.rows[distinct.repeated]].numpy(), reach[distinct.repeated] - np.float32(TIE)


class Grouping(NamedTuple):
    """The group of every row, `[n]`, by `method`, and the silhouettes, in [-1, 1], of the compared methods."""

    group: NDArray[np.int64]
    method: Method
    silhouettes: dict[str, float]


def partition(
    codes: Codes, n_clusters: int, method: Method, eta: float, landmarks: int, seed: int, gpu: bool = False
) -> Grouping:
    """Partition unit rows by the cosine of `codes.Z`. ValueError unless 1 <= n_clusters <= n.

    Spectral clustering sees at most `landmarks` rows, drawn by `seed`, and Ward's method at most `ward.LARGEST` of
    these. k-means continues from Ward's centroids over all rows, because it reaches its best optima from there; after
    spectral clustering every row takes its nearest centroid. `auto` is k-means where spectral clustering is infeasible.
    """
    n = len(codes.Z)
    if not 1 <= n_clusters <= n:
        raise ValueError(f"partition.n_clusters is {n_clusters}, must be from 1 to the number of sample rows, {n}")
    if n_clusters in (1, n):
        return Grouping(np.zeros(n, np.int64) if n_clusters == 1 else np.arange(n), "kmeans", {})
    drawn = np.sort(np.random.default_rng(seed).choice(n, min(n, max(landmarks, n_clusters)), replace=False))
    sample, Z = codes.rows(drawn), codes.Z.numpy()
    groups = {}
    if method == "auto" and not feasible(len(drawn), n_clusters):
        method = "kmeans"
    for name in ("kmeans", "spectral") if method == "auto" else (method,):
        if name == "kmeans":
            centres = kmeans(Z, n_clusters, seed, gpu=gpu, start=_start(sample.Z, n_clusters, seed))
        else:
            group = spectral(sample.C, n_clusters, eta, HALF_STEPS, seed)
            centres = centroids(sample.Z, group, n_clusters)
        groups[name] = Nearest(centres, gpu)(Z, BATCH).cluster.astype(np.int64)
    if len(groups) == 1:
        return Grouping(groups[method], method, {})
    scored = drawn[np.random.default_rng(seed).permutation(len(drawn))[:SCORED]]
    silhouettes = {name: silhouette(Z[scored], group[scored]) for name, group in groups.items()}
    chosen: Method = "spectral" if silhouettes["spectral"] > silhouettes["kmeans"] + LEAD else "kmeans"
    return Grouping(groups[chosen], chosen, silhouettes)


def _start(Z_nd: Tensor, n_clusters: int, seed: int) -> NDArray[np.float32]:
    """Centroids `[K, d]` of Ward's clusters of at most `ward.LARGEST` rows; K rows if K is at least that."""
    drawn = np.sort(np.random.default_rng(seed).permutation(len(Z_nd))[: max(LARGEST, n_clusters)])
    Z = Z_nd[drawn]
    group = cut(ward(Z.numpy()), n_clusters) if n_clusters < len(Z) else np.arange(n_clusters)
    return centroids(Z, group, n_clusters)


def silhouette(Z: NDArray[np.float32], group: NDArray[np.int64]) -> float:
    """Mean silhouette of unit rows by cosine distance; -1 if there is one group, or every row is a group."""
    from sklearn.metrics import silhouette_score

    defined = 1 < len(np.unique(group)) < len(group)
    return float(silhouette_score(Z, group, metric="cosine")) if defined else -1.0


def principal_directions(Z_nd: Tensor, directions: int | None) -> Tensor:
    """Basis `[d, p]` of the `directions` principal directions of codes, or of all: what lengths are measured in.

    To estimate a covariance in d directions takes more than d rows, and to keep it d^2 floats per group.
    """
    d = Z_nd.shape[1]
    if directions is None or directions >= d:
        return torch.eye(d)
    Z = (Z_nd - Z_nd.mean(0)).to(torch.float64)
    _, vectors = torch.linalg.eigh(Z.mT @ Z)
    basis: Tensor = vectors[:, -directions:].flip(1).to(torch.float32)
    return basis


def centroids(Z_nd: Tensor, group_n: NDArray[np.int64], n_clusters: int) -> NDArray[np.float32]:
    """Unit mean of each group, `[K, d]`; zero for an empty one."""
    sums = Z_nd.new_zeros(n_clusters, Z_nd.shape[1]).index_add_(0, torch.from_numpy(group_n), Z_nd)
    return np.asarray(torch.nn.functional.normalize(sums).numpy(), np.float32)
