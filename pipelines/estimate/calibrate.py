"""A short calibration: some hundred rows of the first shard through the stages of a run, in a folder that goes again.

It says what each step took of how much; `pipelines.estimate.cost_model` makes of that what a whole run takes. It has
a process of
its own, so that its memory is that of a worker. Knows no Ray.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from cpp.clustering.partition import fine_groups
from cpp.files import credentials, filesystem, scratch, tables
from cpp.naming import word_lists
from cpp.sources import vectors
from cpp.sources.samples import Sample
from cpp.sources.vectors import read_lines
from cpp.store.local import Store
from cpp.store.results import File
from pipelines.config.load import Config
from pipelines.config.sections import PaperFit
from pipelines.engine.executor import in_process
from pipelines.engine.inputs import inputs
from pipelines.engine.plan import Files, step, upstream
from pipelines.engine.stage import Given, Stage
from pipelines.graph import pipeline

VECTORS, IMAGES, WORDS = 1000, 200, 40  # rows, images and words that are tried, at most
MATRIX, TIMES = 2048, 3  # the product of two such matrices says how fast the machine multiplies


@dataclass(frozen=True)
class Size:
    """How much a run has to do: rows, those of the largest shard, groups, words, dimensions of vectors and codes."""

    rows: int
    largest: int
    groups: int
    words: int
    dim: int
    codes: int


@dataclass(frozen=True)
class Taken:
    """What a step took: seconds to open it and to work, bytes written, largest memory of the process up to its end."""

    opening: float
    seconds: float
    bytes: int
    peak: int


@dataclass(frozen=True)
class Calibration:
    """What the steps took of the `size`; `speed` in multiply-adds a second. `stopped` says at which step, and why."""

    size: Size
    config: Config
    taken: Mapping[str, Taken]
    speed: float
    device: str
    stopped: str | None = None


@dataclass(frozen=True)
class Part:
    """The first `rows` of a shard of images."""

    shard: Any
    rows: int

    @property
    def path(self) -> str:
        return str(self.shard.path)

    def read(self, max_bytes: int) -> Iterator[Sample]:
        return islice(self.shard.read(max_bytes), self.rows)


def calibrate(config: Config, names: Sequence[str]) -> Calibration | str:
    """The steps `names` and what they need, tried in another process; a sentence where that cannot be."""
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(_quietly, config, list(names)).result()
    except BrokenProcessPool:
        return "the calibration ended without a word: it may have had too little memory"
    except (ValueError, OSError) as error:
        return f"the calibration could not start: {credentials.redacted(str(error))}"


def _quietly(config: Config, names: Sequence[str]) -> Calibration:
    with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory(dir=scratch.folder()) as folder:
        return _calibrate(config, names, Path(folder))


def _calibrate(config: Config, names: Sequence[str], folder: Path) -> Calibration:
    files, rows, words = sample(config, folder)
    small = smaller(config, rows)
    r = config.resources
    gpu = bool(r.gpus) and torch.cuda.is_available()
    stages = pipeline(small, files)
    store, taken, stopped = Store(folder / "run"), dict[str, Taken](), None
    there: dict[str, Mapping[str, File]] = dict(files)
    for name in upstream(list(names), stages):
        stage = stages[name]
        whole = {kind: [file.path for file in there[kind].values()] for kind in stage.whole if there.get(kind)}
        threads = r.cpus * (1 if stage.each else r.workers)
        device = "cuda" if gpu and stage.gpu else "cpu"
        given = Given(whole, threads, device, r.batch, r.image_batch, r.prefetch)
        try:
            taken[name], made = trial(name, stage, given, there, store)
        except Exception as error:  # whatever it is: the steps before it are known
            stopped = f"{name}: {credentials.redacted(str(error).strip().splitlines()[-1])}"
            break
        there |= made
    dims = _dims(there, small)
    size = Size(rows, rows, groups(small, rows), words, *dims)
    return Calibration(size, small, taken, _speed(gpu, r.cpus), "cuda" if gpu else "cpu", stopped)


def trial(name: str, stage: Stage, given: Given, files: Files, store: Store) -> tuple[Taken, Mapping[str, Any]]:
    """What a step takes, and the files that it made. RuntimeError where it fails.

    It works twice: what the first time takes longer, such as imports, is had once however many rows there are.
    """
    planned = step(name, stage, files, store)
    start = time.perf_counter()
    results = list(in_process(stage, given, planned.tasks, store))
    whole = time.perf_counter() - start
    if wrong := [result.error for result in results if result.error]:
        raise RuntimeError(wrong[0])
    work = sum(result.seconds for result in in_process(stage, given, planned.tasks, store))
    paths = (Path(path) for task in planned.tasks for path in task.outputs.values())
    size = sum(part.stat().st_size for path in paths for part in ([path] if path.is_file() else path.rglob("*.*")))
    return Taken(max(whole - work, 0.0), work, size, _peak()), planned.made


def _peak() -> int:
    """The largest resident memory that this process had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def groups(config: Config, rows: int) -> int:
    """The fine groups of a run of so many rows."""
    p = config.partition
    return p.fine or p.n_clusters or max(p.candidates, default=fine_groups(min(rows, p.sample)))


def smaller(config: Config, rows: int) -> Config:
    """The configuration for a sample: clusters of four rows at least, codes as long as those of the run."""
    p, fit, most = config.partition, config.fit, max(rows // 4, 2)
    asked = groups(config, rows)
    part: dict[str, Any] = {"candidates": [k for k in p.candidates if k <= most]}
    part["n_clusters"] = p.n_clusters and min(p.n_clusters, most)
    part["fine"] = p.fine and min(p.fine, most)
    if asked > most and p.layers != "auto":
        part["layers"] = []
    update: dict[str, Any] = {"partition": p.model_copy(update=part), "root": "."}
    if isinstance(fit, PaperFit):
        update["fit"] = fit.model_copy(update={"epochs": 1, "warmup_steps": min(fit.warmup_steps, 2)})
    elif fit.dim is None and p.n_clusters:
        update["fit"] = fit.model_copy(update={"dim": max(2 * p.n_clusters, 32)})
    if config.curate and config.curate.size:
        update["curate"] = config.curate.model_copy(update={"size": min(config.curate.size, most)})
    return config.model_copy(update=update)


def sample(config: Config, folder: Path, most: int = VECTORS) -> tuple[Files, int, int]:
    """The first rows of the first shard and the first words: the files of a run of them, and how many they are."""
    files: dict[str, Mapping[str, File]] = dict(inputs(config))
    files["events"] = {"all": File(str(folder / "events.jsonl"), "")}
    words = 0
    if lists := [*files.get("wordlists", {}), *files.get("named", {})]:
        path = folder / "words.txt"
        some = list(islice((w for name in lists for w in _words(name)), WORDS))
        path.write_text("\n".join(some) + "\n", encoding="utf-8")
        words = len(some)
        files |= {"wordlists": {str(path): File(str(path), "")}, "named": {}}
    for name in files.get("vocabulary", {}):
        words += len(read_lines(f"{name}/names.txt"))
    if config.images:
        name, file = next(iter(files["images"].items()))
        part = Part(file.path, IMAGES)
        rows = sum(1 for _ in part.read(config.images.max_bytes))
        return files | {"images": {name: replace(file, path=part)}}, rows, words
    name = next(iter(files["vectors"]))
    X = _rows(files["vectors"][name].path, most)
    np.save(folder / f"{name}.npy", X)
    about = _table(files["metadata"][name].path, len(X))
    pq.write_table(about, folder / f"{name}.parquet")
    new = {"vectors": folder / f"{name}.npy", "metadata": folder / f"{name}.parquet"}
    files |= {kind: {name: File(str(path), kind)} for kind, path in new.items()}
    if "images" in files:
        files["images"] = {name: files["images"][name]}
    return files, len(X), words


def _words(name: str) -> list[str]:
    return word_lists.words(name) if name in word_lists.LISTS else read_lines(name)


def word_count(config: Config) -> int:
    """The words that the vocabulary has, those of captions not counted."""
    if not config.label:
        return 0
    files = inputs(config)
    folders = sum(len(read_lines(f"{name}/names.txt")) for name in files["vocabulary"])
    return folders + sum(len(_words(name)) for name in (*files["wordlists"], *files["named"]))


def _rows(path: str, n: int) -> Any:
    """The first rows of a file of vectors."""
    start, dim, kind = vectors.header(path)
    with filesystem.opened(path) as file:
        file.seek(start)
        raw = file.read(n * dim * kind.itemsize)
    whole = len(raw) // (dim * kind.itemsize)
    return np.frombuffer(raw, kind, whole * dim).reshape(whole, dim)


def _table(path: str, n: int) -> pa.Table:
    """The first rows of a Parquet file."""
    with filesystem.opened(path) as file:
        read, batches, found = pq.ParquetFile(file), list[pa.RecordBatch](), 0
        for batch in read.iter_batches(max(n, 1)):
            batches.append(batch)
            found += len(batch)
            if found >= n:
                break
        return pa.Table.from_batches(batches, read.schema_arrow).slice(0, n)


def _dims(there: Files, config: Config) -> tuple[int, int]:
    """Dimensions of the features that are clustered and of the codes, 0 where they were not made."""
    found = []
    for kind, columns in (("features", config.fit.embeddings), ("codes", ["code"])):
        paths = [file.path for file in there.get(kind, {}).values() if os.path.exists(file.path)]
        schema = tables.read_schema(paths[0]) if paths else None
        found.append(sum(schema.field(column).type.list_size for column in columns) if schema else 0)
    return found[0], found[1]


def _speed(gpu: bool, threads: int) -> float:
    """Multiply-adds a second of one worker."""
    torch.set_num_threads(threads)
    A = torch.randn(MATRIX, MATRIX, device="cuda" if gpu else "cpu")
    took = []
    for _ in range(TIMES):
        start = time.perf_counter()
        (A @ A)[0, 0].item()
        took.append(time.perf_counter() - start)
    return float(MATRIX**3 / min(took))
