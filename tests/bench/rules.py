"""Rules for K beside each other, and the one that is chosen without each set: `python -m tests.bench.rules`.

A rule is a score of the cuts of Ward's tree and a way to read K off its curve. Codes follow the K of each rule as in
`cpp.clustering.estimate_k`; the curves are cached in the folder `--cache`, for K in steps of 15%. ARI and AMI are those
of the cut of Ward's tree of the codes for the true K, so that all rules are compared on one tree of each set.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from torch.nn.functional import normalize

from cpp.clustering.coding_length import exclude_isolated
from cpp.clustering.estimate_k import CURVES, FOLDS, LEADING, ROUNDS, SAMPLE, SETTLED, _gaussian
from cpp.evaluation.metrics import scores
from cpp.rate_reduction.copies import distinct_rows
from cpp.rate_reduction.fit import solve
from cpp.rate_reduction.recipes import Discriminant
from tests.bench import heading
from tests.bench.head import SETS, read

SCORES: dict[str, Callable[[NDArray, NDArray, NDArray], NDArray]] = {  # of columns: silhouette, that times log(n/m)
    "silhouette": lambda curve, gaussian, K: curve[..., 0],
    "silhouette less that of a Gaussian": lambda curve, gaussian, K: curve[..., 0] - gaussian[:, 0],
    "that times log K": lambda curve, gaussian, K: (curve[..., 0] - gaussian[:, 0]) * np.log(K),
    "silhouette times log(n/m) less that of a Gaussian": lambda curve, gaussian, K: curve[..., 1] - gaussian[:, 1],
}
READINGS = (
    "best of all rows",
    "best",
    "middle",
    "least",
    "most",
)  # all but the first of tenths, within a standard error


def curve(Z: NDArray, K: NDArray) -> NDArray:
    """Mean silhouette by mean cosine distances, and the mean of it times log(n/m), of cuts, `[len(K), 2]`."""
    tree, values = linkage(Z, "ward"), np.zeros((len(K), 2))
    scored = np.arange(0, len(Z), -(-len(Z) // 4096))
    for i, k in enumerate(K):
        group = fcluster(tree, k, "maxclust") - 1
        count, own, rows = np.bincount(group), group[scored], np.arange(len(scored))
        if len(count) > 1:
            sums = torch.zeros(len(count), Z.shape[1]).index_add_(
                0, torch.from_numpy(group).long(), torch.from_numpy(Z)
            )
            distance = 1 - Z[scored] @ (sums.numpy() / count[:, None]).T
            within = distance[rows, own] * count[own] / np.maximum(count[own] - 1, 1)
            distance[rows, own] = np.inf
            nearest = distance.min(1)
            s = np.where(count[own] > 1, (nearest - within) / np.maximum(np.maximum(nearest, within), 1e-12), 0)
            values[i] = s.mean(), (s * np.log(len(Z) / count[own])).mean()
    return values


def curves(X: torch.Tensor, K: int | None, path: Path) -> dict[str, NDArray]:
    """The curves of all rows, of `CURVES` without a tenth, and of Gaussians for both, for codes that follow K."""
    if not path.exists():
        rows = np.sort(np.random.default_rng(0).permutation(distinct_rows(X).rows)[:SAMPLE])
        codes = normalize(solve(X[rows], Discriminant(), K, 0)[0].project(X[rows], SAMPLE).Z[:, :LEADING])
        Z = codes[exclude_isolated(codes, False)[0]].numpy()
        tried = np.unique(np.geomspace(1, 0.4 * len(Z), 64).round().astype(int))
        fold, gaussian = np.random.default_rng(0).permutation(len(Z)) % FOLDS, _gaussian(Z, 0)
        tenths = np.stack([curve(Z[fold != i], tried) for i in range(CURVES)])
        all_rows, references = curve(Z, tried), (curve(gaussian, tried), curve(gaussian[fold != 0], tried))
        np.savez(path, K=tried, all=all_rows, tenths=tenths, gaussian=references[0], gaussian_tenths=references[1])
    return dict(np.load(path))


def pick(found: dict[str, NDArray], score: str, reading: str) -> int:
    K = found["K"]
    if reading == "best of all rows":
        return int(K[SCORES[score](found["all"], found["gaussian"], K).argmax()])
    values = SCORES[score](found["tenths"], found["gaussian_tenths"], K)
    mean = values.mean(0)
    at = int(mean.argmax())
    good = K[mean >= mean[at] - (FOLDS - 1) / math.sqrt(FOLDS) * values[:, at].std(ddof=1)]
    both = np.concatenate([good, K[values.argmax(1)]])
    middle = round(math.sqrt(both.min() * both.max()))
    return {"best": int(K[at]), "middle": middle, "least": int(good.min()), "most": int(good.max())}[reading]


def follow(X: torch.Tensor, score: str, reading: str, cache: Path) -> int:
    """K after the rounds of `estimate_k`, by another rule."""
    K, last = None, None
    for _ in range(ROUNDS):
        step = None if K is None else max(2, round(1.15 ** round(math.log(max(K, 2)) / math.log(1.15))))
        last, K = K, pick(curves(X, step, cache.with_name(f"{cache.name}-{step}.npz")), score, reading)
        if last is not None and max(K, last) <= SETTLED * min(K, last):
            return K
    return round(math.sqrt(K * last))  # type: ignore[operator]  # there are several rounds


def agreement(X: torch.Tensor, classes: NDArray) -> Callable[[int], NDArray]:
    """ARI and AMI in percent of the cut into K, interpolated."""
    from sklearn.metrics import adjusted_mutual_info_score

    rows, n_classes = distinct_rows(X).rows, len(np.unique(classes))
    codes = solve(X[rows], Discriminant(), n_classes, 0)[0].project(X[rows], SAMPLE).Z
    tree, K = linkage(codes.numpy(), "ward"), np.unique(np.geomspace(2, len(rows) // 3, 60).round().astype(int))
    groups = [fcluster(tree, k, "maxclust") for k in K]
    values = [(scores(classes[rows], g).ari, adjusted_mutual_info_score(classes[rows], g)) for g in groups]
    return lambda k: 100 * np.array([np.interp(np.log(k), np.log(K), column) for column in np.array(values).T])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True)
    folder = parser.parse_args().cache
    folder.mkdir(parents=True, exist_ok=True)
    data = os.environ.get("CPP_TEST_DATA") or sys.exit("set CPP_TEST_DATA to the folder of real data")
    chosen: dict[tuple[str, str], dict[str, tuple[int, NDArray]]] = {}
    for name in SETS:
        X, classes = read(Path(data) / SETS[name])
        measured = agreement(X, classes)
        for rule in itertools.product(SCORES, READINGS):
            K = follow(X, *rule, folder / name)
            chosen.setdefault(rule, {})[name] = K, measured(K)

    def mean(rule: tuple[str, str], sets: list[str]) -> float:
        return float(np.mean([chosen[rule][name][1] for name in sets]))

    print(f"{heading()}\n\n| rule | mean | {' | '.join(SETS)} |\n|---|---|{'---|' * len(SETS)}")
    for rule in sorted(chosen, key=lambda rule: -mean(rule, list(SETS))):
        cells = [f"{K}, {ari:.1f}/{ami:.1f}" for K, (ari, ami) in chosen[rule].values()]
        print(f"| {rule[0]}, {rule[1]} | {mean(rule, list(SETS)):.1f} | {' | '.join(cells)} |")
    print("\n| without | rule | K, ARI/AMI |\n|---|---|---|")
    for name in SETS:
        rule = max(chosen, key=lambda rule: mean(rule, [other for other in SETS if other != name]))
        K, (ari, ami) = chosen[rule][name]
        print(f"| {name} | {rule[0]}, {rule[1]} | {K}, {ari:.1f}/{ami:.1f} |")


if __name__ == "__main__":
    main()
