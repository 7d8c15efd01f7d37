"""Merge and split clusters by hand, with nested layers and the numbers of all others kept. Knows no files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from cpp.clustering.merge_tree import grow
from cpp.clustering.partition import centroids, partition
from cpp.rate_reduction.coding_rate import Moments
from cpp.rate_reduction.head import Codes

PARTS_OF_ONE = 4  # groups that a cluster of a single fine group is divided into, before they are merged to two
Labels = NDArray[np.int64]


@dataclass
class Cut:
    """The cluster of each fine group, `[F]`, in nested `layers`, coarsest first; `main` is the index of the main layer.

    `rows` `[F]` are the numbers of rows of the groups. `history` keeps earlier clusters of the main layer by group.
    """

    layers: list[Labels]
    main: int
    rows: NDArray[np.float64]
    history: list[Labels] = field(default_factory=list)

    @property
    def clusters(self) -> Labels:
        """The clusters of the main layer."""
        return self.layers[self.main]

    def remember(self) -> None:
        """Add the present clusters of the main layer to `history`."""
        self.history.append(self.clusters.copy())

    def merge(self, clusters: Sequence[int]) -> None:
        """Make one of clusters of the main layer, with the lowest of their numbers.

        In coarser layers it belongs where the cluster with most rows belongs.
        """
        largest = max(clusters, key=lambda k: float(self.rows[self.clusters == k].sum()))
        first, member = int(np.argmax(self.clusters == largest)), np.isin(self.clusters, clusters)
        for layer in self.layers[: self.main]:
            layer[member] = layer[first]
        self.clusters[member] = min(clusters)

    def split(self, part: NDArray[np.bool_]) -> None:
        """Make a new cluster of the main layer from the groups in `part` `[F]`, which is a part of one cluster.

        A cluster of a finer layer that is on both sides is split too.
        """
        (whole,) = np.unique(self.clusters[part])
        others = (self.clusters == whole) & ~part
        for layer in self.layers[self.main + 1 :]:
            for k in np.intersect1d(layer[part], layer[others]):
                layer[part & (layer == k)] = layer.max() + 1
        self.clusters[part] = self.clusters.max() + 1

    def divide(self, group: int, rows: NDArray[np.float64]) -> None:
        """Replace a group by several, of so many `rows`: the first has its place, the others are added at the end."""
        more = len(rows) - 1
        for arrays in (self.layers, self.history):
            arrays[:] = [np.concatenate([labels, np.repeat(labels[group], more)]) for labels in arrays]
        self.rows = np.concatenate([self.rows, rows[1:]])
        self.rows[group] = rows[0]

    def numbered(self) -> tuple[int, dict[int, Labels]]:
        """The number of clusters of the main layer, and the layers by their number of clusters, coarsest first.

        Clusters are numbered without gaps; those of the highest numbers fill the gaps, all others keep their numbers.
        Of layers with equally many clusters, which are the same, one is kept, the main one if it is among them.
        """
        layers = [without_gaps(labels) for labels in self.layers]
        main = int(layers[self.main].max()) + 1
        return main, {int(labels.max()) + 1: labels for labels in layers} | {main: layers[self.main]}


def without_gaps(labels: Labels) -> Labels:
    """The labels with numbers from 0 without gaps: the highest numbers fill the gaps, from the lowest on."""
    used = np.unique(labels)
    gaps = np.setdiff1d(np.arange(len(used)), used)
    number = np.arange(int(used.max()) + 1)
    number[used[used >= len(used)]] = gaps
    return number[labels]


def smaller_half(moments: Moments, e: float, finer: Labels) -> NDArray[np.bool_]:
    """Which of a cluster's fine groups, `[F]`, F > 1, are in the smaller part of the next cut of the tree below it.

    The tree is that of `merge_tree.grow` at the squared distortion `e`. Groups of one cluster in `finer` `[F]` stay
    together unless all are in one.
    """
    _, cluster = np.unique(finer, return_inverse=True)
    part = grow(moments, e, cluster=cluster.astype(np.int64)).cut(2)
    rows = np.bincount(part, moments.count_K.numpy(), 2)
    smaller: NDArray[np.bool_] = part == rows.argmin() if rows[0] != rows[1] else part == 1
    return smaller


def divided(Z_nd: NDArray[np.float32], landmarks: int, seed: int) -> tuple[NDArray[np.float32], Labels]:
    """Divide the rows of a group into up to `PARTS_OF_ONE` groups: their centroids, and the group of each row, `[n]`.

    There is one group if all rows are equal.
    """
    n_groups = min(PARTS_OF_ONE, len(np.unique(Z_nd, axis=0)))
    Z = torch.from_numpy(Z_nd)
    grouping = partition(Codes(Z, Z), n_groups, "kmeans", eta=1.0, landmarks=landmarks, seed=seed)
    _, group = np.unique(grouping.group, return_inverse=True)  # k-means may leave a group empty
    return centroids(Z, group, int(group.max()) + 1), group


def majority(labels: Sequence[int], n: int) -> int | None:
    """The label that more than half of `n`, or of all `labels` if these are more, have; None if there is none."""
    values, counts = np.unique(np.array(labels, np.int64), return_counts=True)
    if len(values) and 2 * counts.max() > max(n, len(labels)):
        return int(values[counts.argmax()])
    return None
