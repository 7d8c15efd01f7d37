"""Normal forms, senses, synonyms, the hierarchy of nouns and similarities in it."""

import math

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


def test_a_synonym_shares_a_usual_sense() -> None:
    assert not wordnet.synonyms("cat", "guy")  # guy, cat, hombre, bozo: untagged, and not its first lemma
    assert not wordnet.synonyms("mouse", "timid person")
    assert wordnet.synonyms("mouse", "computer mouse")
    assert wordnet.synonyms("glasses", "eyeglasses")
    assert not wordnet.synonyms("drinking glass", "spectacles")


def test_senses_are_ordered_and_numbered_as_in_imagenet() -> None:
    assert wordnet.senses("tench") == (1440764,)
    assert wordnet.senses("Cats") == wordnet.senses("cat")
    assert [wordnet.lemmas(synset)[0] for synset in wordnet.senses("cat")][:3] == ["cat", "guy", "cat"]
    assert wordnet.senses("a word that nobody knows") == () == wordnet.senses("")


def test_usual_senses_are_concrete_and_no_individuals() -> None:
    assert {wordnet.lemmas(synset) for synset in wordnet.usual("crane")} == {("crane",)}  # no Stephen Crane
    assert len(wordnet.usual("crane")) == 2  # the machine and the bird
    assert wordnet.usual("sunset")  # a word without a concrete sense keeps its senses
    assert all(map(wordnet.concrete, wordnet.usual("table")))
    assert all(map(wordnet.concrete, wordnet.senses("street sign")))  # ImageNet has images of it
    assert not any(map(wordnet.concrete, wordnet.senses("forgetfulness")))


def test_the_hierarchy_leads_to_the_root_by_least_steps() -> None:
    airliner, airplane, entity = wordnet.senses("airliner")[0], wordnet.senses("airplane")[0], 1740
    assert wordnet.hypernyms(airliner) == (airplane,)
    steps = wordnet.ancestors(airliner)
    assert (steps[airliner], steps[airplane]) == (0, 1)
    assert (next(iter(steps)), list(steps)[-1]) == (airliner, entity)
    paris = next(synset for synset in wordnet.senses("paris") if "City of Light" in wordnet.lemmas(synset))
    assert wordnet.senses("national capital")[0] in wordnet.hypernyms(paris)  # as an instance
    with pytest.raises(KeyError):
        wordnet.lemmas(1)


def test_leacock_chodorow_similarities_are_those_of_nltk() -> None:
    largest = math.log(2 * wordnet.DEPTH)
    assert wordnet.leacock_chodorow("dog", "cat") * largest == pytest.approx(2.0281482)
    assert wordnet.leacock_chodorow("dogs", "Dog") == 1
    assert wordnet.leacock_chodorow("laptop", "laptop computer") == 1
    assert wordnet.leacock_chodorow("airliner", "airplane") == pytest.approx(1 - math.log(2) / largest)
    assert wordnet.leacock_chodorow("dog", "a word that nobody knows") == 0


def test_only_common_words_of_one_synset_have_one_meaning() -> None:
    assert wordnet.one_meaning("laptop") == wordnet.one_meaning("laptop computers") is not None
    assert wordnet.one_meaning("tick") is None  # an animal, and others
    assert wordnet.one_meaning("sausage") != wordnet.one_meaning("blimp")  # "blimp, sausage balloon, sausage"
    assert wordnet.one_meaning("mountain lion") is None  # "cougar, puma, ...": not among the common ones
    assert wordnet.one_meaning("laptop (thing)") is None


def test_nouns_are_complete_and_unique() -> None:
    nouns = wordnet.nouns()
    assert len(nouns) == len(set(nouns)) > 20_000
    assert "laptop computer" not in nouns  # the second word of its synset
    assert "airliner" in nouns
