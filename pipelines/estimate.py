"""`plan --estimate`: the remaining time, disk and memory of a run, step by step, as a table and in sentences.

Times come from the run's event log, and from measured rates for steps that the log does not know. Sizes come from the
files that the run has already written, and from the same rates. Inputs are listed and not read: rows of vectors follow
from the sizes of their files, images in tars from the sizes and from a few tars whose number of images is known.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from rich.table import Column, Table

from cpp.files import credentials, filesystem, scratch
from cpp.files.quantities import format_bytes, format_duration
from cpp.sources import vectors
from cpp.sources.formats import tar_stem
from cpp.sources.paths import HTTP
from cpp.sources.table import TableShard
from cpp.sources.tar import TarShard
from cpp.store.local import Store
from cpp.store.object_store import open_store
from pipelines.config.errors import ConfigError
from pipelines.config.load import Config
from pipelines.config.sections import Resources
from pipelines.engine import machine
from pipelines.engine.event_log import StepTotals, totals_by_step
from pipelines.engine.inputs import input_shards
from pipelines.engine.plan import Step
from pipelines.engine.shard_index import FilePaths
from pipelines.engine.stage import WORKER_MEMORY, Stage, worker_memory
from pipelines.stages.fit import ESTIMATE_ROWS
from pipelines.stages.name import MEAN_ROWS

# Rows per second of one worker with one CPU, and bytes written per row. The time of a step that is not listed, or whose
# rate depends on the model and the GPU (None), is unknown until it has worked on a shard. Bytes are unknown
# (None) where they are not proportional to the rows, which is so for pictures on pages.
# One core of an AMD EPYC, 768-d vectors and 200 words, ten million rows (tests/bench/RESULTS.md, "bench-scale"); bytes
# are scaled to 512-d vectors. The steps of curation: 4,114 rows of Caltech-101 on the same machine on 2026-11-27.
RATES: dict[str, tuple[float | None, float | None]] = {
    "encode": (None, 940),
    "import": (12_000, 940),
    "columns": (4_000 * 10_000, 0),  # 4,000 footers of shards of 10,000 rows a second
    "estimate_k": (780, 0),  # one core of a Xeon on 2026-11-27; K 300, 512-d vectors, 42 s for all rows that it sees
    "project": (90_000, 240),
    "measure": (24_000, 0),
    "assign": (25_000, 30),
    "image_mean": (19_000, 0),  # on the same core
    "vote": (28_500, 1330),
    "label": (25 * 10_000, 0),  # 25 shards of 10,000 rows a second
    "labels": (80_000, 15),
    "pictures": (300, 1250),  # of 200 pixels; this and the next two on one core of a Xeon on 2026-11-28
    "cells": (69_000, 0),  # this and the next two by CPU time for 50,000 rows, nearly all of it for reading
    "map_points": (94_000, 14),
    "map_page": (280_000, None),
    "scatter": (9_500, 3500),  # with signatures, and guests of other cells
    "search": (2_700, 40),  # of up to 16,384 rows; with more cells the guests cost more
    "duplicates": (4_500, 100),
    "oddities": (12_500, 20),
    "outliers": (200_000, 21),
    "curate": (150_000, 10),
}
MOST_ROWS = {"estimate_k": ESTIMATE_ROWS, "image_mean": MEAN_ROWS}  # of steps that see a sample of fixed size
SCRATCH = 1.5e9  # bytes of the files that workers copy to TMPDIR, roughly: those of a shard, and those read whole
TARS_COUNTED = 8  # tars, spread evenly over all, whose `_stats.json` gives the number of images


class InputRows(NamedTuple):
    """Shards and rows of the inputs. `source` says how the rows are known."""

    shards: int
    rows: int
    source: str


class Remaining(NamedTuple):
    """What remains of a step: rows, shards, seconds on all workers together, and bytes. None means unknown."""

    step: str
    rows: int
    shards: int
    seconds: float | None
    bytes: float | None
    source: str  # of the seconds: done, log, measured or unknown


def estimate(config: Config, steps: Sequence[Step], price: float | None) -> tuple[Table, list[str]]:
    """Estimate the steps: a table, and sentences on the inputs, the totals and what does not fit.

    `price` is that of one hour of all machines. ConfigError if the inputs cannot be listed.
    """
    try:
        inputs = count_rows(config)
    except (ValueError, OSError) as error:
        raise ConfigError(f"the inputs cannot be counted: {credentials.redacted(str(error))}") from error
    store = open_store(config.root)
    log = totals_by_step(store.log("events.jsonl"))
    remaining = [remain(config, step, inputs.rows, log.get(step.name), store) for step in steps]
    stages = [step.stage for step in steps if step.todo]
    counted = f"about {inputs.rows:,} images in {inputs.shards:,} shards, {inputs.source}"
    sentences = [counted, *_totals(remaining, price), *_misfits(config, inputs.rows, remaining, stages)]
    return _table(remaining, price), sentences


def remain(config: Config, step: Step, n_rows: int, spent: StepTotals | None, store: Store) -> Remaining:
    """Estimate one step of a run over `n_rows` rows; `spent` has its totals in the event log."""
    shards, is_once = len(step.todo), not step.stage.each
    if not shards:
        return Remaining(step.name, 0, 0, 0.0, 0.0, "done")
    most_rows = MOST_ROWS | dict.fromkeys(("map_points", "map_page"), config.report.map_points)
    rows = min(round(n_rows * shards / len(step.names)), most_rows.get(step.name, n_rows))
    workers = 1 if is_once else min(config.resources.workers_for(step.stage.gpu)[0], shards)
    rate, bytes_per_row = RATES.get(step.name, (None, None))
    seconds, source = None, "unknown"
    if spent and spent.shards:
        share = rows / spent.rows if spent.rows else shards / spent.shards
        seconds, source = spent.seconds * (1 if is_once else share / workers), "log"
    elif rate:
        seconds, source = rows / (rate * workers), "measured"
    sizes = [result.size for product in step.stage.products for result in store.results(product).values()]
    size = None if bytes_per_row is None else bytes_per_row * rows
    if sizes and not is_once:  # the mean size of the finished files
        size = sum(sizes) / len(sizes) * len(step.stage.products) * shards
    return Remaining(step.name, rows, shards, seconds, size, source)


def _totals(remaining: Sequence[Remaining], price: float | None) -> Iterator[str]:
    seconds = sum(line.seconds or 0 for line in remaining)
    written = format_bytes(sum(line.bytes or 0 for line in remaining))
    cost = f", {price * seconds / 3600:,.2f} at {price:g} an hour" if price is not None else ""
    duration = format_duration(seconds)
    about = "" if duration.startswith("<") else "about "
    yield f"together {about}{duration}, {written} of disk{cost}, without the start of Ray"
    if unknown := [line.step for line in remaining if line.seconds is None]:
        yield (
            f"not counted, because their time is not known yet: {', '.join(unknown)}. Start the run, interrupt it "
            "after some shards and ask again: finished shards are kept, and the log has their times"
        )
    if unknown := [line.step for line in remaining if line.bytes is None]:
        yield f"not counted, because the size of their files is not known yet: {', '.join(unknown)}"


def _misfits(config: Config, rows: int, remaining: Sequence[Remaining], stages: Collection[Stage]) -> Iterator[str]:
    """Yield a sentence for each thing that does not fit, with the key to change; `stages` have something to do."""
    p, r = config.partition, config.resources
    sample = min(rows, p.sample)
    for key, value in (("n_clusters", p.n_clusters), ("fine", p.fine)):
        if value and value > sample:
            yield f"partition.{key} is {value:,}, but the partition sees {sample:,} rows only: lower it"
    disk = sum(line.bytes or 0 for line in remaining)
    if filesystem.is_remote(config.root):  # a bucket has no hard links, so stable names are copies
        yield f"{config.root} will hold about {format_bytes(2 * disk)}: cache/ and a copy under the stable names"
        if (free := machine.free_bytes(str(scratch.folder()))) < SCRATCH:
            folder = scratch.folder().parent
            yield f"{format_bytes(free)} are free in {folder}, where workers keep files: set TMPDIR to a larger disk"
    elif disk > (free := machine.free_bytes(config.root)):
        largest = max(remaining, key=lambda line: line.bytes or 0)
        yield (
            f"the run will write about {format_bytes(disk)} to {config.root}, where {format_bytes(free)} are free; the "
            f"step {largest.step} writes {format_bytes(largest.bytes or 0)}: free space, or set root to another disk"
        )
    if r.ray_address is None:
        yield from machine.missing_resources(r)
        yield from _missing_memory(r, stages)
    if r.gpus:
        yield "GPU memory is not estimated: if it runs out, lower resources.batch or resources.image_batch"


def _missing_memory(r: Resources, stages: Collection[Stage]) -> Iterator[str]:
    """Yield a sentence if the memory of this machine does not hold the workers of the stages with or without a GPU."""
    installed = machine.memory_bytes()
    for gpu in sorted({stage.on_gpu(r) for stage in stages}):
        workers, memory = r.workers_for(gpu)[0], worker_memory(stages, r, gpu)
        if workers * memory > installed:
            keys = ["cpu_workers" if r.gpus and not gpu else "workers"]
            keys += ["image_batch"] if memory > WORKER_MEMORY else []
            yield (
                f"{workers} workers need about {format_bytes(workers * memory)} of memory and this machine has "
                f"{format_bytes(installed)}: lower "
                + " or ".join(f"resources.{key} ({getattr(r, key) or workers})" for key in keys)
            )


def _table(remaining: Sequence[Remaining], price: float | None) -> Table:
    headings = ["rows", "shards", "time", "disk", *(["cost"] if price is not None else [])]
    numbers = [Column(heading, justify="right", no_wrap=True) for heading in headings]
    table = Table(Column("step", no_wrap=True), *numbers, "from", box=None, header_style="dim", pad_edge=False)
    for line in remaining:
        time = "?" if line.seconds is None else format_duration(line.seconds)
        disk = "?" if line.bytes is None else format_bytes(line.bytes)
        cells = [f"{line.rows:,}", f"{line.shards:,}", time, disk]
        if price is not None:
            cells.append("?" if line.seconds is None else f"{price * line.seconds / 3600:,.2f}")
        table.add_row(line.step, *(cells if line.shards else [""] * len(cells)), line.source)
    return table


def count_rows(config: Config) -> InputRows:
    """Count the inputs. ConfigError if there are none; OSError or ValueError if they cannot be listed."""
    shards: list[Any] = list(FilePaths(input_shards(config)[config.input_kind]))
    if config.import_:
        return _count_vectors(shards)
    if isinstance(shards[0], TarShard):
        return _count_tars(shards)
    rows = sum(s.stop - s.start if isinstance(s, TableShard) else len(s.names) for s in shards)
    return InputRows(len(shards), rows, "as listed")


def _count_vectors(paths: list[str]) -> InputRows:
    sizes = _sizes(paths)
    for path in paths:
        try:
            start, dim, dtype = vectors.read_header(path)
        except (ValueError, OSError):
            continue
        rows = sum(max(sizes[path] - start, 0) // (dim * dtype.itemsize) for path in paths)
        return InputRows(len(paths), rows, "by the sizes of the files of vectors")
    raise ValueError(f"none of the {len(paths)} files of vectors can be read; the first is {paths[0]}")


def _count_tars(tars: list[TarShard]) -> InputRows:
    sizes = _sizes([tar.path for tar in tars])
    selected = [tars[i] for i in np.unique(np.linspace(0, len(tars) - 1, TARS_COUNTED).astype(int))]
    counted = {tar.path: n for tar in selected if (n := _successes(tar.path))}
    source = f"by the _stats.json of {len(counted)} tars and the sizes of all"
    if not counted:  # img2dataset did not write these tars
        first = tars[0]
        counted = {first.path: max(sum(1 for _ in first.pick((), 1 << 26)), 1)}
        source = f"by the headers of {first.path} and the sizes of all tars"
    bytes_per_image = sum(sizes[path] for path in counted) / sum(counted.values())
    rows = sum(counted.get(tar.path, round(sizes[tar.path] / bytes_per_image)) for tar in tars)
    return InputRows(len(tars), rows, source)


def _successes(tar: str) -> int | None:
    """The number of images that img2dataset recorded for a tar; None without its record."""
    try:
        with filesystem.open_file(f"{tar_stem(tar)}_stats.json") as file:
            return int(json.load(file)["successes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _sizes(paths: Sequence[str]) -> dict[str, int]:
    """Bytes of files, by one listing of each of their folders."""
    sizes: dict[str, int] = {}
    for folder in {path.rpartition("/")[0] for path in paths}:
        if folder.startswith(HTTP):  # HTTP cannot list a folder
            urls = [path for path in paths if path.startswith(folder)]
            sizes |= dict(zip(urls, filesystem.connect(folder)[0].sizes(urls), strict=True))
        else:
            sizes |= {entry["name"]: entry.get("size") for entry in filesystem.list_folder(folder)}
    return {path: int(sizes.get(filesystem.connect(path)[1]) or 0) for path in paths}
