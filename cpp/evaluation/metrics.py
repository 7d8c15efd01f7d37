"""Scores of a clustering against known classes. Labels are used for scoring only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from cpp.files.tables import batches, read_schema


class Scores(NamedTuple):
    """All in [0, 1] (`ari` can be below 0): accuracy under the best one-to-one match of clusters and classes,
    normalised mutual information (arithmetic mean) and adjusted Rand index."""

    acc: float
    nmi: float
    ari: float


def scores(classes: ArrayLike, clusters: ArrayLike) -> Scores:
    """Score clusters `[n]` against classes `[n]`; both may be numbers or strings."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    return Scores(
        accuracy(classes, clusters),
        float(normalized_mutual_info_score(classes, clusters)),
        float(adjusted_rand_score(classes, clusters)),
    )


def accuracy(classes: ArrayLike, clusters: ArrayLike) -> float:
    """Share of right rows under the best one-to-one match of clusters and classes (Hungarian method)."""
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics.cluster import contingency_matrix

    table = contingency_matrix(classes, clusters)
    matched = table[linear_sum_assignment(table, maximize=True)].sum()
    return float(matched / np.sum(table))


class Labelled(NamedTuple):
    """Rows of a run, `[n]`: cluster, true class as text, None if it is not known, and whether it is known."""

    cluster: NDArray[np.int32]
    label: NDArray[np.object_]
    known: NDArray[np.bool_]


def labelled(assignments: Sequence[str], column: str, prefetch: int) -> Labelled:
    """Clusters and labels from ASSIGNMENTS files. ValueError if the column is missing or has no values."""
    for path in assignments:
        if column not in (names := read_schema(path).names):
            raise ValueError(f"{path} has no column {column!r} (evaluate.label); it has {', '.join(names)}")
    table = pa.Table.from_batches(list(batches(assignments, ["cluster", column], prefetch)))
    known = table[column].is_valid().to_numpy()
    if not known.any():
        raise ValueError(f"the column {column!r} (evaluate.label) has no values: remove the section evaluate")
    return Labelled(table["cluster"].to_numpy(), pc.cast(table[column], pa.string()).to_numpy(), known)


def kmeans_baseline(
    sample: NDArray[np.floating], rows: Iterable[NDArray[np.floating]], n_clusters: int, seed: int
) -> NDArray[np.int32]:
    """Clusters `[n]` of all `rows` by scikit-learn's k-means, best of 10 k-means++ starts on the `sample`."""
    from sklearn.cluster import KMeans

    kmeans = KMeans(n_clusters, n_init=10, random_state=seed).fit(sample.astype(np.float32))
    return np.concatenate([kmeans.predict(X.astype(np.float32)) for X in rows])
