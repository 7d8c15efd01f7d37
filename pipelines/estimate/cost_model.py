"""What a run will take of time, disk and memory: sums over steps, from what a sample took. Nothing is measured here.

Time is what the sample took, times how much more there is of what it grows by, plus the products of matrices that grow
faster than that, at the speed of the machine. All of it is about: a step is a line, and its constants are the sample's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cpp.clustering.choose_k import PARTS
from cpp.report.tsne_map import POINTS
from pipelines.config.load import Config
from pipelines.config.sections import PaperFit
from pipelines.engine.event_log import Spent
from pipelines.estimate.calibrate import Size, Taken

Grows = Callable[[Size, Config], float]

SHOWN = 20  # pictures of a cluster on the page, about
ITERATIONS = 25  # of k-means, about; every one compares all rows of the sample with all groups
EXACT = 16_384  # groups that are all compared with a row; of more about so many are, see cpp.nearest


@dataclass(frozen=True)
class Todo:
    """Of a step: how many shards it has, how many are to do; whether it has any, needs a GPU."""

    shards: int
    todo: int
    each: bool
    gpu: bool


@dataclass(frozen=True)
class Line:
    """What is left of a step. `seconds` on all workers together, `source` of them; None where nothing is known.

    `disk` and `peak` in bytes; `peak` of one worker.
    """

    step: str
    rows: int
    shards: int
    each: bool
    gpu: bool
    seconds: float | None
    source: str
    disk: float | None
    peak: float | None


def _rows(s: Size, c: Config) -> float:
    return s.rows


def _groups(s: Size, c: Config) -> float:
    return s.groups


def _constant(s: Size, c: Config) -> float:
    return 1


def _none(s: Size, c: Config) -> float:
    return 0


def _shard(s: Size, c: Config) -> float:
    """A shard's features and codes, as they are read and as they are worked on."""
    return s.largest * (s.dim + s.codes) * 6


@dataclass(frozen=True)
class Work:
    """What a step grows by: its time and its disk in proportion, multiply-adds and bytes of memory beyond that."""

    time: Grows = _rows
    disk: Grows = _rows
    adds: Grows = _none
    memory: Grows = _none


def _trained(s: Size, c: Config) -> float:
    return min(s.rows, c.fit.max_samples)


def _steps(s: Size, c: Config) -> float:
    """Rows of the discriminant; of the paper's training steps times the square of their batch."""
    if not isinstance(c.fit, PaperFit):
        return _trained(s, c)
    batch = min(c.fit.batch, _trained(s, c))
    return (c.fit.warmup_steps + c.fit.epochs * (_trained(s, c) // batch)) * batch**2


def _neighbours(s: Size, c: Config) -> float:
    if isinstance(c.fit, PaperFit):
        return 0
    return _trained(s, c) ** 2 * (s.dim + (c.fit.rounds - 1) * s.codes)


def _drawn(s: Size, c: Config) -> float:
    return min(s.rows, c.partition.sample)


def _seen(s: Size, c: Config) -> float:
    """Pairs of rows that Ward's and spectral clustering see."""
    return min(_drawn(s, c), max(c.partition.landmarks, s.groups)) ** 2


def _directions(s: Size, c: Config) -> float:
    return min(c.partition.directions or s.codes, s.codes)


def _moments(s: Size, c: Config) -> float:
    return 8 * PARTS * s.groups * _directions(s, c) ** 2


def _among(s: Size, c: Config) -> float:
    """Images among which an odd one's neighbours are looked for."""
    return min(s.rows, c.curate.outliers.sample) if c.curate and c.curate.outliers else 0


def _pictures(s: Size, c: Config) -> float:
    return min(s.rows, POINTS + SHOWN * s.groups)


WORK: Mapping[str, Work] = {
    "fit": Work(_steps, _constant, _neighbours, lambda s, c: _trained(s, c) * s.dim * 14),
    "partition": Work(
        _seen,
        lambda s, c: s.groups * s.codes,
        lambda s, c: _drawn(s, c) * (ITERATIONS * s.groups * s.codes + _drawn(s, c) * _directions(s, c)),
        lambda s, c: 12 * _drawn(s, c) * (s.dim + s.codes) + 8 * _seen(s, c),
    ),
    "measure": Work(_rows, _moments, lambda s, c: s.rows * min(s.groups, EXACT) * s.codes, _moments),
    "layers": Work(_groups, _groups, memory=lambda s, c: 2 * _moments(s, c)),
    "assign": Work(adds=lambda s, c: s.rows * min(s.groups, EXACT) * s.codes),
    "vote": Work(
        adds=lambda s, c: s.rows * s.words * s.dim, memory=lambda s, c: 4 * s.words * (s.dim + c.resources.batch)
    ),
    "label": Work(_groups, _groups),
    "words": Work(lambda s, c: s.words, lambda s, c: s.words),
    "search": Work(adds=lambda s, c: s.rows**2 / s.groups * s.codes),
    "oddities": Work(adds=lambda s, c: s.rows * _among(s, c) * s.dim),
    "examples": Work(_rows, _groups),
    "map": Work(lambda s, c: min(s.rows, POINTS), lambda s, c: min(s.rows, POINTS)),
    "thumbnails": Work(_pictures, _pictures),
    "report": Work(_groups, _pictures),
    "plots": Work(_groups, _constant),
    **{page: Work(_rows, _constant) for page in ("duplicates_page", "outliers_page", "balance_page", "evaluate")},
}  # by step; of others all is in proportion to the rows


@dataclass(frozen=True)
class Rates:
    """What a sample of `size` took by step, `speed` in multiply-adds a second, and what the log says was taken."""

    size: Size | None = None
    config: Config | None = None
    taken: Mapping[str, Taken] = field(default_factory=dict)
    speed: float = math.inf
    log: Mapping[str, Spent] = field(default_factory=dict)


def lines(config: Config, full: Size, steps: Mapping[str, Todo], rates: Rates) -> list[Line]:
    """What is left of every step."""
    return [_line(name, todo, full, config, rates) for name, todo in steps.items()]


def _line(name: str, step: Todo, full: Size, config: Config, rates: Rates) -> Line:
    share = step.todo / max(step.shards, 1)
    rows = round(full.rows * share)
    about = name, rows, step.todo, step.each, step.gpu
    if not step.todo:
        return Line(*about, 0.0, "done", 0.0, 0.0)
    workers = min(config.resources.crew(step.gpu)[0], step.todo)
    taken, work = rates.taken.get(name), WORK.get(name, Work())
    seconds, source, disk, peak = None, "", None, None
    if taken and rates.size and rates.config:
        times = work.time(full, config) / max(work.time(rates.size, rates.config), 1)
        more = work.adds(full, config) - times * work.adds(rates.size, rates.config)
        threads = 1 if step.each else config.resources.crew(step.gpu)[0]
        worked = taken.seconds * times + max(more, 0) / (rates.speed * threads)
        seconds, source = taken.opening + worked * share / workers, "sample"
        disk = taken.bytes * share * work.disk(full, config) / max(work.disk(rates.size, rates.config), 1)
        grown = [work.memory(*of) + step.each * _shard(*of) for of in ((full, config), (rates.size, rates.config))]
        peak = taken.peak + max(grown[0] - grown[1], 0)
    spent = rates.log.get(name)
    if spent and spent.shards:
        opening = taken.opening if taken else 0.0
        per_row = spent.seconds / spent.rows * rows if spent.rows else spent.seconds / spent.shards * step.todo
        seconds, source = opening + (per_row / workers if step.each else spent.seconds), "log"
    return Line(*about, seconds, source, disk, peak)


def total(values: Iterator[float | None]) -> float | None:
    """The sum, None where one of them is not known."""
    known = list(values)
    return None if None in known else sum(value for value in known if value is not None)


def misfits(config: Config, full: Size, found: Sequence[Line], free: int, memory: int) -> Iterator[str]:
    """Sentences about what does not fit, each with what to change. `free` and `memory` are bytes of this machine."""
    yield from _too_few(config, full)
    written = [line for line in found if line.disk]
    disk = sum(line.disk or 0 for line in written)
    if disk > free:
        most = max(written, key=lambda line: line.disk or 0)
        yield (
            f"disk: about {size(disk)} will be written to {config.root} and {size(free)} are free there; most of it, "
            f"{size(most.disk or 0)}, by {most.step}: make room, or set root to a larger disk"
        )
    if config.resources.ray_address is None:
        yield from _too_large(config, [line for line in found if line.peak], memory)


def _too_few(c: Config, full: Size) -> Iterator[str]:
    drawn = min(full.rows, c.partition.sample)
    for key, asked in (("n_clusters", c.partition.n_clusters), ("fine", c.partition.fine)):
        if asked and asked > drawn:
            where = "there are about" if drawn == full.rows else "partition.sample draws"
            change = "" if drawn == full.rows else f", or raise partition.sample ({c.partition.sample:,})"
            yield f"rows: partition.{key} is {asked:,} and {where} {drawn:,} rows: lower it{change}"


REMEDIES = {"fit": "fit.max_samples", "partition": "partition.landmarks or partition.sample", "vote": "resources.batch"}


def _too_large(c: Config, found: Sequence[Line], memory: int) -> Iterator[str]:
    idle = min((line.peak or 0 for line in found), default=0)  # what a worker has that waits
    for line in found:
        peak, crew = line.peak or 0, c.resources.crew(line.gpu)[0]
        busy = min(crew, line.shards) if line.each else 1
        needed = busy * peak + (crew - busy) * idle
        if needed <= memory:
            continue
        key = "workers" if line.gpu or not c.resources.cpu_workers else "cpu_workers"
        fewer = max(int((memory - (0 if line.each else peak)) // (peak if line.each else max(idle, 1))), 0)
        fits = fewer + (not line.each)
        change = f"set resources.{key} to {fits}" if 0 < fits < crew else ""
        other = REMEDIES.get(line.step, "images.shard_size, or take smaller shards" if line.each and not change else "")
        change = " or ".join(filter(None, [change, f"lower {other}" if other else ""])) or "take a larger machine"
        yield (
            f"memory: {line.step} needs about {size(needed)}, {busy} workers of {size(peak)} at a time, and this "
            f"machine has {size(memory)}: {change}"
        )


def size(n: float) -> str:
    """Bytes in words: 1.5 GB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n < 999.5 or unit == "TB":
            break
        n /= 1000
    return f"{n:.3g} {unit}" if unit != "B" else f"{n:.0f} B"


def duration(seconds: float) -> str:
    """Seconds in words: 4 s, 3 min, 2 h 05 min, 3 days 4 h."""
    minutes = round(seconds / 60)
    if seconds < 99.5:
        return f"{seconds:.0f} s" if seconds >= 1 else "< 1 s"
    if minutes < 100:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60:02d} min" if hours < 48 else f"{hours // 24} days {hours % 24} h"
