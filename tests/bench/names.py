"""How good the names of clusters are, and where the numbers of the confidence come from: `make bench-names`.

Clusterings of the two sets of real vectors that have class names (CPP_TEST_DATA), by our recipe with several K, named
with the words of ImageNet-1k and LVIS. Prints how often names are right, by ours and by the published vote, and the
logistic regressions that `cpp.naming.names` and `cpp.naming.cluster_table` have their constants from: fitted on one
set, tried on the other.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cpp.clustering.partition import centroids, partition
from cpp.evaluation.name_scores import calibration_error, name_scores, true_names
from cpp.naming import cluster_table, wordnet
from cpp.naming import names as naming
from cpp.naming.vocabulary import Vocabulary
from cpp.naming.votes import vote
from cpp.nearest import Nearest
from cpp.rate_reduction.fit import fit
from cpp.rate_reduction.recipes import Discriminant
from cpp.sources.vectors import read_words
from tests.bench import heading
from tests.bench.head import SETS, read

TRIED = {"caltech101": (50, 100, 200), "oxford_pets": (20, 37, 74)}
WORDS = ("imagenet1k", "lvis1203")
Floats = NDArray[np.floating[Any]]


class Case(NamedTuple):
    """One clustering: by cluster the two numbers, the images, and the share of them whose class is the guess; by image
    the confidence of its cluster, its margin, its lag, and whether the guess is its class."""

    set: str
    cluster: Floats  # [K, 2]
    size: NDArray[np.int64]
    share: Floats
    image: Floats  # [n, 3]
    right: NDArray[np.bool_]


def case(data: Path, name: str, K: int, vocabulary: Vocabulary) -> Case:
    """Also prints the scores of the names."""
    X, _ = read(data / SETS[name])
    folder = data / SETS[name] / "metadata"
    files = [folder / f"metadata_{i}.parquet" for i in range(len(list(folder.glob("*.parquet"))))]
    classes = np.concatenate([pq.read_table(file)["class"].to_numpy() for file in files]).astype(str)
    codes = fit(X, Discriminant(), K, 0)[0].project(X, 8192)
    group = partition(codes, K, "auto", 0.1, 8192, 0).group
    found = Nearest(centroids(codes.Z, group, K))(codes.Z.numpy(), 8192)
    said = vote(X, found.cluster, vocabulary, 5, 8192, "cpu")
    size = np.bincount(found.cluster, minlength=K)
    truth = true_names(classes, found.cluster, K)
    for method in ("lift", "paper"):
        names = naming.names(said.votes, said.sums, vocabulary, method=method)
        s = name_scores(names, truth, size, vocabulary)
        right = [s["right"][level] for level in ("exact", "synonym", "head")]
        cells = [*right, s["named"], s["right_of_named"] or 0, s["right_or_rightly_silent"], s["calibration_error"]]
        print(f"| {name} | {K} | {method} | {' | '.join(f'{100 * cell:.1f}' for cell in cells)} |", flush=True)
    names = naming.names(said.votes, said.sums, vocabulary)
    at = {word: i for i, word in enumerate(vocabulary.words)}
    guess = np.array([at[n.guess or ""] for n in names])
    same = {(g, c): wordnet.synonyms(vocabulary.words[g], c) for g in set(guess.tolist()) for c in set(classes)}
    right_n = np.array([same[g, c] for g, c in zip(guess[found.cluster].tolist(), classes, strict=True)])
    means = [{int(g), *vocabulary.below[g]} for g in guess]
    agrees = np.array([w in means[k] for w, k in zip(said.word.tolist(), found.cluster.tolist(), strict=True)])
    lag = said.similarity - (X * vocabulary.vectors[guess[found.cluster]]).sum(1).numpy()
    sure = np.array([n.confidence for n in names])[found.cluster].clip(1e-6, 1 - 1e-6)
    image = np.stack([np.log(sure / (1 - sure)), found.margin, np.where(agrees, 0, lag.clip(0))], 1)
    share = np.bincount(found.cluster, right_n, K) / size.clip(1)
    return Case(name, np.array([[n.lead, n.standing] for n in names]), size, share, image, right_n)


def regression(cases: list[Case], of: str) -> Any:
    """Every clustering counts the same; a cluster by the square root of its images."""
    from sklearn.linear_model import LogisticRegression

    X, y, weight = [], [], []
    for c in cases:
        rows, right = (c.cluster, c.share) if of == "cluster" else (c.image, c.right.astype(float))
        mass = np.sqrt(c.size) if of == "cluster" else np.ones(len(rows))
        X += [rows, rows]
        y += [np.ones(len(rows)), np.zeros(len(rows))]
        weight += [mass * right / mass.sum(), mass * (1 - right) / mass.sum()]
    return LogisticRegression(C=1e3).fit(
        np.concatenate(X), np.concatenate(y), sample_weight=500 * np.concatenate(weight)
    )


def tried(model: Any, c: Case, of: str) -> str:
    """Right or rightly silent at a confidence of one half, and the calibration error, in percent of the images."""
    rows, right, mass = (c.cluster, c.share, c.size) if of == "cluster" else (c.image, c.right, np.ones(len(c.image)))
    sure, weight = model.predict_proba(rows)[:, 1], mass / mass.sum()
    good = weight @ np.where(sure >= 0.5, right, 1 - right)
    return f"{100 * good:.1f}, {100 * calibration_error(sure, right, weight):.1f}"


def main() -> None:
    data = Path(os.environ.get("CPP_TEST_DATA") or sys.exit("set CPP_TEST_DATA to the folder of real data"))
    parts = [read_words(str(data / "clip-b32-text" / words)) for words in WORDS]
    vocabulary = Vocabulary.of([w for words, _ in parts for w in words], np.concatenate([X for _, X in parts]))
    print(f"{heading()}; shares of the images in percent\n")
    print(
        "| set | K | names | exact | synonym | head | named | right of named | right or rightly silent | calibration |"
    )
    print("|---" * 10 + "|")
    cases = [case(data, name, K, vocabulary) for name, several in TRIED.items() for K in several]
    for of in ("cluster", "image"):
        print(
            f"\nregression of each {of}: fitted on | intercept, coefficients | right or rightly silent, calibration\n"
        )
        for fitted in (*TRIED, "both"):
            model = regression([c for c in cases if fitted in (c.set, "both")], of)
            others = [c for c in cases if fitted != c.set]
            numbers = ", ".join(f"{value:.2f}" for value in (*model.intercept_, *model.coef_[0]))
            print(f"{fitted} | {numbers} | {'; '.join(f'{c.set} {tried(model, c, of)}' for c in others)}", flush=True)
    print(
        f"\nin use: {naming.INTERCEPT, naming.LEAD, naming.STANDING}; "
        f"{cluster_table.ODDS_WEIGHT, cluster_table.MARGIN_WEIGHT, cluster_table.LAG_WEIGHT}"
    )


if __name__ == "__main__":
    main()
