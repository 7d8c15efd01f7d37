"""Clusterings of every labelled set of real vectors by several methods, as one table: `make bench-head`.

K is given; labels score the whole set and decide nothing. `--peers FOLDER` adds published methods by their authors' own
modules, from clones of their repositories in that folder (`tests.bench.peers`). Seconds of the CPU are those of all
threads of this process: on a shared machine they say more than the clock's. Read-outs that follow one another share a
training; it counts in the seconds of the first.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize

from cpp.clustering.partition import Method, partition
from cpp.evaluation.metrics import scores
from cpp.nearest import nearest_rows
from cpp.rate_reduction.fit import fit
from cpp.rate_reduction.head import Codes, Head
from cpp.rate_reduction.recipes import Discriminant, Paper
from cpp.sources.vectors import read_vectors
from tests.bench import heading
from tests.bench.peers import Clustering, Clusters, peers

SETS = {
    "oxford_pets": "clip-b32-features/oxford_pets",
    "dtd": "clip-b32-features/dtd",
    "caltech101": "caltech101-clip-b32",
    "fgvc": "clip-b32-features/fgvc",
    "sun397": "clip-b32-features/sun397",
}


@functools.lru_cache(maxsize=8)  # as many seeds
def fitted(X: torch.Tensor, settings: Discriminant | Paper, K: int, seed: int) -> Head:
    return fit(X, settings, K, seed)[0]


def ours(settings: Discriminant | Paper, method: Method) -> Clustering:
    def cluster(X: torch.Tensor, K: int, seed: int) -> Clusters:
        head = fitted(X, settings, K, seed)
        eta = settings.eta if isinstance(settings, Paper) else 0.1
        return partition(head.project(X, 8192), K, method, eta, 8192, seed).group

    return cluster


def kmeans(X: torch.Tensor, K: int, seed: int) -> Clusters:
    from sklearn.cluster import KMeans

    return KMeans(K, n_init=10, random_state=seed).fit_predict(X.numpy())


def smoothed_kmeans(X: torch.Tensor, K: int, seed: int) -> Clusters:
    near = torch.from_numpy(nearest_rows(X.numpy(), 10))
    mean = (X + X[near].sum(1)) / 11
    return kmeans(normalize(mean - mean.mean(0)), K, seed)


def raw_partition(X: torch.Tensor, K: int, seed: int) -> Clusters:
    rows = normalize(X - X.mean(0))
    return partition(Codes(rows, rows), K, "auto", 0.1, 8192, seed).group


def spectral_neighbours(X: torch.Tensor, K: int, seed: int) -> Clusters:
    from scipy.sparse import coo_matrix
    from sklearn.cluster import SpectralClustering

    near, n = nearest_rows(X.numpy(), 10), len(X)
    graph = coo_matrix((np.ones(near.size), (np.arange(n).repeat(10), near.ravel())), (n, n)).tocsr()
    spectral = SpectralClustering(K, affinity="precomputed", random_state=seed, assign_labels="kmeans")
    return spectral.fit_predict((graph + graph.T) / 2)


METHODS: dict[str, Clustering] = {
    "ours: discriminant, partition auto": ours(Discriminant(), "auto"),
    "the same without the discriminant": raw_partition,
    "k-means, raw, 10 restarts": kmeans,
    "k-means, mean removed, 10-NN smoothing": smoothed_kmeans,
    "spectral on the 10-NN graph, raw": spectral_neighbours,
    "recipe: paper, k-means on z": ours(Paper(), "kmeans"),
    "recipe: paper, spectral on Pi": ours(Paper(), "spectral"),
}


def read(folder: Path) -> tuple[torch.Tensor, NDArray[np.integer]]:
    """Unit rows of a set in clip-retrieval's layout and the numbers of their classes."""
    paths = [str(folder / f"img_emb/img_emb_{i}.npy") for i in range(len(list(folder.glob("img_emb/*.npy"))))]
    X = torch.from_numpy(np.concatenate([read_vectors(path).astype(np.float32) for path in paths]))
    tables = [pq.read_table(path.replace("img_emb", "metadata").replace(".npy", ".parquet")) for path in paths]
    return normalize(X), np.unique(
        np.concatenate([table["label"].to_numpy() for table in tables]), return_inverse=True
    )[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--methods", nargs="+", default=[""], help="only the methods whose name has one of these in it")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--peers", type=Path, metavar="FOLDER", help="holds clones of the peers' repositories")
    options = parser.parse_args()
    data = os.environ.get("CPP_TEST_DATA") or sys.exit("set CPP_TEST_DATA to the folder of real data")
    methods = METHODS | (peers(options.peers) if options.peers else {})
    print(f"{heading()}; ACC/NMI/ARI in percent, mean and standard deviation of {options.seeds} seeds\n")
    print("| set | method | ACC | NMI | ARI | seconds | of the CPU | ARI between seeds |\n" + "|---" * 8 + "|")
    for name in options.sets:
        X, classes = read(Path(data) / SETS[name])
        for method, cluster in methods.items():
            if not any(part in method for part in options.methods):
                continue
            found, taken = [], []
            for seed in range(options.seeds):
                start = time.perf_counter(), time.process_time()
                found.append(cluster(X, len(np.unique(classes)), seed))
                taken.append((time.perf_counter() - start[0], time.process_time() - start[1]))
            rows = 100 * np.array([scores(classes, clusters) for clusters in found])
            cells = [f"{mean:.1f} ± {deviation:.1f}" for mean, deviation in zip(rows.mean(0), rows.std(0), strict=True)]
            agreed = [scores(a, b).ari for a, b in itertools.combinations(found, 2)]
            cells += [f"{seconds:.1f}" for seconds in np.mean(taken, 0)]
            agreement = f"{np.mean(agreed):.2f}" if agreed else ""
            print(f"| {name} | {method} | {' | '.join(cells)} | {agreement} |", flush=True)


if __name__ == "__main__":
    main()
