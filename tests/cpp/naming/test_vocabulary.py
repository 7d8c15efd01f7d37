"""Vocabularies: one entry for each meaning, excluded words, and the hierarchy of words."""

import numpy as np
import pytest
import torch

from cpp.naming.vocabulary import LONGEST, Vocabulary, clean


def axes(*words: str, exclude: tuple[str, ...] = ()) -> Vocabulary:
    return Vocabulary.of(words, 2 * np.eye(len(words), dtype=np.float32), exclude)


def test_spellings_that_differ_in_case_spacing_number_or_hyphens_are_one_entry() -> None:
    vocabulary = axes("Polar bear", "cat", "polar  bears", "bow-tie", "bow_tie")
    assert vocabulary.words == ("Polar bear", "cat", "bow-tie")
    half = 0.5**0.5
    expected = torch.tensor([[half, 0, half, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, half, half]])
    torch.testing.assert_close(vocabulary.vectors, expected)


def test_a_gerund_is_no_form_of_its_verb() -> None:
    assert axes("paint", "painting", "paints", "gardening", "garden").words == (
        "paint",
        "painting",
        "gardening",
        "garden",
    )


def test_common_words_of_one_synset_are_one_entry() -> None:
    assert axes("laptop", "cat", "laptop computer").words == ("laptop", "cat")
    assert axes("blimp", "sausage").words == ("blimp", "sausage")


def test_a_note_in_brackets_tells_meanings_apart() -> None:
    assert axes("octopus (food)", "octopus (animal)", "Octopus (Food)").words == ("octopus (food)", "octopus (animal)")


def test_excluded_words_go_with_their_synonyms() -> None:
    kept = axes("porcupine", "dog", "Hedgehogs", "octopus (food)", exclude=("hedgehog", "octopus", "no such word", ""))
    assert kept.words == ("dog",)


def test_an_empty_vocabulary_is_an_error_with_its_cause() -> None:
    with pytest.raises(ValueError, match=r"the vocabulary has no words$"):
        Vocabulary.of([], np.empty((0, 3)))
    with pytest.raises(ValueError, match=r"no words, because label.exclude removes all of them"):
        axes("cat", exclude=("cats",))


def test_centred_vectors_have_no_mean_direction() -> None:
    vocabulary = axes("airliner", "vehicle", "strawberry")
    root = np.sqrt(1.5)
    expected = [[2 / 3, -1 / 3, -1 / 3], [-1 / 3, 2 / 3, -1 / 3], [-1 / 3, -1 / 3, 2 / 3]]
    np.testing.assert_allclose(vocabulary.centred, root * np.array(expected), rtol=1e-5)
    assert axes("airliner").centred.tolist() == [[1.0]]  # a single word would vanish


def test_words_in_other_scripts_are_kept() -> None:
    assert axes("猫", "кошка", "قطة", "chat").words == ("猫", "кошка", "قطة", "chat")


def test_words_are_cleaned() -> None:
    assert clean("a\x00 b\u202e\n c") == "a b c"
    assert clean("x" * LONGEST) == "x" * LONGEST
    assert clean("x" * (LONGEST + 1)) == ""


def test_meaning_marks_synonyms_of_names() -> None:
    vocabulary = axes("porcupine", "dog", "rose hedgehog", "cats")
    assert vocabulary.meaning(["Hedgehogs", "cat"]).tolist() == [True, False, False, True]
    assert vocabulary.meaning([]).tolist() == [False] * 4
