"""General words: which words they cover, and that WordNet knows them by these names."""

import pytest

from cpp.naming import wordnet
from cpp.naming.general_words import SYNSETS, GeneralWords


def covering(word: str, *others: str) -> list[str]:
    general = GeneralWords.of([word, *others])
    return [name for name, covers in zip(general.words, general.covers[0], strict=True) if covers]


def test_every_general_word_is_a_word_of_its_synset() -> None:
    assert [word for word, synset in SYNSETS.items() if word not in wordnet.lemmas(synset)] == []


@pytest.mark.parametrize(
    ("word", "general"),
    [
        ("flamingo", ["bird", "animal"]),
        ("Siamese cat", ["cat", "feline", "mammal", "animal"]),
        ("airliner", ["airplane", "aircraft", "vehicle"]),
        ("rocking chair", ["chair", "furniture"]),
        ("cello", ["stringed instrument", "musical instrument"]),
        ("a word that nobody knows", []),
    ],
)
def test_general_words_of_a_word_from_the_narrowest(word: str, general: list[str]) -> None:
    assert covering(word) == general


def test_a_car_is_no_container() -> None:
    assert "container" not in covering("sports car")
    assert "container" in covering("bucket")


def test_general_words_that_cover_more_words_are_broader() -> None:
    general = GeneralWords.of(["flamingo", "robin", "ferry", "canoe", "zebra"])
    assert general.words.index("bird") < general.words.index("animal")
    assert general.covers.sum(0).tolist() == sorted(general.covers.sum(0))


def test_no_words_have_no_general_words() -> None:
    assert GeneralWords.of([]).words == ()
