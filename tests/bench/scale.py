"""A million codes in 100 shards: moments of fine groups, the tree and K. Seconds, and memory beside a quarter of them.

Each size runs in a process of its own, so that its memory is its own. `python -m tests.bench.scale`.
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

from cpp.clustering.partition import fine_groups
from cpp.files.tables import Counts, matrix_column, write
from cpp.rate_reduction.head import Codes
from pipelines.engine.stage import Context
from pipelines.stages.artifacts import write_groups
from pipelines.stages.cluster import CutLayers, Measure
from tests.bench import heading

ROWS, DIM, CLUSTERS, GROUPS = 10_000, 128, 200, 1000  # rows of a shard


def shard(centres: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    Z = centres[rng.integers(len(centres), size=ROWS)] + 0.5 / DIM**0.5 * rng.standard_normal((ROWS, DIM))
    return (Z / np.linalg.norm(Z, axis=1, keepdims=True)).astype(np.float16)


def run(folder: Path, shards: int) -> None:
    """The two stages over so many shards, in this process; prints seconds and peak MiB."""
    import torch

    codes = [str(path) for path in sorted(folder.glob("*.parquet"))[:shards]]
    context = Context({"codes": codes, "groups": [str(folder / "groups")]}, 2, "cpu", 8192, 64, 4)
    start = time.perf_counter()
    torch.set_num_threads(2)
    Measure().open(context)({}, {"moments": folder / f"moments{shards}"})
    measured = time.perf_counter() - start
    context = Context(
        {"moments": [str(folder / f"moments{shards}")], "groups": [str(folder / "groups")]}, 2, "cpu", 1, 1, 1
    )
    CutLayers(n_clusters=None, layers=[]).open(context)({}, {"tree": folder / f"tree{shards}"})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([measured, time.perf_counter() - start - measured, peak]))


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, rng = Path(name), np.random.default_rng(0)
        centres = rng.standard_normal((CLUSTERS, DIM))
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        for i in range(100):
            table = pa.table({"code": matrix_column(shard(centres, i))})
            write(table, folder / f"{i:05d}.parquet", Counts(ROWS, ROWS))
        import torch

        Z = torch.from_numpy(np.concatenate([shard(centres, i) for i in range(2)]).astype(np.float32))
        found = fine_groups(Codes(Z, Z), n_clusters=GROUPS, method="kmeans", seed=0)
        write_groups(found, folder / "groups")
        print(f"{heading()}; {CLUSTERS} planted clusters, {GROUPS} fine groups, d {DIM}\n")
        print("| rows | shards | seconds of measure | of the tree and K | peak MiB |\n|---|---|---|---|---|")
        for shards in (25, 100):
            program = [sys.executable, "-m", "tests.bench.scale", name, str(shards)]
            said = subprocess.run(program, check=True, capture_output=True, text=True).stdout.splitlines()
            measured, grown, peak = json.loads(said[-1])
            print(f"| {shards * ROWS:,} | {shards} | {measured:.1f} | {grown:.1f} | {peak:.0f} |")
            print(f"\n{said[0]}\n", file=sys.stderr)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        run(Path(sys.argv[1]), int(sys.argv[2]))
    else:
        main()
