"""How well K is chosen, as Markdown tables: `python -m tests.bench.choice real size`.

`real` chooses K of every labelled set of real vectors (CPP_TEST_DATA) by our and by other measures, `peers` by
`cpp.CPP` and other packages alone, `seeds` by ours at three seeds; `size` times the tree of ten thousand groups. EVoC
and PLSCAN are no dependencies: `pip install evoc fast-plscan` adds them, and without them the table goes without.
"""

from __future__ import annotations

import argparse
import functools
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from cpp import CPP
from cpp.clustering import merge_tree
from cpp.clustering.coding_length import Bits, evidence_bits, lossy_bits
from cpp.clustering.partition import PARTS, fine_groups
from cpp.evaluation.metrics import scores
from cpp.nearest import Nearest
from cpp.rate_reduction.coding_rate import Moments
from cpp.rate_reduction.fit import fit
from cpp.rate_reduction.head import Codes
from cpp.rate_reduction.recipes import Discriminant
from tests.bench import heading
from tests.bench.head import SETS, read

Numbers = NDArray[np.int64]
LANDMARKS = 8192


def choose(X: Tensor, seed: int = 0) -> tuple[str, Numbers]:
    """K with its interval, and the cluster of every row, by the estimator."""
    model = CPP(None, random_state=seed).fit(X)
    return with_interval(model), model.labels_


def with_interval(model: CPP) -> str:
    """The number of clusters of a model that estimated it, with its interval."""
    assert model.choice_
    return f"{model.n_clusters_} ({model.choice_.low} to {model.choice_.high})"


def shortest(codes: Codes, factor: float, bits: Bits, seed: int = 0) -> tuple[str, Numbers]:
    """K of least coding length, the way before the estimate, at `factor` times the noise; the cluster of every row."""
    n_groups = min(len(codes.Z) // 8, 2048)
    found = fine_groups(
        codes, n_clusters=n_groups, method="kmeans", isolated=False, landmarks=LANDMARKS, directions=32, seed=seed
    )
    moments = found.moments([codes.Z.numpy()], LANDMARKS).moments.merge_runs(PARTS)
    there = moments.count_K > 0
    with patch.object(merge_tree, "evidence_bits", bits):
        tree = merge_tree.grow(moments[there], factor * found.e, refine=bits is evidence_bits and factor == 1)
    group = np.zeros(len(there), np.int64)
    group[there.numpy()] = tree.cut(tree.best)
    near = Nearest(found.centroids, cluster=group)(codes.Z.numpy(), LANDMARKS)
    return str(tree.best), near.cluster.astype(np.int64)


def hdbscan(rows: Tensor, least: int) -> Numbers:
    from sklearn.cluster import HDBSCAN

    found: Numbers = HDBSCAN(least, copy=True).fit_predict(rows.numpy())
    return found + 1


def evoc(rows: Tensor) -> Numbers:
    """EVoC's layer of largest persistence, with its defaults (Tutte Institute, PyPI `evoc`)."""
    from evoc import EVoC

    found: Numbers = EVoC(random_state=0).fit_predict(np.ascontiguousarray(rows.numpy()))
    return found + 1


def plscan(rows: Tensor) -> Numbers:
    """PLSCAN's clusters, with its defaults (Bot et al., PyPI `fast-plscan`)."""
    from fast_plscan import PLSCAN

    found = PLSCAN(num_threads=torch.get_num_threads()).fit_predict(rows.numpy())
    return np.asarray(found, np.int64) + 1


def silhouette_choice(rows: Tensor) -> Numbers:
    """Of 25 cuts of Ward's tree, the one of the largest silhouette by cosine."""
    from scipy.cluster.hierarchy import cut_tree, linkage
    from sklearn.metrics import silhouette_score

    n, Z = len(rows), rows.numpy()
    tried = sorted({round(K) for K in np.geomspace(5, min(n // 4, 800), 25)})
    cuts = cut_tree(linkage(Z, "ward"), tried).T
    found = [silhouette_score(Z, cut, metric="cosine", sample_size=4096, random_state=0) for cut in cuts]
    best: Numbers = cuts[int(np.argmax(found))]
    return best


def other_choices(X: Tensor, codes: Tensor) -> Iterator[tuple[str, Callable[[], Numbers]]]:
    """Other ways to choose K, on the vectors and on our codes; noise counts as one cluster."""
    packages = {name: find_spec(module) for name, module in (("EVoC", "evoc"), ("PLSCAN", "fast_plscan"))}
    for name, rows in (("raw", X), ("codes", codes)):
        for package, choice in (("EVoC", evoc), ("PLSCAN", plscan)):
            if packages[package]:
                yield f"{package}, {name}", functools.partial(choice, rows)
            elif name == "raw":
                print(f"{package} is not installed: the table goes without it", file=sys.stderr)
        for least in (5, 15):
            yield f"HDBSCAN, at least {least}, {name}", functools.partial(hdbscan, rows, least)
        yield f"silhouette on Ward's tree, {name}", functools.partial(silhouette_choice, rows)


def real(sets: list[str]) -> None:
    data = os.environ.get("CPP_TEST_DATA") or sys.exit("set CPP_TEST_DATA to the folder of real data")
    ways: list[tuple[str, float, Bits]] = [
        ("evidence", 1, evidence_bits),
        ("evidence, e halved", 0.5, evidence_bits),
        ("evidence, e doubled", 2, evidence_bits),
        ("lossy coding length", 1, lossy_bits),
    ]
    print("| set (classes) | K chosen by | K (interval) | ARI | AMI | seconds |\n|---|---|---|---|---|---|")
    for name in sets:
        X, classes = read(Path(data) / SETS[name])
        start = time.perf_counter()
        K, cluster = choose(X)
        line(f"{name} ({len(np.unique(classes))})", "silhouette times information (ours)", K, cluster, classes,
             time.perf_counter() - start)  # fmt: skip
        start = time.perf_counter()
        codes = fit(X, Discriminant(), None, 0)[0].project(X, 8192)
        rows, made = f"{name} ({len(np.unique(classes))})", time.perf_counter() - start
        for way, factor, bits in ways:
            start = time.perf_counter()
            K, cluster = shortest(codes, factor, bits)
            line(rows, way, K, cluster, classes, made + time.perf_counter() - start)
        for way, choice in other_choices(X, codes.Z):
            start = time.perf_counter()
            cluster = choice()
            line(rows, way, str(len(np.unique(cluster))), cluster, classes, time.perf_counter() - start)


def peers(sets: list[str]) -> None:
    """`cpp.CPP` with its defaults, all of it timed, beside the other packages."""
    data = os.environ.get("CPP_TEST_DATA") or sys.exit("set CPP_TEST_DATA to the folder of real data")
    print("| set (classes) | K chosen by | K (interval) | ARI | AMI | seconds |\n|---|---|---|---|---|---|")
    for name in sets:
        X, classes = read(Path(data) / SETS[name])
        rows, start = f"{name} ({len(np.unique(classes))})", time.perf_counter()
        model = CPP(None, random_state=0).fit(X)
        line(rows, "CPP (ours)", with_interval(model), model.labels_, classes, time.perf_counter() - start)
        for way, choice in other_choices(X, torch.from_numpy(model.transform(X))):
            start = time.perf_counter()
            cluster = choice()
            line(rows, way, str(len(np.unique(cluster))), cluster, classes, time.perf_counter() - start)


def seeds(sets: list[str]) -> None:
    """K of three seeds, of all rows and of four fifths that the seed draws; the head is fitted anew each time."""
    data = os.environ.get("CPP_TEST_DATA") or sys.exit("set CPP_TEST_DATA to the folder of real data")
    print("| set (classes) | rows | K (interval); ARI at seeds 0, 1, 2 |\n|---|---|---|")
    for name in sets:
        X, classes = read(Path(data) / SETS[name])
        for share in (1.0, 0.8):
            cells = []
            for seed in range(3):
                order = torch.randperm(len(X), generator=torch.Generator().manual_seed(seed))
                some = order[: round(share * len(X))].sort().values
                K, cluster = choose(X[some], seed)
                cells.append(f"{K}; {100 * scores(classes[some.numpy()], cluster).ari:.1f}")
            print(f"| {name} ({len(np.unique(classes))}) | {share:.0%} | {' / '.join(cells)} |", flush=True)


def line(rows: str, way: str, K: str, cluster: Numbers, classes: NDArray[np.integer], seconds: float) -> None:
    from sklearn.metrics import adjusted_mutual_info_score

    ari, ami = scores(classes, cluster).ari, adjusted_mutual_info_score(classes, cluster)
    cells = [K, *(f"{value:.1f}" for value in (100 * ari, 100 * ami, seconds))]
    print(f"| {rows} | {way} | {' | '.join(cells)} |", flush=True)


def size(groups: int, d: int = 128, rows: int = 12) -> None:
    """A tenth as many clusters as groups; rows of unit length about."""
    generator = torch.Generator().manual_seed(0)

    def noise(n: int, length: float) -> Tensor:
        drawn: Tensor = length / d**0.5 * torch.randn(n, d, generator=generator)
        return drawn

    centre = normalize(noise(groups // 10, 1)).repeat(10, 1) + noise(groups // 10 * 10, 0.3)
    Z = normalize(centre.repeat_interleave(rows, 0) + noise(len(centre) * rows, 0.6))
    moments = Moments.of(Z, torch.arange(len(centre)).repeat_interleave(rows), len(centre))
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    tree = merge_tree.grow(moments, 0.1)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print("| groups | d | clusters drawn | K | seconds | GiB before | GiB at most |\n|---|---|---|---|---|---|---|")
    memory = f"{before / 2**20:.2f} | {after / 2**20:.2f}"
    print(f"| {len(centre)} | {d} | {groups // 10} | {tree.best} | {seconds:.1f} | {memory} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["real", "size"], help="real, peers, seeds, size")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--groups", type=int, default=10_000)
    options = parser.parse_args()
    print(f"{heading()}\n")
    if "real" in options.parts:
        real(options.sets)
    if "peers" in options.parts:
        peers(options.sets)
    if "seeds" in options.parts:
        seeds(options.sets)
    if "size" in options.parts:
        size(options.groups)


if __name__ == "__main__":
    main()
