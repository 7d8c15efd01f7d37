"""How names are scored, by hand."""

from dataclasses import replace

import numpy as np
import pytest

from cpp.evaluation.accepted_names import accepted_names
from cpp.evaluation.name_scores import label_scores, name_scores, semantic_accuracy, true_names
from cpp.naming.names import EMPTY, Name
from cpp.naming.vocabulary import Vocabulary

WORDS = Vocabulary.of(["hedgehog", "leopard", "snow leopard", "dog", "cat"], np.eye(5, dtype=np.float32))


def name(guess: str | None, confidence: float, agree: float = 0) -> Name:
    result = replace(EMPTY, guess=guess, guess_confidence=confidence, confidence=confidence, agree=agree)
    return replace(result, name=guess, status="named") if guess and confidence >= 0.5 else result


NAMES = [
    name("hedgehogs", 0.9),
    name("porcupine", 0.8),
    name("snow leopard", 0.6),
    name("dog", 0.2),
    name("cat", 0.1),
    name(None, 0.0),
]
TRUTH = ["hedgehog", "hedgehog", "leopard", "dog", "dog", None]
SIZE = np.array([10, 20, 30, 25, 15, 7])


def test_the_true_name_is_that_of_most_images() -> None:
    classes = np.array(["b", "a", "b", "c"], object)
    assert true_names(classes, np.array([0, 0, 0, 2]), 3) == ["b", None, "c"]


def test_scores_by_hand() -> None:
    s = name_scores(NAMES, TRUTH, SIZE, WORDS)
    assert s["right_guess"] == s["rules"]["synonym"] == pytest.approx(0.1 + 0.2 + 0.25)
    assert (s["named"], s["general"], s["coverage"]) == pytest.approx((0.6, 0, 0.6))
    assert s["right_of_covered"] == pytest.approx(0.5)
    assert s["wrong_names"] == pytest.approx(0.3)
    assert s["right_or_rightly_silent"] == pytest.approx(0.1 + 0.2 + 0.15)
    # the cosines of the pairs that the vocabulary has: 1 (10 images), 0 (30), 1 (25), 0 (15)
    assert s["similarity"] == pytest.approx(35 / 80)
    assert s["calibration_error"] == pytest.approx(0.1 * 0.1 + 0.2 * 0.2 + 0.3 * 0.6 + 0.25 * 0.8 + 0.15 * 0.1)
    assert s["curve"][5] == pytest.approx({"min_confidence": 0.5, "coverage": 0.6, "risk": 0.5})
    # risk 0 up to a coverage of 0.3, then all wrong, right, wrong
    assert s["aurc"] == pytest.approx(0.45 - 0.3 * np.log(2) + 0.3 * np.log(0.85 / 0.6) - 0.55 * np.log(1 / 0.85))


def test_accepted_names_and_their_absence_decide() -> None:
    accepted = accepted_names({"leopard": ["snow leopard"], "hedgehog": [], "dog": ["cat"]})
    s = name_scores(NAMES, TRUTH, SIZE, WORDS, accepted)
    assert s["rules"] == pytest.approx({"synonym": 0.55, "accepted": 0.45, "general": 0, "special": 0})
    assert (s["right_guess"], s["credit"], s["wrong_names"]) == pytest.approx((1, 1, 0))
    assert s["right_or_rightly_silent"] == pytest.approx(0.6)


def test_three_answers_are_judged_by_what_they_say() -> None:
    general = replace(name("airliner", 0.7), name="animal 2", general="animal", status="general")
    names = [name("airliner", 0.7, agree=0.6), name("airliner", 0.7, agree=0.4), general, name("cat", 0.3)]
    s = name_scores(names, ["airplane", "airplane", "leopard", "dog"], np.array([1, 2, 3, 4]), WORDS)
    assert s["rules"]["special"] == pytest.approx(0.1)
    assert (s["named"], s["general"], s["coverage"]) == pytest.approx((0.3, 0.3, 0.6))
    assert s["right_of_covered"] == pytest.approx(4 / 6)
    assert s["wrong_names"] == pytest.approx(0.2)
    assert s["right_or_rightly_silent"] == pytest.approx(0.8)
    assert s["credit"] > s["right_guess"] == pytest.approx(0.1)


def test_no_names_have_scores_all_the_same() -> None:
    s = name_scores([name(None, 0)], [None], np.array([3]), WORDS)
    assert (s["right_guess"], s["right_of_covered"], s["similarity"], s["aurc"]) == (0, None, None, None)


def test_semantic_accuracy_compares_the_guess_with_the_class_of_every_image() -> None:
    names = [name("Leopards", 0.1), name("zyzzyva", 0.9)]
    s = semantic_accuracy(names, np.array([0, 0, 0, 1]), np.array(["leopard", "leopard", "big_cat", "dog"]))
    assert s["sacc"] == pytest.approx(1 / 2)
    one_step = 1 - np.log(2) / np.log(38)  # "leopard" is a "big cat": two synsets on the path, the hierarchy is 19 deep
    assert s["soft_sacc"] == pytest.approx((1 + 1 + one_step + 0) / 4)


def test_labels_are_scored_each_against_its_class() -> None:
    labels = np.array(["cat (sofa)", "porcupine", None, "dog", "airliner", "airliner", "animal", "animal"], object)
    classes = np.array(["cat", "hedgehog", "cat", "cat", "airplane", "airplane", "leopard", "leopard"], object)
    confidence = np.array([0.9, 0.9, 0.4, 0.1, 0.9, 0.9, 0.9, 0.9])
    agrees, general = np.array([0, 0, 0, 0, 1, 0, 0, 0], bool), np.array([0, 0, 0, 0, 0, 0, 1, 0], bool)
    s = label_scores(labels, confidence, classes, agrees, general)
    assert s["labelled"] == pytest.approx(7 / 8)
    assert s["right_of_labelled"] == pytest.approx(4 / 7)
    assert s["curve"][5]["coverage"] == pytest.approx(6 / 8)
    assert s["curve"][5]["risk"] == pytest.approx(2 / 6)
    accepted = accepted_names({"cat": ["dog"], "airplane": ["airliner"]})
    assert label_scores(labels, confidence, classes, agrees, general, accepted)["right_of_labelled"] == pytest.approx(
        6 / 7
    )
