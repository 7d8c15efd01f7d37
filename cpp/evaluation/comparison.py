"""What became of the clusters of one run in another: stayed, split, merged; and how much both agree. Knows no files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cpp.evaluation.overlaps import Overlaps

AMI_IMAGES = 50_000  # images that the AMI is measured on, at most: its time grows with the sizes of the clusters
CHANGES = ("stayed", "split", "merged", "regrouped", "vanished", "appeared")
COMPARISON = pa.schema(
    {
        "group": "int32",
        "change": "string",
        "cluster_a": "int32",
        "title_a": "string",
        "cluster_b": "int32",
        "title_b": "string",
        "images": "int64",
        "share_a": "float64",
        "share_b": "float64",
    }
)


class Agreement(NamedTuple):
    """Adjusted Rand index and adjusted mutual information of two clusterings; 1 if they are equal, near 0 by chance.

    `measured` is the number of images that the AMI is measured on.
    """

    ari: float
    ami: float
    measured: int


def agreement(overlaps: Overlaps, seed: int = 0) -> Agreement | None:
    """The agreement over the images that are in both runs; None if there are fewer than two.

    ARI is exact (Hubert and Arabie, 1985, eq. 5). AMI is that of scikit-learn, over a random sample of the images if
    there are many.
    """
    from sklearn.metrics import adjusted_mutual_info_score

    a, b, images = overlaps.common
    n = int(images.sum())
    if n < 2:
        return None
    together = _pairs(images)
    of_a, of_b = _pairs(np.bincount(a, images)), _pairs(np.bincount(b, images))
    expected, most = of_a * of_b / _pairs(np.array([n])), (of_a + of_b) / 2
    ari = (together - expected) / (most - expected) if most != expected else 1.0
    drawn = images if n <= AMI_IMAGES else np.random.default_rng(seed).multinomial(AMI_IMAGES, images / n)
    ami = float(adjusted_mutual_info_score(np.repeat(a, drawn), np.repeat(b, drawn)))
    return Agreement(ari, ami, int(drawn.sum()))


def _pairs(counts: NDArray[Any]) -> float:
    counts = counts.astype(np.float64)
    return float((counts * (counts - 1)).sum() / 2)


class Group(NamedTuple):
    """Clusters of the runs A and B that correspond to each other, the largest first, and what changed (`CHANGES`).

    `images` are those of all its clusters that stayed within the group.
    """

    change: str
    a: tuple[int, ...]
    b: tuple[int, ...]
    images: int


def groups(overlaps: Overlaps) -> list[Group]:
    """The groups of corresponding clusters, each cluster in one of them; the groups with most images are first.

    Two clusters are linked if more than half of the images of one of them are in the other, among the images that both
    runs have, and a group is a connected part of these links. Two clusters that are linked by both halves stayed. One
    cluster of A with several of B was split, several of A with one of B merged; other groups are regrouped. A cluster
    of A without a link vanished, one of B appeared.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    a, b, images = overlaps.common
    sizes = {run: np.bincount(column[column >= 0]) for run, column in (("a", overlaps.a), ("b", overlaps.b))}
    n_a, n_b = len(sizes["a"]), len(sizes["b"])
    in_both = np.bincount(a, images, n_a), np.bincount(b, images, n_b)
    half_a, half_b = 2 * images > in_both[0][a], 2 * images > in_both[1][b]
    linked = half_a | half_b
    graph = coo_array((np.ones(linked.sum()), (a[linked], n_a + b[linked])), shape=(n_a + n_b, n_a + n_b))
    label = connected_components(graph, directed=False)[1]
    kept = np.bincount(label[a[linked]], images[linked], label.max(initial=-1) + 1)
    mutual = np.bincount(label[a], half_a & half_b, label.max(initial=-1) + 1)
    members: dict[int, tuple[list[int], list[int]]] = {}
    for side, count, start in ((0, sizes["a"], 0), (1, sizes["b"], n_a)):
        order = np.argsort(-in_both[side], kind="stable")
        for k in order[count[order] > 0].tolist():
            members.setdefault(int(label[start + k]), ([], []))[side].append(k)
    result = [
        Group(_change(len(of_a), len(of_b), mutual[i] > 0), tuple(of_a), tuple(of_b), int(kept[i]))
        for i, (of_a, of_b) in members.items()
    ]
    return sorted(result, key=lambda group: -group.images)


def _change(n_a: int, n_b: int, mutual: bool) -> str:
    if not n_b:
        return "vanished"
    if not n_a:
        return "appeared"
    if n_a == n_b == 1:
        return "stayed" if mutual else "regrouped"
    return "split" if n_a == 1 else "merged" if n_b == 1 else "regrouped"


def table(overlaps: Overlaps, found: list[Group], titles_a: Mapping[int, str], titles_b: Mapping[int, str]) -> pa.Table:
    """COMPARISON: a row for each pair of clusters that shares images, and for each cluster that vanished or appeared.

    `group` and `change` are those of the group that has both clusters, null for a pair without one; shares are among
    the images that both runs have.
    """
    a, b, images = overlaps.common
    group_a, group_b = ({k: i for i, group in enumerate(found) for k in getattr(group, run)} for run in "ab")
    sizes_a, sizes_b = np.bincount(a, images), np.bincount(b, images)
    group = [i if i == group_b[k] else None for i, k in zip((group_a[k] for k in a.tolist()), b.tolist(), strict=True)]
    pairs = {
        "group": group,
        "change": [None if i is None else found[i].change for i in group],
        "cluster_a": a,
        "title_a": [titles_a[k] for k in a.tolist()],
        "cluster_b": b,
        "title_b": [titles_b[k] for k in b.tolist()],
        "images": images,
        "share_a": images / sizes_a[a],
        "share_b": images / sizes_b[b],
    }
    single = [
        {"group": i, "change": group.change, f"cluster_{run}": k, f"title_{run}": titles[k], "images": 0}
        for i, group in enumerate(found)
        for run, clusters, titles in (("a", group.a, titles_a), ("b", group.b, titles_b))
        for k in clusters
        if group.change in ("vanished", "appeared")
    ]
    return pa.concat_tables([pa.table(pairs, COMPARISON), pa.Table.from_pylist(single, COMPARISON)])
