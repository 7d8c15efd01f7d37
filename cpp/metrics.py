"""How well a clustering agrees with known classes. Labels are used here, to score, and nowhere else."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix


class Scores(NamedTuple):
    """All in [0, 1] (`ari` can be below 0): accuracy under the best one-to-one match of clusters and classes,
    normalised mutual information (arithmetic mean) and adjusted Rand index."""

    acc: float
    nmi: float
    ari: float


def scores(classes: ArrayLike, clusters: ArrayLike) -> Scores:
    """Score clusters `[n]` against classes `[n]`; both may be numbers or strings."""
    return Scores(
        accuracy(classes, clusters),
        float(normalized_mutual_info_score(classes, clusters)),
        float(adjusted_rand_score(classes, clusters)),
    )


def accuracy(classes: ArrayLike, clusters: ArrayLike) -> float:
    """Share of rows that are right when every cluster stands for at most one class (Hungarian method)."""
    table = contingency_matrix(classes, clusters)
    matched = table[linear_sum_assignment(table, maximize=True)].sum()
    return float(matched / np.sum(table))
