"""How good the names of clusters are, and where the numbers of their confidence come from: `make bench-names`.

Clusterings of the five sets of real vectors (CPP_TEST_DATA) by our recipe with several K, and their true classes, are
named with the words of ImageNet-1k and LVIS. Words are judged by lists of accepted names: that beside the data for
caltech101, and ours in `tests/bench/accepted` for the others, each written by one person. Each set is scored with a
confidence that was fitted on the other four, with all words and without those of the true names. The last lines are the
regressions on all sets, the constants of `cpp.naming.names`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cpp.clustering.partition import centroids, partition
from cpp.evaluation.accepted_names import Accepted, accepted_names
from cpp.evaluation.name_judgement import is_right
from cpp.evaluation.name_scores import true_names
from cpp.evaluation.selective import calibration_error
from cpp.naming import names as naming
from cpp.naming.vocabulary import Vocabulary
from cpp.naming.votes import VoteResult, vote
from cpp.nearest import Nearest
from cpp.rate_reduction.fit import fit
from cpp.rate_reduction.recipes import Discriminant
from cpp.sources.vectors import read_words
from tests.bench import heading
from tests.bench.head import SETS, read

CLUSTERS = {
    "caltech101": (50, 100, 200),
    "oxford_pets": (20, 37, 74),
    "dtd": (24, 47, 94),
    "sun397": (69, 200, 397),
    "fgvc": (20, 50, 100),
}
WORDS = ("imagenet1k", "lvis1203")
NEVER = 2.0  # a confidence that no guess reaches
Floats = NDArray[np.floating[Any]]


class Case(NamedTuple):
    """A clustering: the votes of its images, its true names, and the words that are left out."""

    set: str
    clusters: str
    excluded: bool
    cluster: NDArray[np.int32]
    votes: VoteResult
    truth: list[str | None]
    classes: NDArray[np.str_]
    accepted: Accepted
    exclude: NDArray[np.bool_] | None


class Answer(NamedTuple):
    """The name of a cluster, and whether its guess and its general word are right."""

    set: str
    clusters: str
    excluded: bool
    size: int
    name: naming.Name
    guess_right: bool
    general_right: bool
    fit: float  # of the vocabulary to the clustering


def class_names(data: Path, name: str) -> tuple[NDArray[np.str_], Accepted]:
    """The class of every image of a set, and the accepted names."""
    folder = data / SETS[name] / "metadata"
    table = [pq.read_table(folder / f"metadata_{i}.parquet") for i in range(len(list(folder.glob("*.parquet"))))]
    own = Path(__file__).parent / "accepted" / f"{name}.json"
    lists = json.loads((own if own.exists() else data.parent / "caltech101-accepted-names.json").read_text())
    if "class" in table[0].column_names:
        return np.concatenate([part["class"].to_numpy() for part in table]).astype(str), accepted_names(lists)
    label = np.concatenate([part["label"].to_numpy() for part in table])
    return np.array(list(lists))[np.minimum(label, len(lists) - 1)], accepted_names(lists)


def cases(data: Path, name: str, vocabulary: Vocabulary) -> Iterator[Case]:
    X, y = read(data / SETS[name])
    classes, accepted = class_names(data, name)
    for K in (None, *CLUSTERS[name]):
        cluster = y.astype(np.int32)
        if K:
            codes = fit(X, Discriminant(), K, 0)[0].project(X, 8192)
            group = partition(codes, K, "auto", 0.1, 8192, 0).group
            cluster = Nearest(centroids(codes.Z, group, K))(codes.Z.numpy(), 8192).cluster
        votes = vote(X, cluster, vocabulary, X.mean(0), 5, 8192, "cpu")
        truth = true_names(classes, cluster, int(cluster.max()) + 1)
        for excluded in (False, True):
            exclude = vocabulary.meaning(kind for kind in truth if kind) if excluded else None
            yield Case(name, str(K or "true"), excluded, cluster, votes, truth, classes, accepted, exclude)


def answers(case: Case, vocabulary: Vocabulary, constants: Mapping[str, float] | None = None) -> list[Answer]:
    """The names of a case, judged, by the rule in use with other constants."""
    constants = constants or {}
    before = {key: getattr(naming, key) for key in constants}
    vars(naming).update(constants)
    sure = 0.0 if constants.get("SPECIFIC") == NEVER else 0.5
    size, votes = np.bincount(case.cluster), case.votes.votes
    fit = naming.vocabulary_fit(votes if case.exclude is None else votes.select(~case.exclude[votes.word]), size)
    names = naming.names(votes, size, vocabulary, sure=sure, exclude=case.exclude)
    vars(naming).update(before)
    return [
        Answer(
            case.set,
            case.clusters,
            case.excluded,
            int(n),
            name,
            name.guess is not None and is_right(name.guess, kind or "", case.accepted),
            name.general is not None and is_right(name.general, kind or "", case.accepted, general=True),
            fit,
        )
        for n, name, kind in zip(size, names, case.truth, strict=True)
    ]


def regression(rows: Floats, right: NDArray[np.bool_], weight: Floats) -> list[float]:
    """Intercept and coefficients of a logistic regression."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1e3).fit(rows, right, sample_weight=weight / weight.sum() * len(rows))
    return [float(model.intercept_[0]), *map(float, model.coef_[0])]


def constants(evidence: Sequence[Answer]) -> dict[str, float]:
    """The constants of the confidence. Every set counts the same, a cluster by the square root of its images."""
    share = np.array([answer.name.guess_confidence for answer in evidence])
    general = np.array([answer.name.confidence for answer in evidence])
    with_general = np.array([answer.name.general is not None for answer in evidence])
    weight = np.sqrt([answer.size for answer in evidence])
    for name in CLUSTERS:
        rows = np.array([answer.set == name for answer in evidence])
        if rows.any():
            weight[rows] /= weight[rows].sum()
    guess = regression(log_odds(share)[:, None], np.array([a.guess_right for a in evidence]), weight)
    right = np.array([a.general_right for a in evidence])[with_general]
    rows = np.stack([log_odds(general), log_odds(np.array([answer.fit for answer in evidence]))], 1)
    above = regression(rows[with_general], right, weight[with_general])
    names = ("GUESS_INTERCEPT", "GUESS_SLOPE", "GENERAL_INTERCEPT", "GENERAL_SLOPE", "GENERAL_FIT")
    return dict(zip(names, [*guess, *above], strict=True))


def image_constants(every: Sequence[Case], vocabulary: Vocabulary) -> dict[str, float]:
    """The constants of the confidence of a label, from images of named and unnamed clusters with all words."""
    rows, right, weight = [], [], []
    for case in every:
        if case.excluded:
            continue
        names = [answer.name for answer in answers(case, vocabulary)]
        agreement = naming.Agreement([vars(name) for name in names], vocabulary)
        shown = np.array([name.general or name.guess or "" for name in names])[case.cluster]
        general = np.array([name.general is not None for name in names])[case.cluster]
        pairs = set(zip(shown.tolist(), case.classes.tolist(), general.tolist(), strict=True))
        hits = {pair for pair in pairs if is_right(*pair[:2], case.accepted, general=pair[2])}
        right.append([pair in hits for pair in zip(shown, case.classes, general, strict=True)])
        odds = log_odds(np.array([name.confidence for name in names]))[case.cluster]
        rows.append(np.stack([odds, agreement(case.cluster, case.votes.word)], 1))
        weight.append(np.full(len(odds), 1 / len(odds)))
    fitted = regression(np.concatenate(rows), np.concatenate(right), np.concatenate(weight))
    return dict(zip(("INTERCEPT", "ODDS_WEIGHT", "AGREE_WEIGHT"), fitted, strict=True))


def log_odds(share: Floats) -> Floats:
    share = share.clip(0.01, 0.99)
    return np.log(share / (1 - share))


def row(results: Sequence[Answer]) -> str:
    """Percent of the images: right guesses, named, general; right of these; right or rightly silent; wrong; ECE."""
    weight = np.array([a.size for a in results]) / sum(a.size for a in results)
    status = np.array([a.name.status for a in results])
    guess = np.array([a.guess_right for a in results])
    right = np.where(status == "general", [a.general_right for a in results], guess)
    shown = status != "unsure"
    sure = np.array([a.name.confidence for a in results])
    cells = [
        weight[guess].sum(),
        weight[status == "named"].sum(),
        weight[status == "general"].sum(),
        weight[shown & right].sum() / max(weight[shown].sum(), 1e-9),
        weight[np.where(shown, right, ~guess)].sum(),
        weight[shown & ~right].sum(),
        calibration_error(sure, right, weight),
    ]
    return " | ".join(f"{100 * cell:.1f}" for cell in cells)


def main() -> None:
    data = Path(os.environ.get("CPP_TEST_DATA") or sys.exit("set CPP_TEST_DATA to the folder of real data"))
    parts = [read_words(str(data / "clip-b32-text" / words)) for words in WORDS]
    vocabulary = Vocabulary.of([w for words, _ in parts for w in words], np.concatenate([X for _, X in parts]))
    print(f"{heading()}; shares of the images in percent\n")
    every = [case for name in CLUSTERS for case in cases(data, name, vocabulary)]
    identity = {"GUESS_INTERCEPT": 0.0, "GUESS_SLOPE": 1.0, "SPECIFIC": NEVER}
    identity |= {"GENERAL_INTERCEPT": 0.0, "GENERAL_SLOPE": 1.0, "GENERAL_FIT": 0.0}
    evidence = [a for case in every for a in answers(case, vocabulary, identity)]
    print("| set | K | words | constants | guess | named | general | right of these | right or silent | wrong | ECE |")
    print("|---" * 11 + "|")
    for case in every:
        words = "without the true names" if case.excluded else "all"
        others = constants([a for a in evidence if a.set != case.set])
        for fitted, values in (("other sets", others), ("in use", {})):
            print(f"| {case.set} | {case.clusters} | {words} | {fitted} | {row(answers(case, vocabulary, values))} |")
    print("\nfitted on all sets:", {key: round(value, 2) for key, value in constants(evidence).items()})
    print("labels:", {key: round(value, 2) for key, value in image_constants(every, vocabulary).items()})
    print("in use:", {key: getattr(naming, key) for key in identity})


if __name__ == "__main__":
    main()
