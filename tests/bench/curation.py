"""Planted oddities: how well the score tells them. Balanced subsets: how even true classes are in them.

`python -m tests.bench.curation`; with the argument `balance` only the second.

Labels and plants are used to score and for nothing else.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from cpp.clustering.partition import fine_groups
from cpp.curation import balance, outliers
from cpp.files.top_rows import SmallestRows
from cpp.nearest import Nearest, kmeans
from cpp.rate_reduction.coding_rate import Moments
from cpp.rate_reduction.fit import fit
from cpp.rate_reduction.recipes import Discriminant
from tests.bench import heading

Floats = NDArray[np.float32]


def features(folder: Path) -> Floats:
    """Unit vectors of a set in clip-retrieval's layout."""
    X = np.concatenate([np.load(path) for path in sorted(folder.glob("img_emb/*.npy"))]).astype(np.float32)
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def oddities(X: Floats, K: int) -> tuple[dict[str, NDArray[np.floating]], NDArray[np.int64]]:
    """Raw parts of a run on these vectors, but for captions; its clusters."""
    head, _ = fit(torch.from_numpy(X.astype(np.float16)), Discriminant(), K, 0, "cpu")
    codes = head.project(torch.from_numpy(X.astype(np.float16)), 8192)
    found = fine_groups(codes, n_clusters=K, directions=32, seed=0)
    nearest, Z = Nearest(found.centroids), codes.Z.numpy().astype(np.float32)
    assigned = nearest(Z, 8192)
    group = torch.from_numpy(assigned.cluster.astype(np.int64))
    P = torch.from_numpy(Z @ found.basis)
    parts = {
        "margin": assigned.margin,
        "density": outliers.Density(X.astype(np.float16), 5)(X.astype(np.float16), 8192),
        "residual": outliers.Residual(Moments.of(P, group, K), found.e)(P, group),
    }
    parts["density of codes"] = outliers.Density(Z.astype(np.float16), 5)(Z.astype(np.float16), 8192)
    parts["score of codes"] = assigned.score
    return parts, assigned.cluster.astype(np.int64)


def auc(odd: NDArray[np.bool_], value: NDArray[np.floating]) -> tuple[float, float]:
    """ROC AUC, and the share of planted rows among as many as there are of the highest values."""
    from sklearn.metrics import roc_auc_score

    top = np.argsort(-value, kind="stable")[: int(odd.sum())]
    return float(roc_auc_score(odd, value)), float(odd[top].mean())


def fisher(ranks: NDArray[np.floating]) -> NDArray[np.floating]:
    """Ranks `[k, n]` combined by Fisher's method (Statistical methods for research workers, 1932, section 21.1)."""
    from scipy.stats import chi2

    return np.asarray(chi2.cdf(-2 * np.log1p(-ranks).sum(axis=0), 2 * len(ranks)))


def compare(X: Floats, odd: NDArray[np.bool_], K: int) -> dict[str, tuple[float, float]]:
    """Every way to tell odd rows, by name."""
    from sklearn.ensemble import IsolationForest
    from sklearn.neighbors import LocalOutlierFactor

    parts, cluster = oddities(X, K)
    large = outliers.ODD_IF_LARGE
    ranked = {n: outliers.ranks(outliers.histogram(v), v, n in large) for n, v in parts.items()}
    three = {n: ranked[n] for n in ("margin", "density", "residual")}
    found = {n: auc(odd, r) for n, r in ranked.items()}
    stacked = np.stack(list(three.values()))
    found["Fisher's method"] = auc(odd, fisher(stacked))
    found["mean"] = auc(odd, stacked.mean(0))
    found["maximum"] = auc(odd, stacked.max(0))
    centre = np.stack([X[cluster == k].mean(0) if (cluster == k).any() else X.mean(0) for k in range(K)])
    found["distance to centroid of features"] = auc(odd, np.linalg.norm(X - centre[cluster], axis=1))
    found["isolation forest"] = auc(odd, -IsolationForest(random_state=0).fit(X).score_samples(X))
    found["local outlier factor"] = auc(odd, -LocalOutlierFactor().fit(X).negative_outlier_factor_)
    return found


def subset(cluster: NDArray[np.int64], total: int, power: float, first: NDArray[np.floating]) -> NDArray[np.int64]:
    """Rows that a balanced subset takes, of each cluster those of the largest values in `first`."""
    sizes = np.bincount(cluster)
    best = SmallestRows(balance.hierarchical_shares([], sizes, total, power))
    best.add(-first, pa.record_batch({"cluster": cluster, "row": np.arange(len(cluster))}))
    return np.sort(best.column("row"))


def evenness(folder: Path) -> None:
    """How even the true classes are in subsets of Caltech-101, over five draws."""
    X = features(folder)
    parts = [pq.read_table(path) for path in sorted(folder.glob("metadata/*.parquet"))]
    label = np.concatenate([part["label"].to_numpy() for part in parts]).astype(np.int64)
    found, ours = oddities(X, 100)
    plain = Nearest(kmeans(X, 100, 0))(X, 8192).cluster.astype(np.int64)
    score, rng = found["score of codes"], np.random.default_rng(0)
    print("| rows | random | k-means on the features | ours | ours, surest | ours, power 0.5 | true classes |")
    print(f"|---|---|---|---|---|---|---|\n| all {len(X):,} | {said(label)} | | | | | |")
    for total in (500, 1000, 2000):
        cells = np.zeros((6, 2))
        for _ in range(5):
            lot = rng.random(len(X))
            rows = (
                np.argsort(lot)[:total],
                subset(plain, total, 0, lot),
                subset(ours, total, 0, lot),
                subset(ours, total, 0, score),
                subset(ours, total, 0.5, lot),
                subset(label, total, 0, lot),
            )
            cells += [
                [balance.effective_number(np.bincount(label[some])), len(np.unique(label[some]))] for some in rows
            ]
        print(f"| {total:,} | {' | '.join(f'{a / 5:.1f}, {b / 5:.1f}' for a, b in cells)} |")


def said(label: NDArray[np.int64]) -> str:
    return f"{balance.effective_number(np.bincount(label)):.1f}, {len(np.unique(label))}"


def main() -> None:
    data = Path(os.environ["CPP_TEST_DATA"])
    evenness(data / "caltech101-clip-b32")
    if sys.argv[1:] == ["balance"]:
        return
    base = features(data / "caltech101-clip-b32")
    rng = np.random.default_rng(0)
    n = 40
    noise = rng.standard_normal((n, base.shape[1])).astype(np.float32)
    others = {s: features(data / f"clip-b32-features/{s}") for s in ("dtd", "sun397", "oxford_pets", "fgvc")}
    plants = {"random vectors": noise / np.linalg.norm(noise, axis=1, keepdims=True)}
    i, j = rng.integers(len(base), size=(2, n))
    mixed = base[i] + base[j]
    plants["means of two images"] = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
    for name, X in others.items():
        plants[name] = X[rng.choice(len(X), n, replace=False)]
    table: dict[str, dict[str, tuple[float, float]]] = {}
    for kind, odd in plants.items():
        rows = np.concatenate([base, odd])
        for name, value in compare(rows, np.arange(len(rows)) >= len(base), 100).items():
            table.setdefault(name, {})[kind] = value
    print(f"{heading()}\n\n| | {' | '.join(plants)} | mean |\n|---|{'---|' * (len(plants) + 1)}")
    for name, row in table.items():
        mean = np.mean(list(row.values()), axis=0)
        cells = [f"{a:.3f}/{p:.2f}" for a, p in [*row.values(), mean]]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
