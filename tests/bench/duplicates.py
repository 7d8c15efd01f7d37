"""A million vectors without their near-duplicates, through the stages, beside a plain matrix product for each cluster.

Each size runs in processes of its own, two of them at a time on a thread each. `python -m tests.bench.duplicates`.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import threadpoolctl
import torch
from safetensors.numpy import save_file

from cpp.clustering.partition import PARTS
from cpp.files import tables
from cpp.files.tables import Counts
from pipelines.engine.stage import Context, Stage
from pipelines.stages.duplicate_groups import Duplicates, Group
from pipelines.stages.duplicate_pairs import Cells, Scatter, Search
from tests.bench import heading

ROWS, DIM, CLUSTERS = 10_000, 512, 1000  # rows of a shard
PLANTED, EXACT = 1000, 200  # of a shard: rows that are near another, and of these those that are equal to it
THRESHOLD, LOWEST = 0.95, 0.9
COMMON = 2.0  # square of the common part; those of a centre and of a row about its centre are 1 and `spread` squared
STAGES = ("cells", "scatter", "search", "group", "duplicates")


def plain(shard: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows around unequal clusters, before duplicates are planted, and the cluster of each.

    As vectors of CLIP they have a common part, half of their square, and variances that fall like 1/k.
    """
    rng = np.random.default_rng([shard, 1])
    weights = 1 / np.sqrt(np.arange(1, CLUSTERS + 1))
    cluster = rng.choice(CLUSTERS, ROWS, p=weights / weights.sum())
    X = centres()[cluster] + spread * rng.standard_normal((ROWS, DIM), np.float32) * deviations()
    return X / np.linalg.norm(X, axis=1, keepdims=True), cluster


@cache
def centres() -> np.ndarray:
    C = np.random.default_rng(0).standard_normal((CLUSTERS, DIM), np.float32) * deviations()
    return C + np.sqrt(COMMON / DIM, dtype=np.float32)


def deviations() -> np.ndarray:
    variance = 1 / np.arange(1, DIM + 1)
    return np.sqrt(variance / variance.sum()).astype(np.float32)


def planted(shard: int, shards: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """The rows of a shard: the first `PLANTED` are rows of another that are not planted, moved by up to 0.45."""
    X, cluster = plain(shard, spread)
    other, of = plain(origin(shard, shards), spread)
    mine = slice(ROWS - PLANTED, ROWS)
    rng = np.random.default_rng([shard, 2])
    moved = np.linspace(0, 0.45, PLANTED, dtype=np.float32)[:, None] * (np.arange(PLANTED) >= EXACT)[:, None]
    X[:PLANTED] = other[mine] + moved * rng.standard_normal((PLANTED, DIM), np.float32) / DIM**0.5
    cluster[:PLANTED] = of[mine]
    return (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float16), cluster


def origin(shard: int, shards: int) -> int:
    """The shard that the planted rows of a shard are copies of."""
    return (7 * shard + 3) % shards


def write(folder: Path, shards: int, spread: float) -> None:
    """FEATURES, ASSIGNMENTS and REJECTED, and what the search needs of the tree, as a run would have them."""
    for kind in ("features", "assignments", "rejected"):
        (folder / kind).mkdir(parents=True)
    sizes = np.zeros(CLUSTERS)
    for shard in range(shards):
        X, cluster = planted(shard, shards, spread)
        sizes += np.bincount(cluster, minlength=CLUSTERS)
        counts, key = Counts(ROWS, ROWS), pa.array([f"{shard:05d}{i:05d}" for i in range(ROWS)])
        none = pa.nulls(ROWS, pa.string())
        score = (X.astype(np.float32) * centres()[cluster]).sum(axis=1)
        about = {"cluster": cluster.astype(np.int32), "score": score, "second": np.full(ROWS, -1, np.int32)}
        name = f"{shard:05d}.parquet"
        tables.write(pa.table({"key": key, "embedding": tables.matrix_column(X)}), folder / "features" / name, counts)
        tables.write(pa.table({"key": key, **about, "image_shard": none}), folder / "assignments" / name, counts)
        tables.write(pa.Table.from_pylist([], tables.REJECTED), folder / "rejected" / name, counts)
    count = np.zeros((CLUSTERS, PARTS))
    count[:, 0] = sizes
    save_file({"count": count.reshape(-1)}, folder / "moments")
    arrays = {"bits": np.zeros(1), "draws": np.zeros((0, 1)), "clusters": np.arange(CLUSTERS)[None]}
    save_file(arrays, folder / "tree", metadata={"tree": json.dumps({"main": CLUSTERS, "layers": [CLUSTERS]})})


_work: dict[str, Callable[..., Counts]] = {}


def one(stage: Stage, context: Context, files: dict[str, str], out: dict[str, Path]) -> tuple[float, float]:
    """One shard of a stage in a worker, which opens it once: CPU seconds, and its peak MiB until then."""
    start = time.process_time()
    torch.set_num_threads(1)
    threadpoolctl.threadpool_limits(1)
    name = type(stage).__name__
    if name not in _work:
        _work[name] = stage.open(context)
    _work[name](files, out)
    return time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(folder: Path, shards: int) -> dict[str, float]:
    """The stages over all shards by two workers; CPU seconds of each, and the peak MiB of the larger worker."""
    names = [f"{shard:05d}.parquet" for shard in range(shards)]
    stages = {
        "cells": Cells(embeddings=["embedding"], threshold=THRESHOLD, seed=0),
        "scatter": Scatter(embeddings=["embedding"], threshold=THRESHOLD, pictures=False),
        "search": Search(lowest=LOWEST),
        "group": Group(threshold=THRESHOLD, lowest=LOWEST, keep="centroid", balanced=False, outlier_threshold=None),
        "duplicates": Duplicates(images=True),
    }
    cpu_seconds: dict[str, float] = {}
    peak = 0.0
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(float, range(8)))  # started
        for name, stage in stages.items():
            for product in stage.products:
                (folder / product.name).mkdir()
            whole = {
                kind: sorted(map(str, (folder / kind).iterdir())) for kind in stage.whole if (folder / kind).is_dir()
            }
            whole |= {kind: [str(folder / kind)] for kind in ("moments", "tree")}
            context = Context(whole, 1, "cpu", 8192, 64, 4)
            tasks = [
                pool.submit(
                    one,
                    stage,
                    context,
                    {kind: str(folder / kind / shard) for kind in stage.each if (folder / kind).is_dir()},
                    {p.name: folder / p.name / shard for p in stage.products},
                )
                for shard in (names if stage.each else ["all.parquet"])
            ]
            results = [task.result() for task in tasks]
            cpu_seconds[name] = sum(seconds for seconds, _ in results)
            peak = max(peak, *(mebibytes for _, mebibytes in results))
    return {**cpu_seconds, "MiB": peak, **found(folder, shards)}


def found(folder: Path, shards: int) -> dict[str, float]:
    """How many planted pairs from the threshold on are in one group, of how many; and rows that go beside them."""
    columns = ["group", "kept"]
    read = [pq.read_table(path, columns=columns) for path in sorted((folder / "duplicates").iterdir())]
    X = [tables.matrix(pq.read_table(path)["embedding"]) for path in sorted((folder / "features").iterdir())]
    true = together = 0
    for shard in range(shards):
        a, b = X[shard][:PLANTED].astype(np.float32), X[origin(shard, shards)][ROWS - PLANTED :].astype(np.float32)
        cosine = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        same = pc.equal(read[shard]["group"][:PLANTED], read[origin(shard, shards)]["group"][ROWS - PLANTED :])
        near = cosine >= THRESHOLD
        true += int(near.sum())
        together += int((same.fill_null(False).to_numpy(zero_copy_only=False) & near).sum())
    gone = sum(pc.sum(pc.invert(table["kept"])).as_py() for table in read)
    return {"planted": true, "together": together, "gone": gone}


def product(folder: Path) -> float:
    """CPU seconds of SemDeDup's own lines (`semdedup.py`, its product and its maximum) on vectors in memory."""
    torch.set_num_threads(2)
    threadpoolctl.threadpool_limits(2)
    read = [pq.read_table(path, columns=["embedding"]) for path in sorted((folder / "features").iterdir())]
    X = np.concatenate([tables.matrix(table["embedding"]) for table in read])
    cluster = np.concatenate(
        [pq.read_table(path)["cluster"].to_numpy() for path in sorted((folder / "assignments").iterdir())]
    )
    order = np.argsort(cluster, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(cluster, minlength=CLUSTERS))[:-1])
    start = time.process_time()
    for rows in members:
        reps = torch.from_numpy(X[rows].astype(np.float32))
        similarity = reps @ reps.T
        similarity.fill_diagonal_(0.0)
        if len(rows):
            torch.max(torch.triu(similarity, diagonal=1), dim=0)
    return time.process_time() - start


def main(sizes: list[int]) -> None:
    print(f"{heading()}; d {DIM}, {CLUSTERS} clusters of unequal sizes, a tenth of the rows planted near others\n")
    columns = ["rows", "cosine within clusters", *(f"{name} CPU s" for name in STAGES), "all CPU s"]
    columns += ["plain product CPU s", "peak MiB of a worker", "planted pairs found", "rows that go"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for shards, spread in [(n, 1.0) for n in sizes] + [(sizes[0], 0.5)]:
        with tempfile.TemporaryDirectory() as name:
            write(Path(name), shards, spread)
            program = [sys.executable, "-m", "tests.bench.duplicates", "--of", name, str(shards)]
            said, plain_s = (
                json.loads(
                    subprocess.run([*program, what], check=True, capture_output=True, text=True).stdout.splitlines()[-1]
                )
                for what in ("run", "product")
            )
        steps = [said[name] for name in STAGES]
        cells = [f"{s:.1f}" for s in [*steps, sum(steps), plain_s]]
        planted_found = f"{said['together']:,.0f} of {said['planted']:,.0f}"
        row = [
            f"{shards * ROWS:,}",
            f"{(COMMON + 1) / (COMMON + 1 + spread**2):.2f}",
            *cells,
            f"{said['MiB']:.0f}",
            planted_found,
            f"{said['gone']:,.0f}",
        ]
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--of"]:
        folder, shards, what = Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
        print(json.dumps(run(folder, shards) if what == "run" else product(folder)))
    else:
        main([int(n) for n in sys.argv[1:]] or [25, 100])
