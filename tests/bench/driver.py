"""What 1,000 to 1,000,000 shards cost the driver: `plan`, and `run` on a finished run. Seconds, and MiB over the start.

`python -m tests.bench.driver`. Inputs and results are links to one small file of each kind, under their right names;
`run` is timed twice: the second finds the files in the memory of the system. Each size has a process of its own.
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

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from safetensors.numpy import save_file

from cpp.files import tables
from cpp.files.tables import Counts
from pipelines.config.load import load
from pipelines.graph import plan
from pipelines.run import Run
from tests.bench import heading

STEPS = ["import", "columns", "fit", "project", "partition", "measure", "layers", "assign"]  # three take shards
LINKS = 30_000  # with those that the run shows a file may have twice so many names


def link(source: Path, targets: list[Path]) -> None:
    """The file under all these names; every `LINKS` names another copy of it."""
    for i, target in enumerate(targets):
        if i % LINKS == 0:
            target.write_bytes(source.read_bytes())
            source = target
        else:
            os.link(source, target)


def prepare(folder: Path, shards: int) -> Path:
    """The inputs, the config and every result of a finished run."""
    data, one = folder / "data", folder / "one"
    for place in (data / "img_emb", data / "metadata", one):
        place.mkdir(parents=True)
    np.save(one / "vectors.npy", np.zeros((1, 8), np.float16))
    pq.write_table(pa.table({"key": ["k"]}), one / "metadata.parquet")
    link(one / "vectors.npy", [data / f"img_emb/img_emb_{i}.npy" for i in range(shards)])
    link(one / "metadata.parquet", [data / f"metadata/metadata_{i}.parquet" for i in range(shards)])
    config = {"name": "many", "root": str(folder / "run"), "data": str(folder), "import": {"path": "data"}}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config | {"partition": {"n_clusters": 2}, "resources": {"workers": 1}}))
    tables.write(pa.table({"key": ["k"]}), one / "out", Counts(1, 1))
    tables.write(pa.table({"key": ["k"]}).slice(1), one / "rejected", Counts(1, 1))
    save_file({"bias": np.zeros(1)}, one / "arrays")
    sources = {"rejected": one / "rejected", ".safetensors": one / "arrays"}
    for step in (step for step in plan(load(path)) if step.name in STEPS):
        for product in step.stage.products:
            targets = [Path(file.path) for file in step.outputs[product.name].values()]
            targets[0].parent.mkdir(parents=True, exist_ok=True)
            link(sources.get(product.rows or product.suffix, one / "out"), targets)
    return path


def measured(config: Path) -> None:
    """Prints seconds of plan, of the first and of the second run, and how many MiB the peak is above the start."""

    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    before, taken = peak(), []
    start = time.perf_counter()
    steps = plan(load(config))
    taken.append(time.perf_counter() - start)
    planned = peak() - before
    del steps
    for _ in range(2):
        start = time.perf_counter()
        if not Run(load(config), STEPS, local=True).go():
            raise RuntimeError("the run is not finished")
        taken.append(time.perf_counter() - start)
    print(json.dumps([*taken, planned, peak() - before]))


def main() -> None:
    print(f"{heading()}; steps {', '.join(STEPS)}\n")
    print("| shards | s of plan | s of the first run | s of the next | MiB of plan | MiB of all |")
    print("|---|---|---|---|---|---|")
    for shards in (1_000, 10_000, 100_000, 1_000_000):
        with tempfile.TemporaryDirectory() as name:
            subprocess.run([sys.executable, "-m", "tests.bench.driver", name, str(shards)], check=True)
            program = [sys.executable, "-m", "tests.bench.driver", f"{name}/config.yaml"]
            said = subprocess.run(program, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1]
        first, second, third, planned, all_of = json.loads(said)
        print(f"| {shards:,} | {first:.1f} | {second:.1f} | {third:.1f} | {planned:.0f} | {all_of:.0f} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        prepare(Path(sys.argv[1]), int(sys.argv[2]))
    elif len(sys.argv) == 2:
        measured(Path(sys.argv[1]))
    else:
        main()
