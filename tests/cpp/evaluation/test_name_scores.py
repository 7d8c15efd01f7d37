"""How names are scored, by hand."""

import numpy as np
import pytest

from cpp.evaluation.name_scores import calibration_error, curve, head, label_scores, name_scores, true_names
from cpp.naming.names import Name
from cpp.naming.vocabulary import Vocabulary

WORDS = Vocabulary.of(["hedgehog", "leopard", "snow leopard", "dog", "cat"], np.eye(5, dtype=np.float32))


def name(guess: str | None, confidence: float) -> Name:
    return Name(guess, confidence, 0, None, 0, 0, [], guess if confidence >= 0.5 else None)


def test_the_true_name_is_that_of_most_images() -> None:
    classes = np.array(["b", "a", "b", "c"], object)
    assert true_names(classes, np.array([0, 0, 0, 2]), 3) == ["b", None, "c"]


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("snow leopards", "leopard", True),
        ("leopard", "snow_leopard", True),
        ("snow leopard", "clouded leopard", False),
        ("porcupine", "hedgehog", True),
        ("dog", "cat", False),
        ("", "cat", False),
    ],
)
def test_head_words(a: str, b: str, same: bool) -> None:
    assert head(a, b) is same


def test_scores_by_hand() -> None:
    names = [
        name("hedgehogs", 0.9),
        name("porcupine", 0.8),
        name("snow leopard", 0.6),
        name("dog", 0.2),
        name("cat", 0.1),
    ]
    truth = ["hedgehog", "hedgehog", "leopard", "dog", "dog"]
    s = name_scores([*names, name(None, 0.0)], [*truth, None], np.array([10, 20, 30, 25, 15, 7]), WORDS)
    assert s["right"] == pytest.approx({"exact": 0.35, "synonym": 0.55, "head": 0.85})
    assert s["named"] == pytest.approx(0.6)
    assert s["right_of_named"] == pytest.approx(0.5)
    assert s["right_or_rightly_silent"] == pytest.approx(0.1 + 0.2 + 0.15)
    # the cosines of the pairs that the vocabulary has: 1 (10 images), 0 (30), 1 (25), 0 (15)
    assert s["similarity"] == pytest.approx(35 / 80)
    expected = 0.1 * 0.1 + 0.2 * 0.2 + 0.3 * 0.6 + 0.25 * 0.8 + 0.15 * 0.1
    assert s["calibration_error"] == pytest.approx(expected)


def test_confidence_that_is_true_has_no_error_and_its_curve_rises() -> None:
    sure, right = np.array([0.25] * 4 + [0.75] * 4), np.array([1, 0, 0, 0, 1, 1, 1, 0], bool)
    weight = np.full(8, 1 / 8)
    assert calibration_error(sure, right, weight) == pytest.approx(0)
    assert calibration_error(1 - sure, right, weight) == pytest.approx(0.5)
    rows = curve(sure, right, weight)
    assert (rows[0]["coverage"], rows[0]["right"]) == pytest.approx((1, 0.5))
    assert (rows[5]["coverage"], rows[5]["right"]) == pytest.approx((0.5, 0.75))
    assert (rows[9]["coverage"], rows[9]["right"]) == (0, None)


def test_labels_are_scored_each_against_its_class() -> None:
    labels = np.array(["cat (sofa)", "porcupine", None, "dog"], object)
    s = label_scores(labels, np.array([0.9, 0.9, 0.4, 0.1]), np.array(["cat", "hedgehog", "cat", "cat"], object))
    assert s["labelled"] == pytest.approx(0.75)
    assert s["right_of_labelled"] == pytest.approx(2 / 3)
    assert s["curve"][5]["coverage"] == pytest.approx(0.5)
    assert s["curve"][5]["right"] == pytest.approx(1)
