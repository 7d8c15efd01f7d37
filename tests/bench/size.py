"""Ten million vectors in 1,000 shards, K = 10,000: the stages project, measure, assign, vote, label and labels.

`make bench-scale`, or `python -m tests.bench.size [FOLDER] [SHARDS...]`. Seconds, rows a second and peak memory of each
stage, at a tenth of the shards and at all of them; each runs in a process of its own, so that its memory is its own.
There are 100 different shards; the others are links to them, which cost the disk nothing and the stages the same.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.numpy import load_file, save_file

from cpp.files import tables
from cpp.files.tables import Counts
from cpp.rate_reduction.head import LinearHead
from pipelines.engine.stage import Context, Stage
from pipelines.stages.cluster import Assign, Measure
from pipelines.stages.fit import Project
from pipelines.stages.name import Label, Labels, Vote
from tests.bench import heading

ROWS, WIDTH, DIM, K, WORDS = 10_000, 768, 128, 10_000, 200  # rows of a shard
DIFFERENT, SPREAD, THREADS = 100, 0.5, 1
COARSE = 100  # clusters of the second layer
SHARDWISE = {"features", "codes", "assignments", "votes", "likeness", "matches", "labels"}


def unit(X: np.ndarray) -> np.ndarray:
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def prepare(folder: Path, shards: int) -> None:
    """Features, head, groups, tree and words; nothing where they are there."""
    rng = np.random.default_rng(0)
    centres = unit(rng.standard_normal((K, WIDTH)).astype(np.float32))
    (folder / "features").mkdir(parents=True, exist_ok=True)
    for i in range(shards):
        path = folder / f"features/{i:05d}.parquet"
        if path.exists():
            continue
        if i >= DIFFERENT:
            os.link(folder / f"features/{i % DIFFERENT:05d}.parquet", path)
            continue
        noise = np.random.default_rng(i).standard_normal((ROWS, WIDTH), np.float32) * (SPREAD / WIDTH**0.5)
        X = unit(centres[np.random.default_rng(i).integers(K, size=ROWS)] + noise)
        columns = {"key": [f"{i}-{row}" for row in range(ROWS)], "embedding": tables.matrix_column(X)}
        tables.write(pa.table(columns), path, Counts(ROWS, ROWS))
    matrix = torch.from_numpy(np.linalg.qr(rng.standard_normal((WIDTH, DIM)))[0].T.astype(np.float32))
    head = LinearHead.of(torch.zeros(WIDTH), matrix)
    head.save(folder / "head")
    centroids = head.project(torch.from_numpy(centres), 8192).Z.numpy().astype(np.float32)
    basis = np.ascontiguousarray(np.eye(DIM, 32, dtype=np.float32))
    how = {"e": 0.1, "reach": -1.0, "method": "kmeans", "silhouettes": {}, "candidates": {}}
    groups = {"centroids": np.ascontiguousarray(unit(centroids)), "basis": basis, "cluster": np.arange(K)}
    groups |= {"repeated": np.zeros((0, DIM), np.float32), "copy_reach": np.zeros(0, np.float32)}
    save_file(groups, folder / "groups", metadata={"partition": json.dumps(how)})
    layers = np.stack([np.arange(K) % COARSE, np.arange(K)]).astype(np.int64)
    tree = {"merged": np.zeros((0, 2), np.int64), "bits": np.zeros(K), "draws": np.zeros((1, K)), "clusters": layers}
    about = {"main": K, "layers": [COARSE, K], "e": 0.1}
    save_file(tree, folder / "tree", metadata={"tree": json.dumps(about)})
    tables.write(pa.schema([("image_shard", pa.string())]).empty_table(), folder / "columns")
    (folder / "words").mkdir(exist_ok=True)
    (folder / "words/names.txt").write_text("\n".join(f"thing {i}" for i in range(WORDS)) + "\n")
    np.save(folder / "words/embeddings.npy", centres[:WORDS].astype(np.float16))


def stages() -> dict[str, Stage]:
    return {
        "project": Project(embeddings=["embedding"]),
        "measure": Measure(),
        "assign": Assign(),
        "vote": Vote(embedding="embedding", top=5),
        "label": Label(),
        "labels": Labels(),
    }


def run(folder: Path, name: str, shards: int) -> None:
    """One stage over so many shards in this process; prints CPU seconds, peak MiB, and bare faiss over `assign`."""
    torch.set_num_threads(THREADS)
    faiss.omp_set_num_threads(THREADS)
    stage, called = stages()[name], [f"{i:05d}" for i in range(shards)]
    suffix = {"likeness": ".safetensors"}

    def path(kind: str, shard: str) -> str:
        return (
            str(folder / kind / f"{shard}{suffix.get(kind, '.parquet')}") if kind in SHARDWISE else str(folder / kind)
        )

    there = (
        {"votes", "likeness", "vocabulary"} | SHARDWISE | {"head", "groups", "tree", "columns", "moments", "clusters"}
    )
    whole = {k: [path(k, s) for s in called] if k in SHARDWISE else [path(k, "")] for k in stage.whole if k in there}
    if "vocabulary" in whole:
        whole["vocabulary"] = [str(folder / "words")]
    context = Context(whole, THREADS, "cpu", 8192, 64, 4)
    taken, bare, beside = 0.0, 0.0, 0.0
    start = time.process_time()
    work = stage.open(context)
    taken += time.process_time() - start
    index = faiss.IndexFlatIP(DIM)
    index.add(load_file(folder / "groups")["centroids"])
    for i, shard in enumerate(called if stage.each else [""]):
        out = {p.name: Path(path(p.name, shard)) for p in stage.products}
        for target in out.values():
            target.parent.mkdir(exist_ok=True)
        start = time.process_time()
        work({kind: path(kind, shard) for kind in stage.each}, out)
        taken += (spent := time.process_time() - start)
        if name == "assign" and i % 10 == 5:  # the same arrays, in memory, by faiss alone
            Z = tables.matrix(pq.read_table(path("codes", shard))["code"]).astype(np.float32)
            start = time.process_time()
            index.search(Z, 2)
            bare, beside = bare + time.process_time() - start, beside + spent
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([taken, peak, bare / beside if beside else None]))


def main(folder: Path, sizes: list[int]) -> None:
    _alone(folder, "prepare", max(sizes))
    print(f"{heading()}; {WIDTH}-d features, {DIM}-d codes, K {K:,}, {WORDS} words, {THREADS} thread\n")
    print("| stage | rows | CPU seconds | rows/s | peak MiB | bare faiss / assign |\n|---|---|---|---|---|---|")
    for name in stages():
        for shards in sizes:
            taken, peak, bare = _alone(folder, name, shards)
            rows, ratio = shards * ROWS, f"{bare:.2f}" if bare else ""
            print(f"| {name} | {rows:,} | {taken:.1f} | {rows / taken:,.0f} | {peak:,.0f} | {ratio} |", flush=True)


def _alone(folder: Path, name: str, shards: int) -> list[float]:
    """What a process of its own prints in its last line."""
    program = [sys.executable, "-m", "tests.bench.size", str(folder), name, str(shards)]
    said: list[float] = json.loads(subprocess.run(program, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])
    return said


if __name__ == "__main__":
    context = sys.argv[1:]
    if len(context) == 3 and context[1] == "prepare":
        prepare(Path(context[0]), int(context[2]))
        print("[]")
    elif len(context) == 3 and context[1] in stages():
        run(Path(context[0]), context[1], int(context[2]))
    elif context:
        main(Path(context[0]), [int(shards) for shards in context[1:]] or [100, 1000])
    else:
        with tempfile.TemporaryDirectory() as name:
            main(Path(name), [100, 1000])
