"""Cut the merge tree as a person wants it: pairs of fine groups that belong together or apart. Knows no files."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from cpp.clustering.merge_tree import Tree

Pairs = list[tuple[int, int]]


class Links(NamedTuple):
    """Pairs of fine groups that must be in the `same` cluster, and pairs that must be in `different` ones."""

    same: Pairs
    different: Pairs

    def among(self, filled: NDArray[np.bool_]) -> Links:
        """The links between groups with rows, which are numbered among themselves; `filled` is bool `[F]`."""
        number = np.cumsum(filled) - 1
        kept = ([(int(number[a]), int(number[b])) for a, b in pairs if filled[a] and filled[b]] for pairs in self)
        return Links(*kept)


NO_LINKS = Links([], [])


def joined(n_groups: int, same: Pairs) -> NDArray[np.int64]:
    """The cluster of each group, `[n_groups]`, if only the pairs in `same` are joined."""
    cluster = np.arange(n_groups)
    for a, b in same:
        cluster[cluster == cluster[b]] = cluster[a]
    return cluster


def cut(tree: Tree, n_clusters: int, links: Links) -> NDArray[np.int64]:
    """The cluster of each fine group, `[F]`, numbered by its first group: the cut at `n_clusters`, changed by `links`.

    Linked groups are joined first. The merges of the tree follow in order, without those that would join groups of
    different clusters. So every link can change the number of clusters by one, and cuts at different K are nested.
    ValueError if the links contradict each other.
    """
    if links == NO_LINKS:
        return tree.cut(n_clusters)
    cluster = joined(tree.n_groups, links.same)

    def joins_different(a: int, b: int) -> bool:
        return any({cluster[x], cluster[y]} == {cluster[a], cluster[b]} for x, y in links.different)

    for a, b in links.different:
        if cluster[a] == cluster[b]:
            raise ValueError(f"groups {a} and {b} must be in different clusters, and by other links in the same one")
    first = list(range(tree.n_groups))  # a fine group of each node of the tree
    for left, right in tree.merged[: tree.n_groups - n_clusters].tolist():
        a, b = first[left], first[right]
        first.append(a)
        if cluster[a] != cluster[b] and not joins_different(a, b):
            cluster[cluster == cluster[b]] = cluster[a]
    _, lowest, of = np.unique(cluster, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(lowest))[of]
