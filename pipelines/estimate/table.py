"""`plan --estimate`: the remaining time, disk and memory of a run, step by step, as a table and in sentences.

Times come from the run's event log, and from `pipelines.estimate.rates` for steps that the log does not know. Sizes
come from the files that the run has already written, and from the same rates. Nothing is computed for the estimate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.table import Table

from cpp.files import credentials, filesystem, scratch
from cpp.files.quantities import format_bytes, format_duration
from cpp.store.local import Store
from cpp.store.object_store import open_store
from pipelines.config.errors import ConfigError
from pipelines.config.load import Config
from pipelines.engine import machine
from pipelines.engine.event_log import StepTotals, totals_by_step
from pipelines.engine.plan import Step
from pipelines.estimate.count_rows import count_rows
from pipelines.estimate.rates import RATES, WORKER_MEMORY, Rate

UNKNOWN = Rate(None, None)


class Remaining(NamedTuple):
    """What remains of a step: rows, shards, seconds on all workers together, and bytes. None means unknown."""

    step: str
    rows: int
    shards: int
    seconds: float | None
    bytes: float | None
    source: str  # of the seconds: done, log, measured or unknown


class Estimate(NamedTuple):
    """The table, and sentences: the inputs, the totals, and what does not fit."""

    table: Table
    sentences: list[str]


def estimate(config: Config, steps: Sequence[Step], price: float | None) -> Estimate:
    """Estimate the steps. `price` is that of one hour of all machines. ConfigError if the inputs cannot be listed."""
    try:
        inputs = count_rows(config)
    except (ValueError, OSError) as error:
        raise ConfigError(f"the inputs cannot be counted: {credentials.redacted(str(error))}") from error
    store = open_store(config.root)
    log = totals_by_step(store.log("events.jsonl"))
    remaining = [remain(config, step, inputs.rows, log.get(step.name), store) for step in steps]
    counted = f"about {inputs.rows:,} images in {inputs.shards:,} shards, {inputs.source}"
    sentences = [counted, *_totals(remaining, price), *_misfits(config, inputs.rows, remaining)]
    return Estimate(_table(remaining, price), sentences)


def remain(config: Config, step: Step, n_rows: int, spent: StepTotals | None, store: Store) -> Remaining:
    """Estimate one step of a run over `n_rows` rows; `spent` has its totals in the event log."""
    shards = len(step.todo)
    rows = round(n_rows * shards / max(len(step.names), 1))
    if not shards:
        return Remaining(step.name, 0, 0, 0.0, 0.0, "done")
    rate = RATES.get(step.name, UNKNOWN)
    workers = min(config.resources.workers_for(step.stage.gpu)[0], shards) if step.stage.each else 1
    seconds, source = None, "unknown"
    if spent and spent.shards:
        per_row = spent.seconds / spent.rows * rows if spent.rows else spent.seconds / spent.shards * shards
        seconds, source = per_row / workers if step.stage.each else spent.seconds, "log"
    elif rate.rows_per_second:
        seconds, source = rows / (rate.rows_per_second * workers), "measured"
    return Remaining(step.name, rows, shards, seconds, _bytes(step, rows, shards, rate, store), source)


def _bytes(step: Step, rows: int, shards: int, rate: Rate, store: Store) -> float | None:
    """Bytes that remain to be written: the mean size of the finished files, or the measured bytes per row."""
    sizes = [result.size for product in step.stage.products for result in store.results(product).values()]
    if sizes and step.stage.each:
        return sum(sizes) / len(sizes) * len(step.stage.products) * shards
    return None if rate.bytes_per_row is None else rate.bytes_per_row * rows


def _totals(remaining: Sequence[Remaining], price: float | None) -> Iterator[str]:
    seconds = sum(line.seconds or 0 for line in remaining)
    written = format_bytes(sum(line.bytes or 0 for line in remaining))
    cost = f", {price * seconds / 3600:,.2f} at {price:g} an hour" if price is not None else ""
    yield f"together about {format_duration(seconds)}, {written} of disk{cost}, without the start of Ray"
    if unknown := [line.step for line in remaining if line.seconds is None]:
        yield (
            f"not counted, because their time is not known yet: {', '.join(unknown)}. Start the run, interrupt it "
            "after some shards and ask again: finished shards are kept, and the log has their times"
        )


def _misfits(config: Config, rows: int, remaining: Sequence[Remaining]) -> Iterator[str]:
    """Yield a sentence for each thing that does not fit, with the key to change."""
    p, r = config.partition, config.resources
    sample = min(rows, p.sample)
    for key, value in (("n_clusters", p.n_clusters), ("fine", p.fine)):
        if value and value > sample:
            yield f"partition.{key} is {value:,}, but the partition sees {sample:,} rows only: lower it"
    remote = filesystem.is_remote(config.root)
    disk = sum(line.bytes or 0 for line in remaining)
    if remote:  # a bucket has no hard links, so stable names are copies
        yield f"{config.root} will hold about {format_bytes(2 * disk)}: cache/ and a copy under the stable names"
    elif disk > (free := machine.free_bytes(config.root)):
        largest = max(remaining, key=lambda line: line.bytes or 0)
        yield (
            f"the run will write about {format_bytes(disk)} to {config.root}, where {format_bytes(free)} are free; the "
            f"step {largest.step} writes {format_bytes(largest.bytes or 0)}: free space, or set root to another disk"
        )
    if remote and (free := machine.free_bytes(str(scratch.folder()))) < WORKER_MEMORY:
        folder = scratch.folder().parent
        yield f"{format_bytes(free)} are free in {folder}, where workers keep files: set TMPDIR to a larger disk"
    if r.ray_address is None:
        yield from machine.missing_resources(r)
        if (needed := r.workers_for(False)[0] * WORKER_MEMORY) > machine.memory_bytes():
            yield (
                f"{r.workers_for(False)[0]} workers need about {format_bytes(needed)} of memory and this machine has "
                f"{format_bytes(machine.memory_bytes())}: lower resources.workers ({r.workers})"
            )
    if r.gpus:
        yield "GPU memory is not estimated: if it runs out, lower resources.batch or resources.image_batch"


def _table(remaining: Sequence[Remaining], price: float | None) -> Table:
    headings = ["step", "rows", "shards", "time", "disk", *(["cost"] if price is not None else []), "from"]
    table = Table(box=None, header_style="dim", pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("step", "from") else "right", no_wrap=True)
    for line in remaining:
        if not line.shards:
            table.add_row(line.step, *[""] * (len(headings) - 2), "done")
            continue
        time = "?" if line.seconds is None else format_duration(line.seconds)
        disk = "?" if line.bytes is None else format_bytes(line.bytes)
        cost = [] if price is None else ["?" if line.seconds is None else f"{price * line.seconds / 3600:,.2f}"]
        table.add_row(line.step, f"{line.rows:,}", f"{line.shards:,}", time, disk, *cost, line.source)
    return table
