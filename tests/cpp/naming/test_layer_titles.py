"""Titles in nested layers: coarse clusters are called by their parts where no name is sure."""

from dataclasses import replace

import numpy as np

from cpp.naming.layer_titles import Layer, layer_titles
from cpp.naming.names import EMPTY, Name


def named(word: str) -> Name:
    return replace(EMPTY, guess=word, name=word, status="named")


def guessed(word: str) -> Name:
    return replace(EMPTY, guess=word)


FINE = Layer(
    np.array([5, 9, 7, 4, 6, 3, 2]),
    [0, 0, 0, 0, 1, 1, 2],
    [
        named("bonsai"),
        named("leopard"),
        named("flamingo"),
        named("anchor"),
        guessed("mug"),
        named("cup"),
        guessed("owl"),
    ],
)


def test_a_cluster_without_a_sure_name_is_called_by_its_largest_sure_parts() -> None:
    coarse = Layer(np.array([25, 9, 2]), [None] * 3, [guessed("lycaenid"), guessed("vase"), guessed("hawk")])
    first, second = layer_titles([coarse, FINE])
    assert first == ["leopard, flamingo, bonsai …", "cup …", "hawk?"]
    assert second == ["bonsai", "leopard", "flamingo", "anchor", "mug?", "cup", "owl?"]


def test_a_sure_name_stays_and_a_general_one_is_followed_by_parts() -> None:
    general = replace(EMPTY, guess="cat", name="animal", status="general")
    coarse = Layer(np.array([25, 9, 2]), [None] * 3, [named("cat"), general, general])
    assert layer_titles([coarse, FINE])[0] == ["cat", "animal · cup …", "animal · cat?"]


def test_a_part_without_a_name_stands_under_its_own_largest_part() -> None:
    middle = Layer(np.array([25, 9, 2]), [0, 0, 0], [guessed("x"), named("dishes"), guessed("y")])
    top = Layer(np.array([36]), [None], [guessed("z")])
    assert layer_titles([top, middle, FINE])[0] == ["leopard, dishes …"]


def test_parts_of_one_name_are_listed_once() -> None:
    fine = Layer(np.array([3, 2]), [0, 0], [named("cat"), named("cat")])
    assert layer_titles([Layer(np.array([5]), [None], [guessed("z")]), fine])[0] == ["cat"]


def test_parts_stand_under_plain_names_other_than_the_general_word_above_them() -> None:
    birds = replace(EMPTY, guess="owl", name="bird 2", general="bird", status="general")
    animals = replace(EMPTY, guess="cat", name="animal 3", general="animal", status="general")
    top = replace(EMPTY, guess="cat", name="animal", general="animal", status="general")
    fine = Layer(np.array([4, 3, 2]), [0, 0, 0], [animals, birds, replace(named("cat"), name="cat + owl")])
    assert layer_titles([Layer(np.array([9]), [None], [top]), fine])[0] == ["animal · bird, cat"]


def test_clusters_without_names_have_numbers() -> None:
    assert layer_titles([Layer(np.array([5]), [None], None), Layer(np.array([3, 2]), [0, 0], None)]) == [
        ["cluster 0"],
        ["cluster 0", "cluster 1"],
    ]
