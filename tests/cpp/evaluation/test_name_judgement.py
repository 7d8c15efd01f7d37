"""When a word is a right name for a class, and what credit a wrong one gets."""

import pytest

from cpp.evaluation.accepted_names import accepted_names
from cpp.evaluation.name_judgement import is_right, is_unknown, judge

LISTS = accepted_names({"airplane": ["airliner", "wing"], "brain": [], "pigeon": ["seafowl"]})


@pytest.mark.parametrize(
    ("word", "kind", "rule"),
    [
        ("Airliners", "airplane", "accepted"),  # in another form
        ("wing (of a bird)", "airplane", "accepted"),
        ("seaplane", "airplane", None),
        ("aircraft", "airplane", None),  # one step above, and not on the list
        ("aeroplane", "airplane", "synonym"),
        ("brains", "brain", "synonym"),
        ("Siamese cat", "siamese", "synonym"),  # not the people
        ("brass", "face", None),  # synonyms in a sense that "brass" rarely has
        ("helmet", "brain", None),
        ("sea horses", "Sea_horse", "synonym"),  # a class without a list
        ("Red Gadgets", "red_gadget", "synonym"),  # one that WordNet lacks
        ("(note)", "?", None),
        ("", "airplane", None),
    ],
)
def test_the_list_of_a_class_decides_beside_its_own_name_and_synonyms(word: str, kind: str, rule: str | None) -> None:
    assert judge(word, kind, LISTS, agree=1).rule == rule


@pytest.mark.parametrize(
    ("word", "kind", "rule"),
    [
        ("bird", "flamingo", "general"),  # three steps
        ("vertebrate", "flamingo", None),  # four
        ("dog", "dalmatian", "general"),  # of the sense that is a dog, not the person
        ("instrumentality", "vehicle", None),  # two steps, but too general
        ("flamingo", "ibis", None),
        ("fan", "ceiling_fan", "general"),  # a compound that WordNet lacks
        ("horse", "sea horse", None),  # one that it has
    ],
)
def test_a_guess_may_be_a_few_steps_more_general(word: str, kind: str, rule: str | None) -> None:
    assert judge(word, kind).rule == rule


def test_a_more_special_word_is_right_where_most_images_agree() -> None:
    assert judge("airliner", "airplane", agree=0.5).rule == "special"
    assert judge("airliner", "airplane", agree=0.49).rule is None
    assert judge("hedgehog", "airplane", agree=1).rule is None
    assert judge("old wooden airplane", "airplane", agree=1).rule == "special"


def test_a_general_answer_is_above_the_class_or_an_accepted_name_at_any_distance() -> None:
    assert is_right("animal", "leopard", general=True)
    assert not is_right("animal", "leopard")
    assert not is_right("artifact", "airplane", LISTS, general=True)
    assert is_right("aircraft", "airplane", LISTS, general=True)
    assert not is_right("aquatic bird", "pigeon", general=True)
    assert is_right("aquatic bird", "pigeon", LISTS, general=True)  # above "seafowl"
    assert is_right("leopard", "leopard", general=True)
    assert is_right("seabird", "pigeon", LISTS, general=True)  # a synonym of it


@pytest.mark.parametrize(
    ("word", "kind", "credit"),
    [
        ("leopard", "leopard", 1),
        ("bird", "flamingo", 1),
        ("vertebrate", "flamingo", 1 / 5),
        ("airliner", "airplane", 1 / 2),
        ("hammer", "dolphin", 0),  # nothing in common below "whole"
        ("leopard", "a class that WordNet lacks", 0),
    ],
)
def test_credit_falls_with_the_steps_in_the_hierarchy(word: str, kind: str, credit: float) -> None:
    assert judge(word, kind).credit == pytest.approx(credit)


def test_a_word_near_an_accepted_name_has_credit() -> None:
    assert judge("seaplane", "airplane", LISTS).credit == pytest.approx(1 / 2)
    assert judge("gull", "pigeon", LISTS).credit > judge("gull", "pigeon").credit


def test_a_class_that_neither_wordnet_nor_a_list_has_is_unknown() -> None:
    assert is_unknown("Garfieldesque")
    assert not is_unknown("Garfieldesque", accepted_names({"garfieldesque": []}))
    assert not is_unknown("leopards")
