"""Calibration, and risk against coverage, by hand and against the definition image by image."""

import numpy as np
import pytest

from cpp.evaluation.selective import calibration_error, risk_coverage_area, risk_coverage_curve

SURE, RIGHT = np.array([0.25] * 4 + [0.75] * 4), np.array([1, 0, 0, 0, 1, 1, 1, 0], bool)
EIGHTH = np.full(8, 1 / 8)


def test_confidence_that_is_true_has_no_calibration_error() -> None:
    assert calibration_error(SURE, RIGHT, EIGHTH) == pytest.approx(0)
    assert calibration_error(1 - SURE, RIGHT, EIGHTH) == pytest.approx(0.5)
    assert calibration_error(np.array([1, 0.9]), np.array([False, True]), np.ones(2)) == pytest.approx(0.45)  # one bin


def test_risk_falls_with_coverage() -> None:
    rows = risk_coverage_curve(SURE, RIGHT, EIGHTH)
    assert (rows[0]["coverage"], rows[0]["risk"]) == pytest.approx((1, 0.5))
    assert (rows[5]["coverage"], rows[5]["risk"]) == pytest.approx((0.5, 0.25))
    assert (rows[9]["coverage"], rows[9]["risk"]) == (0, None)
    assert risk_coverage_curve(np.array([0.5]), np.ones(1, bool), np.ones(1))[5]["coverage"] == 1


def test_the_area_of_two_groups_by_hand() -> None:
    # half of the weight at risk 0, then half at risk 1: the risk at coverage c is 1 - 1 / (2 c)
    area = risk_coverage_area(np.array([0.1, 0.9]), np.array([False, True]), np.array([3.0, 3.0]))
    assert area == pytest.approx(0.5 - np.log(2) / 2)
    assert risk_coverage_area(np.array([0.9, 0.1]), np.array([False, True]), np.ones(2)) == pytest.approx(
        0.5 + np.log(2) / 2
    )


def test_the_area_is_the_mean_risk_over_all_coverages() -> None:
    rng = np.random.default_rng(0)
    size, confidence, right = rng.integers(1, 400, 60), rng.random(60), rng.random(60) < 0.7
    order = np.argsort(-confidence)
    wrong = np.repeat(~right[order], size[order])  # one entry for each image, the most confident first
    definition = (np.cumsum(wrong) / np.arange(1, len(wrong) + 1)).mean()
    assert risk_coverage_area(confidence, right, size.astype(float)) == pytest.approx(definition, abs=1e-3)


def test_equal_confidence_gives_no_order() -> None:
    assert risk_coverage_area(np.full(8, 0.5), RIGHT, EIGHTH) == pytest.approx(0.5)
    assert risk_coverage_area(np.full(8, 0.5), RIGHT[::-1], EIGHTH) == pytest.approx(0.5)


def test_entries_without_weight_do_not_count() -> None:
    weight = np.array([0.0, 2.0, 2.0])
    assert risk_coverage_area(np.array([1, 0.9, 0.1]), np.array([False, True, True]), weight) == 0
    assert risk_coverage_area(np.ones(1), np.ones(1, bool), np.zeros(1)) is None
