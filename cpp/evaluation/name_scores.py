"""Scores of names where the true classes are known. Classes are used for scoring only.

The class of a cluster is the one that most of its images have. A cluster has one *answer*: its name, the more general
name in its place, or, where it is unsure, none but a guess. What is right is decided by `name_judgement`. A cluster
without a name is rightly silent if its guess is wrong. All scores are weighted by images.

Beside these are the scores of the literature: `sacc`, the share of images whose guess is the name of their class, and
`soft_sacc`, the mean similarity of guess and class by Leacock and Chodorow (Han et al., arXiv 2304.02364), which know
no silence.

Knows no files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from cpp.evaluation.accepted_names import NO_LISTS, Accepted
from cpp.evaluation.name_judgement import Judgement, Rule, judge
from cpp.evaluation.selective import calibration_error, mean, risk_coverage_area, risk_coverage_curve
from cpp.naming import wordnet
from cpp.naming.names import Name
from cpp.naming.vocabulary import Vocabulary

WRONG = Judgement(None, 0.0)


def true_names(classes_n: NDArray[Any], cluster_n: NDArray[np.integer], n_clusters: int) -> list[str | None]:
    """The most frequent class of each cluster, the first of equal ones in order; None for an empty cluster."""
    names, index = np.unique(classes_n.astype(str), return_inverse=True)
    counts = np.zeros((n_clusters, len(names)), np.int64)
    np.add.at(counts, (cluster_n, index), 1)
    return [str(names[row.argmax()]) if row.any() else None for row in counts]


def judge_answer(name: Name, kind: str, accepted: Accepted) -> Judgement:
    """Judge what a cluster is called, or its guess if it is unsure; wrong if it has neither."""
    general = name.status == "general"
    word = name.word or name.guess
    return judge(word, kind, accepted, general=general, agree=0 if general else name.agree) if word else WRONG


def judge_guess(name: Name, kind: str, accepted: Accepted) -> Judgement:
    """Judge the guess of a cluster, whether it is shown or not."""
    return judge(name.guess, kind, accepted, agree=name.agree) if name.guess else WRONG


def name_scores(
    names: Sequence[Name],
    truth: Sequence[str | None],
    size_k: NDArray[np.integer],
    vocabulary: Vocabulary,
    accepted: Accepted = NO_LISTS,
) -> dict[str, Any]:
    """Scores of the names of clusters of `size_k` images; all shares are of the images, in [0, 1].

    Of the guesses, whether shown or not: `right_guess`, its parts by rule in `rules`, `credit` with partial credit, and
    `similarity`, the mean cosine of the text vectors of guess and class where the vocabulary has both. Of the answers:
    `named` and `general`, the shares with a name of each kind, `coverage`, their sum, `right_of_covered`,
    `wrong_names`, the share of the images that carry a wrong name, `right_or_rightly_silent`, the `calibration_error`
    of the confidence, and the `curve` of risk against coverage with its area, `aurc`.
    """
    known = np.array([t is not None and n.guess is not None for t, n in zip(truth, names, strict=True)])
    weight = np.where(known, size_k, 0) / max(size_k[known].sum(), 1)
    pairs = [(n.guess or "", t or "") for n, t in zip(names, truth, strict=True)]
    guesses = [judge_guess(n, t or "", accepted) for n, t in zip(names, truth, strict=True)]
    answers = [judge_answer(n, t or "", accepted) for n, t in zip(names, truth, strict=True)]
    right, status = np.array([a.right for a in answers]), np.array([n.status for n in names])
    covered, confidence = np.isin(status, ("named", "general")), np.array([n.confidence for n in names])
    rules = {rule: float(weight[[g.rule == rule for g in guesses]].sum()) for rule in get_args(Rule)}
    return {
        "right_guess": sum(rules.values()),
        "rules": rules,
        "credit": float(weight @ np.array([g.credit for g in guesses])),
        "similarity": _similarity(pairs, weight, vocabulary),
        "named": float(weight[status == "named"].sum()),
        "general": float(weight[status == "general"].sum()),
        "coverage": float(weight[covered].sum()),
        "right_of_covered": mean(right[covered], weight[covered]),
        "wrong_names": float(weight[covered & ~right].sum()),
        "right_or_rightly_silent": float(weight[covered == right].sum()),
        "calibration_error": calibration_error(confidence, right, weight),
        "curve": risk_coverage_curve(confidence, right, weight),
        "aurc": risk_coverage_area(confidence, right, weight),
    }


def semantic_accuracy(names: Sequence[Name], cluster_n: NDArray[np.integer], classes_n: NDArray[Any]) -> dict[str, Any]:
    """`sacc` and `soft_sacc` in [0, 1] of the guesses for the images' clusters, each against the image's own class.

    Three details are ours, not the paper's: names count as equal in their normal forms, the most similar senses are
    compared, and the similarity is divided by its largest value, so that it is 1 for equal names. It is 0 for words
    that WordNet lacks.

    Source: Han et al., "What's in a name? Beyond class indices for image recognition", arXiv 2304.02364.
    """
    pairs, images = np.unique(np.stack([cluster_n.astype(str), classes_n.astype(str)]), axis=1, return_counts=True)
    words = [(names[int(cluster)].guess or "", kind) for cluster, kind in pairs.T]
    equal = np.array([wordnet.normal(guess) == wordnet.normal(kind) != "" for guess, kind in words])
    similarity = np.array([wordnet.leacock_chodorow(guess, kind) for guess, kind in words])
    return {"sacc": mean(equal, images), "soft_sacc": mean(similarity, images)}


def label_scores(
    label_n: NDArray[Any],
    confidence_n: NDArray[np.floating],
    classes_n: NDArray[Any],
    agrees_n: NDArray[np.bool_],
    general_n: NDArray[np.bool_],
    accepted: Accepted = NO_LISTS,
) -> dict[str, Any]:
    """Scores of the labels of images (None for an image without one), each against its own class.

    `agrees_n` tells whether the image's own best word is the guess or one below it, `general_n` whether the label is
    meant to be more general.
    """
    rows = list(zip(label_n, classes_n.astype(str), agrees_n.tolist(), general_n.tolist(), strict=True))
    judged = {
        row: row[0] is not None and judge(row[0], row[1], accepted, agree=float(row[2]), general=row[3]).right
        for row in set(rows)
    }
    labelled = np.array([label is not None for label in label_n])
    right = np.array([judged[row] for row in rows])[labelled]
    confidence, weight = confidence_n[labelled], np.full(int(labelled.sum()), 1 / max(len(rows), 1))
    return {
        "labelled": float(weight.sum()),
        "right_of_labelled": mean(right, weight),
        "calibration_error": calibration_error(confidence, right, weight),
        "curve": risk_coverage_curve(confidence, right, weight),
        "aurc": risk_coverage_area(confidence, right, weight),
    }


def _similarity(pairs: Sequence[tuple[str, str]], weight: NDArray[np.floating], vocabulary: Vocabulary) -> float | None:
    number = {wordnet.normal(word): i for i, word in reversed(list(enumerate(vocabulary.words)))}
    rows = [(number.get(wordnet.normal(a)), number.get(wordnet.normal(b))) for a, b in pairs]
    both = np.array([None not in row for row in rows]) & (weight > 0)
    text = vocabulary.vectors.numpy()
    cosine = [float(text[a] @ text[b]) for (a, b), in_both in zip(rows, both, strict=True) if in_both]
    return mean(np.array(cosine), weight[both])
