"""Merges and splits by hand: layers stay nested, all other clusters keep their numbers."""

import numpy as np
import torch

from cpp.clustering.recut import Cut, divided, majority, smaller_half, without_gaps
from cpp.rate_reduction.coding_rate import Moments


def cut() -> Cut:
    """Six fine groups in a layer of two, the main one of four, and a finer one of five clusters."""
    layers = [[0, 0, 0, 1, 1, 1], [0, 0, 1, 2, 3, 3], [0, 1, 2, 3, 4, 4]]
    return Cut([np.array(layer) for layer in layers], 1, np.array([5.0, 1.0, 4.0, 9.0, 2.0, 3.0]))


def is_nested(layers: dict[int, np.ndarray]) -> bool:
    *coarser, finest = layers.values()
    return all(len(np.unique(layer[finest == k])) == 1 for layer in coarser for k in np.unique(finest))


def test_a_merge_takes_the_lowest_number_and_the_place_of_its_largest_part() -> None:
    changed = cut()
    changed.merge([1, 2])
    main, layers = changed.numbered()
    assert main == 3
    assert layers[3].tolist() == [0, 0, 1, 1, 2, 2]  # the cluster 3 fills the gap
    assert layers[2].tolist() == [0, 0, 1, 1, 1, 1]  # cluster 2 has more rows than cluster 1
    assert is_nested(layers)


def test_a_split_keeps_the_number_of_one_part_and_divides_finer_clusters_on_both_sides() -> None:
    changed = cut()
    changed.split(np.array([False] * 5 + [True]))
    main, layers = changed.numbered()
    assert main == 5
    assert layers[5].tolist() == [0, 0, 1, 2, 3, 4]
    assert layers[6].tolist() == [0, 1, 2, 3, 4, 5]
    assert is_nested(layers)


def test_a_layer_that_loses_all_that_sets_it_apart_is_left_out() -> None:
    changed = cut()
    changed.merge([0, 1])
    changed.merge([2, 3])
    main, layers = changed.numbered()
    assert main == 2
    assert {K: labels.tolist() for K, labels in layers.items()} == {
        2: [0, 0, 0, 1, 1, 1],
        5: [0, 1, 2, 3, 4, 4],
    }


def test_a_divided_group_is_added_to_all_layers_and_to_the_history() -> None:
    changed = cut()
    changed.remember()
    changed.divide(3, np.array([6.0, 3.0]))
    assert [labels[-1] for labels in (*changed.layers, *changed.history)] == [1, 2, 3, 2]
    assert changed.rows.tolist() == [5, 1, 4, 6, 2, 3, 3]


def test_gaps_are_filled_by_the_highest_numbers() -> None:
    assert without_gaps(np.array([5, 0, 3, 4, 0])).tolist() == [2, 0, 3, 1, 0]
    assert without_gaps(np.array([2, 0, 1])).tolist() == [2, 0, 1]


def test_a_majority_is_more_than_half_of_all_that_were_named() -> None:
    assert majority([3, 3, 1], 5) is None
    assert majority([3, 3, 3, 1], 5) == 3
    assert majority([3, 3, 1, 1], 2) is None  # keys that are in two shards
    assert majority([], 1) is None


def around(direction: int, n: int, seed: int) -> np.ndarray:
    """Unit rows near an axis."""
    rows = 0.05 * np.random.default_rng(seed).standard_normal((n, 8))
    rows[:, direction] += 1
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def test_the_next_cut_separates_what_lies_apart() -> None:
    Z = np.concatenate([around(0, 30, 1), around(0, 30, 2), around(1, 20, 3), around(1, 20, 4)])
    group = np.repeat(np.arange(4), [30, 30, 20, 20])
    moments = Moments.of(torch.from_numpy(Z), torch.from_numpy(group), 4)
    assert smaller_half(moments, 0.01, np.zeros(4, np.int64)).tolist() == [False, False, True, True]
    # clusters of a finer layer stay together
    assert smaller_half(moments, 0.01, np.array([0, 1, 0, 0])).tolist() == [False, True, False, False]


def test_a_group_is_divided_by_its_rows_unless_all_are_equal() -> None:
    Z = np.concatenate([around(0, 30, 1), around(1, 20, 2)])
    centroids, group = divided(Z, 8192, 0)
    assert set(group[:30]).isdisjoint(group[30:])
    assert len(centroids) == group.max() + 1 <= 4
    assert len(divided(np.repeat(Z[:1], 9, axis=0), 8192, 0)[0]) == 1
