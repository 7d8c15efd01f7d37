"""Scores of names where the true ones are known. True names are used for scoring only.

The true name of a cluster is the class that most of its images have. A name is right at three levels, each of which
includes those before it: `exact` (equal when normalised: case, plural, notes in brackets), `synonym` (or a common
synset of WordNet), `head` (or one is the last word of the other: "leopard" of "snow leopard"). `similarity` is the
cosine of the text vectors of name and truth, over the clusters whose name and truth are in the vocabulary. A cluster
without a name is rightly silent if its guess is not right by synonym. All scores are weighted by images.

Knows no files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpp.naming import wordnet
from cpp.naming.names import Name
from cpp.naming.vocabulary import Vocabulary

THRESHOLDS = tuple(i / 10 for i in range(10))
BINS = 10  # of the confidence, for the calibration


def true_names(classes_n: NDArray[Any], cluster_n: NDArray[np.integer], n_clusters: int) -> list[str | None]:
    """The most frequent class of each cluster, the first of equal ones in order; None for an empty cluster."""
    names, index = np.unique(classes_n.astype(str), return_inverse=True)
    counts = np.zeros((n_clusters, len(names)), np.int64)
    np.add.at(counts, (cluster_n, index), 1)
    return [str(names[row.argmax()]) if row.any() else None for row in counts]


def head(a: str, b: str) -> bool:
    """Whether two names are synonyms, or one is the last word of the other."""
    x, y = wordnet.normal(a), wordnet.normal(b)
    return wordnet.synonyms(a, b) or (bool(x and y) and (x.split()[-1] == y or y.split()[-1] == x))


def name_scores(
    names: Sequence[Name], truth: Sequence[str | None], size_k: NDArray[np.integer], vocabulary: Vocabulary
) -> dict[str, Any]:
    """Scores of the names of clusters of `size_k` images; all shares are of the images, in [0, 1].

    `right` by level and `similarity` score the guesses, whether shown or not; `named` is the share with a name,
    `right_of_named` (by synonym) and `right_or_rightly_silent` score what is shown; `calibration_error` is the expected
    one, over ten bins of confidence; `curve` has coverage and accuracy as the threshold moves.
    """
    known = np.array([t is not None and n.guess is not None for t, n in zip(truth, names, strict=True)])
    weight = np.where(known, size_k, 0) / max(size_k[known].sum(), 1)
    pairs = [(n.guess or "", t or "") for n, t in zip(names, truth, strict=True)]
    exact = np.array([wordnet.normal(a) == wordnet.normal(b) != "" for a, b in pairs])
    right = np.array([wordnet.synonyms(a, b) for a, b in pairs])
    near = np.array([head(a, b) for a, b in pairs])
    named, sure = np.array([n.name is not None for n in names]), np.array([n.confidence for n in names])
    return {
        "right": {
            level: float(weight[marked].sum())
            for level, marked in (("exact", exact), ("synonym", right), ("head", near))
        },
        "similarity": _similarity(pairs, weight, vocabulary),
        "named": float(weight[named].sum()),
        "right_of_named": _mean(right[named], weight[named]),
        "right_or_rightly_silent": float(weight[named == right].sum()),
        "calibration_error": calibration_error(sure, right, weight),
        "curve": curve(sure, right, weight),
    }


def label_scores(label_n: NDArray[Any], confidence_n: NDArray[np.floating], classes_n: NDArray[Any]) -> dict[str, Any]:
    """Scores of the labels of images (None for an image without one), each against its own class."""
    names = {(a, str(b)) for a, b in zip(label_n, classes_n, strict=True) if a is not None}
    same = {pair for pair in names if wordnet.synonyms(*pair)}
    right = np.array([(a, str(b)) in same for a, b in zip(label_n, classes_n, strict=True)])
    labelled = np.array([a is not None for a in label_n])
    weight = np.full(len(right), 1 / max(len(right), 1))
    sure = confidence_n[labelled]
    return {
        "labelled": float(weight[labelled].sum()),
        "right_of_labelled": _mean(right[labelled], weight[labelled]),
        "calibration_error": calibration_error(sure, right[labelled], weight[labelled]),
        "curve": curve(sure, right[labelled], weight[labelled]),
    }


def calibration_error(sure: NDArray[np.floating], right: NDArray[np.bool_], weight: NDArray[np.floating]) -> float:
    """Expected calibration error: the weighted mean difference of confidence and accuracy over ten bins."""
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weight * (sure - right), BINS)
    return float(np.abs(gaps).sum() / max(weight.sum(), 1e-30))


def curve(sure: NDArray[np.floating], right: NDArray[np.bool_], weight: NDArray[np.floating]) -> list[dict[str, Any]]:
    """Coverage and accuracy of the names with at least each threshold of confidence."""
    above = ((t, sure >= t) for t in THRESHOLDS)
    return [
        {"min_confidence": t, "coverage": float(weight[on].sum()), "right": _mean(right[on], weight[on])}
        for t, on in above
    ]


def _similarity(pairs: Sequence[tuple[str, str]], weight: NDArray[np.floating], vocabulary: Vocabulary) -> float | None:
    number = {wordnet.normal(word): i for i, word in reversed(list(enumerate(vocabulary.words)))}
    rows = [(number.get(wordnet.normal(a)), number.get(wordnet.normal(b))) for a, b in pairs]
    both = np.array([None not in row for row in rows]) & (weight > 0)
    if not both.any():
        return None
    text = vocabulary.vectors.numpy()
    cosine = [float(text[a] @ text[b]) for (a, b), in_both in zip(rows, both, strict=True) if in_both]
    return _mean(np.array(cosine), weight[both])


def _mean(values: NDArray[Any], weight: NDArray[np.floating]) -> float | None:
    return float(np.average(values, weights=weight)) if weight.sum() > 0 else None
