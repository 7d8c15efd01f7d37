"""`plan --estimate`: what is left of a run and what it will take, step by step, in a table and in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from rich.table import Table

from cpp.files import credentials, filesystem, scratch
from cpp.store.connect import open_store
from pipelines.config.errors import ConfigError
from pipelines.config.load import Config
from pipelines.config.sections import PaperFit
from pipelines.engine import machine
from pipelines.engine.event_log import spent_by_step
from pipelines.engine.plan import Step
from pipelines.estimate import cost_model
from pipelines.estimate.calibrate import Calibration, Size, calibrate, groups, word_count
from pipelines.estimate.cost_model import Line, Rates, Todo, duration, size
from pipelines.estimate.count_rows import Manifest, manifest


class Estimate(NamedTuple):
    """Lines of the table, and sentences: what it is from, what it comes to, what does not fit."""

    table: Table
    said: list[str]


def estimated(config: Config, steps: Sequence[Step], sample: bool, price: float | None) -> Estimate:
    """An estimate of the steps. `sample`: with a calibration; `price` of an hour of all machines.

    ConfigError where the inputs cannot be listed.
    """
    todo = {step.name: Todo(len(step.names), len(step.todo), bool(step.stage.each), step.stage.gpu) for step in steps}
    try:
        there = manifest(config)
        words = word_count(config)
    except (ValueError, OSError) as error:
        raise ConfigError(f"the inputs cannot be estimated: {credentials.redacted(str(error))}") from error
    needed = [name for name, step in todo.items() if step.todo]
    tried = calibrate(config, needed) if sample and needed else None
    known = tried if isinstance(tried, Calibration) else None
    log = spent_by_step(open_store(config.root).log("events.jsonl"))
    rates = Rates(known.size, known.config, known.taken, known.speed, log) if known else Rates(log=log)
    full = _full(config, there, words, known)
    found = cost_model.lines(config, full, todo, rates)
    said = [_about(there), *([tried] if isinstance(tried, str) else _tried(config, known)), *_sums(found, price)]
    return Estimate(_table(found, price), [*said, *_misfits(config, full, found)])


def _full(config: Config, there: Manifest, words: int, known: Calibration | None) -> Size:
    found = groups(config, there.rows)
    dim = known.size.dim if known else there.dim or 0
    fit = config.fit
    codes = (
        fit.dim if isinstance(fit, PaperFit) else min(fit.dim or max(2 * (config.partition.n_clusters or 0), 32), dim)
    )
    return Size(there.rows, there.largest, found, words, dim, codes)


def _about(there: Manifest) -> str:
    return f"about {there.rows:,} images in {there.shards:,} shards, the largest of {there.largest:,}, {there.about}"


def _tried(config: Config, known: Calibration | None) -> Iterator[str]:
    """What the calibration was, and what to think of it."""
    if known is None:
        return
    s = known.size
    tried = f"{s.rows:,} rows of the first shard, {s.groups:,} groups and {s.words:,} words"
    yield f"calibrated with {tried}, on the {known.device}"
    if config.resources.gpus and known.device == "cpu":
        yield "the run is to have GPUs and this machine has none: these are the times of CPUs, ask again where GPUs are"
    if known.stopped:
        yield f"the calibration stopped at {known.stopped}; of steps from there on nothing is known"


def _sums(found: Sequence[Line], price: float | None) -> Iterator[str]:
    seconds = cost_model.total(line.seconds for line in found)
    if seconds is None:
        yield "steps without a time have neither been calibrated nor worked on: the sum is not known"
        return
    disk = cost_model.total(line.disk for line in found)
    written = f", {size(disk)} of disk" if disk is not None else ""
    cost = f", {price * seconds / 3600:,.2f} at {price:g} an hour" if price is not None else ""
    yield f"together about {duration(seconds)}{written}{cost}; the start of Ray, some seconds, is not in it"


def _misfits(config: Config, full: Size, found: Sequence[Line]) -> Iterator[str]:
    local = not filesystem.is_remote(config.root)
    folder = config.root if local else str(scratch.folder())
    free, memory = machine.free(folder), machine.memory()
    if local:
        yield from cost_model.misfits(config, full, found, free, memory)
    else:
        yield from _bucket(config, found, free)
        yield from cost_model.misfits(config, full, [replace(line, disk=None) for line in found], free, memory)
    if config.resources.ray_address is None:
        yield from machine.lacking(config.resources)
    peaks = [line.peak for line in found if line.peak]
    if config.resources.ray_address and peaks:
        yield f"a worker needs about {size(max(peaks))}: nodes of the cluster are not looked at"
    if config.resources.gpus:
        yield "memory of GPUs is not estimated: where it does not do, lower resources.batch or resources.image_batch"


def _bucket(config: Config, found: Sequence[Line], free: int) -> Iterator[str]:
    """A bucket has no links: what has a stable name is there twice. What is being written lies on a local disk."""
    disk = sum(line.disk or 0 for line in found)
    yield f"{config.root} will hold about {size(2 * disk)}: results lie there twice, in cache/ and under their names"
    for line in found:
        held = (line.disk or 0) / max(line.shards, 1) * min(config.resources.crew(line.gpu)[0], line.shards)
        if held > free:
            yield (
                f"disk: {line.step} holds about {size(held)} on the local disk before it goes to the bucket, and "
                f"{size(free)} are free in {scratch.folder().parent}: set TMPDIR to a larger disk, or lower "
                f"resources.workers ({config.resources.workers})"
            )


def _table(found: Sequence[Line], price: float | None) -> Table:
    headings = ["step", "rows", "shards", "time", "disk", "memory", *(["cost"] if price is not None else []), "from"]
    table = Table(box=None, header_style="dim", pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("step", "from") else "right", no_wrap=True)
    for line in found:
        if not line.shards:
            table.add_row(line.step, *[""] * (len(headings) - 2), "done")
            continue
        time, disk, peak = (
            "?" if value is None else say(value)
            for value, say in ((line.seconds, duration), (line.disk, size), (line.peak, size))
        )
        cost = [] if price is None else ["?" if line.seconds is None else f"{price * line.seconds / 3600:,.2f}"]
        table.add_row(line.step, f"{line.rows:,}", f"{line.shards:,}", time, disk, peak, *cost, line.source)
    return table
