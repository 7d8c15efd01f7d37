"""Cuts of the tree that follow a person's answers."""

import numpy as np
import pytest
import torch

from cpp.clustering.answers import NO_LINKS, Links, cut
from cpp.clustering.layers import build_layers
from cpp.clustering.merge_tree import Tree, least_certain
from cpp.clustering.partition import fine_groups
from cpp.rate_reduction.coding_rate import Moments
from cpp.rate_reduction.head import Codes
from tests.support.vectors import blobs

MERGED = np.array([[0, 1], [2, 3], [6, 7], [4, 5], [8, 9]], np.int64)  # of six groups
TREE = Tree(MERGED, np.zeros(6), 0.1, 6)


def test_without_links_the_cut_is_that_of_the_tree() -> None:
    for K in range(1, 7):
        assert (cut(TREE, K, NO_LINKS) == TREE.cut(K)).all()


def test_groups_that_are_the_same_are_joined() -> None:
    assert cut(TREE, 4, Links([(1, 4)], [])).tolist() == [0, 0, 1, 1, 0, 2]
    assert cut(TREE, 3, Links([(1, 4)], [])).tolist() == [0, 0, 0, 0, 0, 1]


def test_groups_that_are_different_stay_apart() -> None:
    assert cut(TREE, 3, Links([], [(0, 3)])).tolist() == [0, 0, 1, 1, 2, 3]
    assert cut(TREE, 1, Links([], [(0, 3)])).tolist() == [0, 0, 1, 1, 0, 0]  # groups 4 and 5 stay with the first half
    assert cut(TREE, 5, Links([], [(0, 1)])).tolist() == [0, 1, 2, 3, 4, 5]


def test_cuts_with_links_are_nested() -> None:
    links = Links([(1, 4)], [(0, 3), (2, 5)])
    for K in range(1, 6):
        coarse, fine = cut(TREE, K, links), cut(TREE, K + 1, links)
        assert len(set(zip(coarse.tolist(), fine.tolist(), strict=True))) == fine.max() + 1


def test_answers_that_contradict_each_other_are_an_error() -> None:
    with pytest.raises(
        ValueError, match="groups 0 and 2 must be in different clusters, and by other links in the same"
    ):
        cut(TREE, 3, Links([(0, 1), (1, 2)], [(0, 2)]))


def test_links_change_the_layers_and_are_not_asked_again() -> None:
    Z, truth = blobs([60, 80, 70], 0.05)
    groups = fine_groups(Codes(Z, Z), n_clusters=3, fine=26, seed=0)
    parts = groups.moments([Z.numpy()], 100).moments
    of_class = [int((Z[truth == k] @ torch.from_numpy(groups.centroids).T).argmax(1).mode().values) for k in range(3)]
    free = build_layers(groups, parts, [])
    assert (free.main, len(free.uncertain)) == (3, 3)
    one = build_layers(groups, parts, [], Links([(of_class[0], of_class[1])], []))
    assert (one.main, list(one.clusters), len(one.uncertain)) == (2, [2], 1)


def test_images_that_are_different_split_their_cluster() -> None:
    Z, truth = blobs([60, 80, 70], 0.05)
    groups = fine_groups(Codes(Z, Z), n_clusters=1, fine=9, seed=0)
    parts = groups.moments([Z.numpy()], 100).moments
    of_class = [int((Z[truth == k] @ torch.from_numpy(groups.centroids).T).argmax(1).mode().values) for k in range(3)]
    pairs = [(of_class[i], of_class[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    apart = build_layers(groups, parts, [], Links([], pairs))
    assert (apart.main, apart.uncertain) == (3, [])


def test_least_certain_pairs_have_the_smallest_change() -> None:
    Z, group = blobs([60, 60, 60, 60], 0.05)
    Z[group == 3] = Z[group == 2]  # two halves of one cluster
    moments = Moments.of(Z, group, 4)
    pairs = least_certain(moments, 0.06, 3)
    assert len(pairs) == 3
    changes = {(a, b): bits for a, b, bits in least_certain(moments, 0.06, 6)}
    assert changes[2, 3] < 0 < changes[0, 1]
    assert [abs(bits) for *_, bits in pairs] == sorted(map(abs, changes.values()))[:3]
    assert least_certain(moments[:1], 0.06, 3) == []
