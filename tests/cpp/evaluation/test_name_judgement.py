"""When a word is a right name for a class."""

import pytest

from cpp.evaluation.accepted_names import NO_LISTS, accepted_names
from cpp.evaluation.name_judgement import is_right

LISTS = accepted_names({"airplane": ["airliner", "wing"], "brain": [], "hedgehog": ["small animal"]})


@pytest.mark.parametrize(
    ("word", "kind", "right"),
    [
        ("Airliners", "airplane", True),  # of the list, in another form
        ("wing (of a bird)", "airplane", True),
        ("seaplane", "airplane", False),  # not of the list
        ("aeroplane", "airplane", True),  # a synonym of the class
        ("porcupine", "hedgehog", True),
        ("brains", "brain", True),
        ("helmet", "brain", False),
        ("porcupine", "Sea_horse", False),
        ("sea horses", "Sea_horse", True),
        ("", "airplane", False),
    ],
)
def test_the_list_of_a_class_decides_beside_its_own_name_and_synonyms(word: str, kind: str, right: bool) -> None:
    assert is_right(word, kind, LISTS) is right


def test_without_a_list_only_synonyms_of_the_class_are_right() -> None:
    assert is_right("aeroplane", "airplane", NO_LISTS)
    assert not is_right("wing", "airplane", NO_LISTS)


def test_a_more_general_name_is_above_the_class_or_an_accepted_name() -> None:
    assert is_right("aircraft", "airplane", LISTS, general=True)
    assert not is_right("aircraft", "airplane", LISTS)
    assert not is_right("reptile", "airplane", LISTS, general=True)
    assert is_right("porcupine", "hedgehog", LISTS, general=True)
