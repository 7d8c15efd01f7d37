"""The step `encode` by the pool of workers and by Ray Data, on the same shards: `python -m tests.bench.runner`.

CPP_TEST_DATA must be set. Each of the two processes the same tasks with the same code, so that files, commits and
resume are those of a run; only who starts processes, distributes tasks and copes with losses differs.
"""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import ray

from cpp.encoding import pretrained
from cpp.store.local import Store
from pipelines.config.load import load
from pipelines.config.sections import Resources
from pipelines.engine.executor import TaskResult, open_stage, run_task
from pipelines.engine.inputs import input_files
from pipelines.engine.plan import Task, plan_step
from pipelines.engine.stage import Context, Inputs, Outputs, Stage, Work
from pipelines.graph import pipeline
from pipelines.ray_backend.pool import Pool
from pipelines.stages.encode import Encode
from tests.bench import heading
from tests.bench.encode import random_weights
from tests.support.datasets import TINY

SHARDS, IMAGES, WORKERS = 24, 400, 2
NO_PROGRESS = 60.0  # seconds; the default of Ray Data is 1,800
Runner = Callable[[Stage, Context, Sequence[Task], Store], Iterator[TaskResult]]


class Lethal(Encode):
    """Encodes, but kills its worker at the shard 00003, `deaths` times in all."""

    version = Encode.version
    deaths: int
    folder: str

    def open(self, context: Context) -> Work:
        work = super().open(context)

        def fragile(files: Inputs, out: Outputs) -> Any:
            marks = Path(self.folder) / "deaths"
            if "00003" in str(files["images"]) and (not marks.exists() or marks.stat().st_size < self.deaths):
                with marks.open("a") as file:
                    file.write("x")
                os.kill(os.getpid(), signal.SIGKILL)
            return work(files, out)

        return fragile


class Mapper:
    """The callable class of Ray Data: opens the stage in its process, then processes one task in each call."""

    def __init__(self, stage: Stage, context: Context, store: Store, raises: bool) -> None:
        self.work, self.store, self.raises = open_stage(stage, context), store, raises

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        result = run_task(self.work, row["task"], self.store)
        if result.error and self.raises:
            raise RuntimeError(result.error)
        return {"result": result}


def by_pool(stage: Stage, context: Context, tasks: Sequence[Task], store: Store) -> Iterator[TaskResult]:
    with Pool(store, Resources(workers=WORKERS), lambda line: print("  pool:", line)) as pool:
        yield from pool.results(stage, context, tasks)


def by_ray_data(raises: bool, **remote: Any) -> Runner:
    """Ray Data with one shard a block. `raises`: errors of shards are left to it; `remote`: options of its actors."""

    def run(stage: Stage, context: Context, tasks: Sequence[Task], store: Store) -> Iterator[TaskResult]:
        ray.init("local", include_dashboard=False, object_store_memory=256 * 2**20, logging_level=logging.ERROR)
        settings: Any = ray.data.DataContext.get_current()
        settings.enable_progress_bars = False
        settings.max_tasks_in_flight_per_actor = 1
        settings.max_errored_blocks = -1
        settings.max_map_retries, settings.retried_map_errors = 2, True
        settings.execution_no_progress_timeout_s = NO_PROGRESS
        try:
            rows = ray.data.from_items([{"task": task} for task in tasks], override_num_blocks=len(tasks))
            arguments: dict[str, Any] = {
                "fn_constructor_args": (stage, context, store, raises),
                "num_cpus": 1,
                **remote,
            }
            pool = ray.data.ActorPoolStrategy(size=WORKERS)
            yield from (row["result"] for row in rows.map(cast("Any", Mapper), compute=pool, **arguments).iter_rows())
        finally:
            ray.shutdown()

    return run


def measure(name: str, runner: Runner, folder: Path, damaged: bool = False, deaths: int = 0) -> None:
    """Print what a runner makes of the shards: seconds, results, errors, and what is left to a second run."""
    root = Path(tempfile.mkdtemp(dir=folder))
    config = load(folder / "config.yaml", [f"root={root}", f"data={folder / ('damaged' if damaged else 'whole')}"])
    files = input_files(config)
    stage = pipeline(config, files)["encode"]
    if deaths:
        stage = Lethal(**vars(stage), deaths=deaths, folder=str(root))
    store, context = Store(root), Context.create((), files, config.resources, gpu=True)
    tasks = plan_step("encode", stage, files, store).todo
    start, first, rows, errors, ended = time.perf_counter(), 0.0, 0, list[str](), ""
    try:
        for result in runner(stage, context, tasks, store):
            first = first or time.perf_counter() - start
            rows += result.counts.rows_in if result.counts else 0
            errors += [f"{result.shard}: {result.error}"[:100]] if result.error else []
    except Exception as error:
        ended = f"; ended by {type(error).__name__}: {str(error).splitlines()[0][:100]}"
    seconds = time.perf_counter() - start
    left = len(plan_step("encode", stage, files, store).todo)
    print(f"{name}: {seconds:.1f} s, first result after {first:.1f} s, {rows:,} rows, {left} shards left{ended}")
    for line in errors:
        print("  failed", line)
    sys.stdout.flush()


def prepare(data: Path, folder: Path) -> None:
    """Write tars of real images, the same with a damaged one, the weights of a small model and a configuration."""
    (folder / "models").mkdir()
    (folder / "models" / "cpp-bench.json").write_text(json.dumps(TINY))
    pretrained.register(str(folder / "models"))
    weights = random_weights("cpp-bench", folder)
    with tarfile.open(data / "cc3m-img2dataset" / "00000.tar") as tar:
        pictures = [(m.name, tar.extractfile(m).read()) for m in tar if m.name.endswith(".jpg")]  # type: ignore[union-attr]
    for kind in ("whole", "damaged"):
        (folder / kind).mkdir()
        for shard in range(SHARDS):
            with tarfile.open(folder / kind / f"{shard:05d}.tar", "w") as tar:
                for i in range(IMAGES):
                    name, content = pictures[(shard * IMAGES + i) % len(pictures)]
                    info = tarfile.TarInfo(f"{i:05d}-{Path(name).name}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    broken = folder / "damaged" / "00003.tar"
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2 + 100])
    (folder / "config.yaml").write_text(
        json.dumps(
            {
                "name": "runner",
                "label": None,
                "images": {"format": "webdataset", "path": [f"{{00000..{SHARDS - 1:05d}}}.tar"]},
                "encode": {"model": "cpp-bench", "pretrained": str(weights), "configs": str(folder / "models")},
                "resources": {"workers": WORKERS, "cpus": 1},
            }
        )
    )


def main() -> None:
    print(heading(), f"ray {ray.__version__}, {SHARDS} shards of {IMAGES} images, {WORKERS} workers")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(Path(os.environ["CPP_TEST_DATA"]), folder)
        for _ in range(2):
            measure("whole, pool", by_pool, folder)
            measure("whole, Ray Data", by_ray_data(False), folder)
        measure("a damaged shard, pool", by_pool, folder, damaged=True)
        measure("a damaged shard, Ray Data, which sees the error", by_ray_data(True), folder, damaged=True)
        measure("a worker killed once, pool", by_pool, folder, deaths=1)
        measure("a worker killed once, Ray Data", by_ray_data(False), folder, deaths=1)
        measure("a shard that kills each worker, pool", by_pool, folder, deaths=10**6)
        measure("a shard that kills each worker, Ray Data", by_ray_data(False), folder, deaths=10**6)
        limited = by_ray_data(False, max_restarts=-1, max_task_retries=2)
        measure("a shard that kills each worker, Ray Data with 2 retries", limited, folder, deaths=10**6)


if __name__ == "__main__":
    main()
