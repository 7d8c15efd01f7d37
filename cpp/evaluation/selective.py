"""Scores of predictions with a confidence, of which those of low confidence may be withheld. Knows no names.

In all functions `confidence` in [0, 1], `right` and `weight` are `[n]`, one entry for predictions of one confidence
that are right together: a cluster with its share of the images, for example.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = tuple(i / 10 for i in range(10))
BINS = 10  # of the confidence, for the calibration

Floats = NDArray[np.floating]


def mean(values: NDArray[Any], weight: NDArray[np.number]) -> float | None:
    """The weighted mean; None if nothing has weight."""
    return float(np.average(values, weights=weight)) if weight.sum() > 0 else None


def calibration_error(confidence: Floats, right: NDArray[np.bool_], weight: Floats) -> float:
    """Expected calibration error: the weighted mean difference of confidence and accuracy over ten bins."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weight * (confidence - right), BINS)
    return float(np.abs(gaps).sum() / max(weight.sum(), 1e-30))


def risk_coverage_curve(confidence: Floats, right: NDArray[np.bool_], weight: Floats) -> list[dict[str, Any]]:
    """Coverage, and risk (the share of wrong ones), of the predictions with at least each threshold of confidence."""
    above = ((t, confidence >= t) for t in THRESHOLDS)
    return [
        {"min_confidence": t, "coverage": float(weight[on].sum()), "risk": mean(~right[on], weight[on])}
        for t, on in above
    ]


def risk_coverage_area(confidence: Floats, right: NDArray[np.bool_], weight: Floats) -> float | None:
    """The area under the curve of risk against coverage (AURC), in [0, 1]; lower is better. None without weight.

    It is the mean risk of the most confident predictions over all coverages. Predictions of equal confidence come in
    random order: while they come, the risk at coverage c is (E + (c - C) r) / c, with the wrong ones E and the coverage
    C before them and their own risk r, and its integral up to the coverage D is r (D - C) + (E - r C) ln(D / C).

    Source: Geifman, Uziel and El-Yaniv, "Bias-reduced uncertainty estimation for deep neural classifiers", ICLR 2019;
    Ding et al., "Revisiting the evaluation of uncertainty estimation ...", CVPR workshops 2020.
    """
    if not weight.sum() > 0:
        return None
    _, group = np.unique(-confidence[weight > 0], return_inverse=True)  # groups of equal confidence, highest first
    share = np.bincount(group, weight[weight > 0]) / weight.sum()
    wrong = np.bincount(group, (weight * ~right)[weight > 0]) / weight.sum()
    end, risk = np.cumsum(share), wrong / share
    start, before = end - share, np.cumsum(wrong) - wrong
    growth = np.log(end[1:] / start[1:])
    return float(risk @ share + (before - risk * start)[1:] @ growth)
