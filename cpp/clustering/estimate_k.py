"""Estimate the number of clusters K of feature rows. Knows no files and no labels.

Codes depend on K: many classes need more dimensions, and small classes fewer neighbours. So a discriminant is solved, K
is estimated from its codes, and both are repeated with that K until it stays.

K is where a cut of Ward's tree says most about a row: the mean over all rows of the silhouette times log(n / m), the
information in the label of a cluster of m of the n rows, less that of a Gaussian without clusters (compare the gap
statistic). The silhouette alone prefers few clusters wherever classes have a coarse structure, cats and dogs among
breeds; the information alone prefers single rows. The curve is the mean of five, each without a tenth of the rows. All
K within a standard error of its largest value are as good, and their geometric middle is taken; the interval has those
within two.

Sources: Rousseeuw, "Silhouettes", 1987; Tibshirani, Walther and Hastie, "Estimating the number of clusters in a data
set via the gap statistic", JRSS B 63(2), 2001; Efron, "The jackknife, the bootstrap and other resampling plans", 1982.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from cpp.clustering.coding_length import exclude_isolated
from cpp.clustering.ward import ward
from cpp.rate_reduction.copies import Distinct, distinct_rows
from cpp.rate_reduction.fit import StepRecord, check_rows, solve
from cpp.rate_reduction.recipes import Discriminant

SAMPLE = 8192  # rows at most, because Ward's method takes the square of their number in floats
SCORED = 4096  # rows at most whose silhouettes are computed
FOLDS = 10  # of the rows; each curve leaves out one of them
CURVES = 5
LEADING = 32  # directions of the codes in which K is estimated; silhouettes fade in more
SMALLEST = 2  # rows in the mean cluster of the largest K that is tried
STEPS = 48  # values of K that are tried at first, in geometric steps
FINER = 16  # further values of K between those next to the best one
SETTLED = 1.15  # ratio of the K of two rounds below which the later one is final: about a step
ROUNDS = 4
FEW = 4  # the largest K that is tried for nine rows; with fewer there is nothing to choose from

Numbers = NDArray[np.int64]
Curve = NDArray[np.float64]


class Estimate(NamedTuple):
    """`best` is K; `low` and `high` bound the K that other samples of images may give; `rounds` has that of each round.

    `K` are the values that the last round tried, ascending; `scores` `[CURVES, len(K)]` their scores in nats. `records`
    has the loss record of the head of each round, whose codes follow the K of the round before, in the first one none.
    """

    best: int
    low: int
    high: int
    rounds: list[int]
    K: Numbers
    scores: Curve
    records: list[list[StepRecord]]

    @property
    def sentence(self) -> str:
        """What a reader should know about K."""
        counted = f"{self.best:,} cluster{'s' * (self.best != 1)}"
        if self.K[-1] < FEW:
            few = "Too few different rows are near others for an estimate of the number of clusters"
            return f"{few}, which is {self.best} here: set it."
        if self.low == self.high:
            return f"Within its error, the loss of a cut is least at {counted}, also for other samples of such images."
        interval = f"other samples of such images may give {self.low:,} to {self.high:,}"
        return f"Within its error, the loss of a cut is least at {counted}; {interval}."

    def to_json(self) -> str:
        """The estimate as JSON, which `from_json` reads."""
        return json.dumps(self._asdict() | {"K": self.K.tolist(), "scores": self.scores.tolist()}) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Estimate:
        """The estimate that `to_json` wrote."""
        values = json.loads(text)
        records = [[StepRecord(*step) for step in record] for record in values["records"]]
        arrays = {"K": np.array(values["K"]), "scores": np.array(values["scores"])}
        return cls(**values | arrays | {"records": records})


def estimate_k(
    X_nD: Tensor, settings: Discriminant, seed: int, device: str = "cpu", distinct: Distinct | None = None
) -> Estimate:
    """Estimate K from feature rows `X_nD` (float), of which `SAMPLE` in `distinct`, by default `distinct_rows`, count.

    If K has not settled after `ROUNDS` rounds, it is the geometric mean of the last two. ValueError as in `fit`.
    """
    check_rows(X_nD)
    rows = (distinct or distinct_rows(X_nD, device == "cuda")).rows
    drawn = np.sort(np.random.default_rng(seed).permutation(rows)[:SAMPLE])
    X, rounds, records, K = X_nD[drawn], list[Estimate](), list[list[StepRecord]](), None
    while True:
        head, record = solve(X, settings, K, seed, device)
        records.append(record)
        rounds.append(_from_codes(normalize(head.project(X, SAMPLE).Z[:, :LEADING]), seed, device == "cuda"))
        last, K = K, rounds[-1].best
        if last is not None and max(K, last) <= SETTLED * min(K, last):
            break
        if len(rounds) == ROUNDS:
            K = round(math.sqrt(K * (last or K)))
            break
    values = [estimate.best for estimate in rounds]
    bounds = [K, *values[-2:], rounds[-1].low, rounds[-1].high]
    return rounds[-1]._replace(best=K, low=min(bounds), high=max(bounds), rounds=values, records=records)


def _from_codes(Z_nd: Tensor, seed: int, gpu: bool) -> Estimate:
    """Estimate K from unit rows, without those that are far from all others."""
    if len(Z_nd) > 2:
        Z_nd = Z_nd[exclude_isolated(Z_nd, gpu)[0]]
    Z = Z_nd.numpy()
    fold = np.random.default_rng(seed).permutation(len(Z)) % FOLDS
    trees = [_Tree(Z[fold != left_out]) for left_out in range(CURVES)]
    reference = _Tree(_gaussian(Z, seed)[fold != 0])
    largest = max(1, min(len(tree.Z) for tree in trees) // SMALLEST)
    K = np.unique(np.geomspace(1, largest, STEPS).round().astype(np.int64))
    scores = _scores(trees, reference, K)
    at = int(scores.mean(0).argmax())
    low, high = K[max(at - 1, 0)], K[min(at + 1, len(K) - 1)]
    finer = np.setdiff1d(np.linspace(low, high, FINER).round().astype(np.int64), K)
    order = np.argsort(K := np.concatenate([K, finer]))
    K, scores = K[order], np.hstack([scores, _scores(trees, reference, finer)])[:, order]
    mean = scores.mean(0)
    at = int(mean.argmax())
    error = (FOLDS - 1) / math.sqrt(FOLDS) * scores[:, at].std(ddof=1)  # of the jackknife
    good = np.concatenate([K[mean >= mean[at] - error], K[scores.argmax(1)]])
    best = round(math.sqrt(good.min() * good.max()))  # steadier than K[at], where the curve is flat
    likely = K[mean >= mean[at] - 2 * error]
    return Estimate(best, int(likely.min()), int(likely.max()), [best], K, scores, [])


class _Tree:
    """Ward's tree of unit rows, and what its cuts say about a row."""

    def __init__(self, Z: NDArray[np.float32]) -> None:
        self.Z, self.merges = Z, ward(Z) if len(Z) > 1 else None

    def information(self, K: Iterable[int]) -> Curve:
        """Of the cut into each K, on at most `SCORED` rows: the mean silhouette times log(n / m), in nats."""
        from scipy.cluster.hierarchy import fcluster

        return np.array([self._information(fcluster(self.merges, k, "maxclust") - 1) if k > 1 else 0.0 for k in K])

    def _information(self, group: Numbers) -> float:
        """The mean cosine distance of a row to a group is one minus its product with the mean of the group."""
        Z, count = torch.from_numpy(self.Z), np.bincount(group)
        if len(count) == 1:  # the rows are equal
            return 0.0
        sums = torch.zeros(len(count), Z.shape[1]).index_add_(0, torch.from_numpy(group).long(), Z)
        scored = np.arange(0, len(Z), -(-len(Z) // SCORED))
        own, rows = group[scored], np.arange(len(scored))
        distance = 1 - (Z[scored] @ (sums / torch.from_numpy(count)[:, None].float()).mT).numpy()
        within = distance[rows, own] * count[own] / np.maximum(count[own] - 1, 1)
        distance[rows, own] = np.inf
        nearest = distance.min(1)
        silhouette = (nearest - within) / np.maximum(np.maximum(nearest, within), 1e-12)
        return float((np.where(count[own] > 1, silhouette, 0) * np.log(len(Z) / count[own])).mean())


def _scores(trees: Iterable[_Tree], reference: _Tree, K: Numbers) -> Curve:
    """The score of each K in each tree, `[len(trees), len(K)]`."""
    without_clusters = reference.information(K)
    return np.stack([tree.information(K) - without_clusters for tree in trees])


def _gaussian(Z: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Unit rows `[n, d]` of a Gaussian with the mean and covariance of unit rows."""
    mean, centred = Z.mean(0), Z - Z.mean(0)
    values, vectors = np.linalg.eigh(centred.T.astype(np.float64) @ centred / len(Z))
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    rows = np.random.default_rng(seed).standard_normal(Z.shape) @ root + mean
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12), np.float32)
