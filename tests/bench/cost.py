"""How CPU time and memory of fit and clustering grow: `make bench-scale`, or `python -m tests.bench.cost [PART...]`.

`copies` searches rows for copies, `fit` solves the discriminant for up to ten million rows, `ward` and `spectral`
cluster landmarks, `tree` merges up to 50,000 fine groups. Each row of the table is a process of its own with one
thread, so that its memory is its own; the ratios are those to the row before. All rows are drawn from planted clusters.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import faiss
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from cpp.clustering.merge_tree import grow
from cpp.clustering.spectral import spectral
from cpp.clustering.ward import cut, ward
from cpp.evaluation.metrics import scores
from cpp.rate_reduction.coding_rate import Moments
from cpp.rate_reduction.copies import Distinct, distinct_rows
from cpp.rate_reduction.fit import fit
from cpp.rate_reduction.recipes import Discriminant
from tests.bench import heading

Outcome = tuple[str, Callable[[], str]]  # what was drawn, and the work, which returns a word on its result


def planted(n: int, d: int, clusters: int, noise: float) -> tuple[Tensor, np.ndarray]:
    """Unit rows around random directions, and their clusters."""
    generator = torch.Generator().manual_seed(0)
    centres = normalize(torch.randn(clusters, d, generator=generator))
    cluster = torch.randint(clusters, (n,), generator=generator)
    rows = torch.randn(n, d, generator=generator).mul_(noise / d**0.5)
    for part in torch.arange(n).split(2**16):
        rows[part] = normalize(rows[part] + centres[cluster[part]])
    return rows, cluster.numpy()


def copies_part(n: int) -> Outcome:
    X, _ = planted(n, 32, 1000, 0.6)
    return f"{n:,} rows of 32 dimensions", lambda: f"{len(distinct_rows(X).rows):,} distinct"


def fit_part(n: int) -> Outcome:
    X, _ = planted(n, 32, 1000, 0.6)
    distinct = Distinct(np.arange(n), np.arange(n))

    def work() -> str:
        head, _ = fit(X, Discriminant(), 1000, 0, distinct=distinct)
        return f"{head.shape['dim']} dimensions"

    return f"{n:,} rows of 32 dimensions", work


def ward_part(n: int) -> Outcome:
    Z, cluster = planted(n, 64, 200, 1.0)
    return f"{n:,} rows of 64 dimensions", lambda: f"ARI {scores(cluster, cut(ward(Z.numpy()), 200)).ari:.3f}"


def spectral_part(n: int) -> Outcome:
    Z, cluster = planted(n, 64, 200, 1.0)
    return f"{n:,} rows of 64 dimensions", lambda: f"ARI {scores(cluster, spectral(Z, 200, 0.1, 5, 0)).ari:.3f}"


def tree_part(groups: int) -> Outcome:
    """A tenth as many clusters as groups, of twelve rows each."""
    generator, d = torch.Generator().manual_seed(0), 32
    clusters = normalize(torch.randn(groups // 10, d, generator=generator)).repeat(10, 1)
    centres = normalize(clusters + torch.randn(groups, d, generator=generator) * (0.3 / d**0.5))
    moments = Moments.zeros(groups, d)
    for part in torch.arange(groups).split(4096):
        rows = centres[part].repeat_interleave(12, 0)
        rows = normalize(rows + torch.randn(rows.shape, generator=generator) * (0.6 / d**0.5))
        own = Moments.of(rows, torch.arange(len(part)).repeat_interleave(12), len(part))
        for total, added in ((moments.count_K, own.count_K), (moments.sum_Kd, own.sum_Kd)):
            total[part] = added
        moments.gram_Kdd[part] = own.gram_Kdd
    return f"{groups:,} groups in 32 dimensions", lambda: f"K {grow(moments, 0.1).best:,} of {groups // 10:,}"


PARTS: dict[str, tuple[Callable[[int], Outcome], list[int]]] = {
    "copies": (copies_part, [1_000_000, 2_000_000, 4_000_000, 10_000_000]),
    "fit": (fit_part, [1_000_000, 2_000_000, 4_000_000, 10_000_000]),
    "ward": (ward_part, [4_096, 8_192, 16_384]),
    "spectral": (spectral_part, [8_192, 16_384, 32_768, 65_536, 100_000]),
    "tree": (tree_part, [5_000, 10_000, 20_000, 50_000]),
}


def measured(part: str, n: int) -> None:
    """One row of the table in this process: prints CPU seconds, MiB before and at most, and the result."""
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    drawn, work = PARTS[part][0](n)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.process_time()
    result = work()
    seconds, peak = time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([drawn, seconds, before, peak, result]))


def main(parts: list[str]) -> None:
    print(f"{heading()}; one thread; CPU seconds; in brackets the ratio to the row before\n")
    print("| part | n | seconds | MiB before | MiB at most | result |\n|---|---|---|---|---|---|")
    for part in parts:
        earlier: tuple[float, float] | None = None
        for n in PARTS[part][1]:
            program = [sys.executable, "-m", "tests.bench.cost", part, str(n)]
            line = subprocess.run(program, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1]
            drawn, seconds, before, peak, result = json.loads(line)
            ratios = [f" ({now / then:.1f})" for now, then in zip((seconds, peak), earlier or (), strict=False)]
            of_seconds, of_peak = ratios or ["", ""]
            cells = [part, drawn, f"{seconds:.1f}{of_seconds}", f"{before:,.0f}", f"{peak:,.0f}{of_peak}", result]
            print(f"| {' | '.join(cells)} |", flush=True)
            earlier = seconds, peak


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if len(arguments) == 2 and arguments[1].isdigit():
        measured(arguments[0], int(arguments[1]))
    else:
        main(arguments or list(PARTS))
