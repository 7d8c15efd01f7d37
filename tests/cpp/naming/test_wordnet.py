"""Normal forms, synonyms, and the more general words that definitions begin with."""

import pytest

from cpp.naming import wordnet


@pytest.mark.parametrize(
    ("word", "normal"),
    [
        ("Sea_Horses (animal)", "sea horse"),
        ("  grand   piano ", "grand piano"),
        ("octopus", "octopus"),
        ("bow-tie", "bow tie"),
        ("Mice", "mouse"),
        ("кошки", "кошки"),
        ("猫", "猫"),
        ("<script>", "script"),
        ("()", ""),
        ("", ""),
    ],
)
def test_normal_forms(word: str, normal: str) -> None:
    assert wordnet.normal(word) == normal


def test_synonyms_share_a_spelling_or_a_synset() -> None:
    assert wordnet.synonyms("Porcupines", "hedgehog")
    assert wordnet.synonyms("yin_yang", "Yin Yang")
    assert not wordnet.synonyms("airliner", "airplane")
    assert not wordnet.synonyms("", "()")


def test_a_definition_names_the_more_general_word() -> None:
    # "a commercial airplane that carries passengers"; "a lightweight motorcycle equipped with ..."
    assert wordnet.above("airliner")[0] == "airplane"
    assert wordnet.above("dirt bike")[0] == "motorcycle"
    assert wordnet.above("jet plane")[0] == "airplane"
    assert "aircraft" in wordnet.above("airliner")  # two steps up
    assert "airliner" not in wordnet.above("airplane")
    assert wordnet.above("a word that nobody knows") == ()


def test_only_common_words_of_one_synset_have_one_meaning() -> None:
    assert wordnet.one_meaning("laptop") == wordnet.one_meaning("laptop computers") is not None
    assert wordnet.one_meaning("tick") is None  # an animal, and others
    assert wordnet.one_meaning("sausage") is None  # "blimp, sausage balloon, sausage": not among the common ones
    assert wordnet.one_meaning("laptop (thing)") is None


def test_nouns_are_complete_and_unique() -> None:
    nouns = wordnet.nouns()
    assert len(nouns) == len(set(nouns)) > 20_000
    assert "laptop computer" not in nouns  # the second word of its synset
    assert "airliner" in nouns
