"""A balanced subset of 250,000 and of 1,000,000 rows: seconds and peak memory. `python -m tests.bench.balance`.

Each size runs in a process of its own, so that its memory is its own.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from safetensors.numpy import save_file

from cpp.files.tables import Counts, matrix_column, write
from pipelines.engine.stage import Context
from pipelines.stages.curate import Balance
from tests.bench import heading

ROWS, DIM, CLUSTERS, SIZE = 10_000, 64, 1000, 50_000  # rows of a shard


def draw(folder: Path, shards: int) -> None:
    """Clusters whose sizes fall like 1/k, of one layer."""
    rng = np.random.default_rng(0)
    part = 1 / np.arange(1, CLUSTERS + 1)
    for i in range(shards):
        cluster = rng.choice(CLUSTERS, ROWS, p=part / part.sum()).astype(np.int32)
        keys = pa.array([f"{i:05d}{row:05d}" for row in range(ROWS)])
        score = rng.random(ROWS).astype(np.float32)
        about = {"key": keys, "cluster": cluster, "score": score, "image_shard": pa.nulls(ROWS, pa.string())}
        write(pa.table(about), folder / f"a{i:05d}-x.parquet", Counts(ROWS, ROWS))
        Z = rng.standard_normal((ROWS, DIM)).astype(np.float16)
        write(pa.table({"key": keys, "code": matrix_column(Z)}), folder / f"c{i:05d}-x.parquet", Counts(ROWS, ROWS))
    arrays = {"bits": np.zeros(1), "draws": np.zeros(1), "clusters": np.arange(CLUSTERS)[None]}
    save_file(arrays, folder / "tree", metadata={"tree": json.dumps({"main": CLUSTERS, "layers": [CLUSTERS]})})


def run(folder: Path, shards: int, by: str) -> None:
    """The stage over so many shards, in this process; prints seconds and peak MiB."""
    whole = {
        kind: [str(p) for p in sorted(folder.glob(f"{kind[0]}*-x.parquet"))[:shards]]
        for kind in ("assignments", "codes")
    }
    context = Context({**whole, "tree": [str(folder / "tree")]}, 1, "cpu", 8192, 64, 4)
    start = time.perf_counter()
    stage = Balance(size=SIZE, power=0.0, by=by, threshold=None, seed=0)  # type: ignore[arg-type]
    stage.open(context)({}, {"chosen": folder / "chosen", "shares": folder / "shares"})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([time.perf_counter() - start, peak]))


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        draw(Path(name), 100)
        print(f"{heading()}; {SIZE:,} rows from {CLUSTERS:,} clusters\n")
        print("| by | rows | seconds | peak MiB |\n|---|---|---|---|")
        for by in ("confidence", "random", "diversity"):
            for shards in (25, 100):
                program = [sys.executable, "-m", "tests.bench.balance", name, str(shards), by]
                said = subprocess.run(program, check=True, capture_output=True, text=True).stdout.splitlines()
                seconds, peak = json.loads(said[-1])
                print(f"| {by} | {shards * ROWS:,} | {seconds:.1f} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 4:
        run(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
    else:
        main()
