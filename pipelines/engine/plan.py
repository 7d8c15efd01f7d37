"""From a configuration to steps, shards and fingerprints: what remains to be done. Computes no results."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpp.store.local import Store
from cpp.store.results import WHOLE, File, Product, fingerprint
from pipelines.config.errors import ConfigError
from pipelines.engine.shard_index import (
    FilePaths,
    Fingerprints,
    ShardFiles,
    ShardNames,
    common_shards,
    digest,
    fingerprint_text,
    fingerprints,
)
from pipelines.engine.stage import Stage

Files = Mapping[str, Mapping[str, File]]  # name of a product or source -> shard -> file


@dataclass(frozen=True)
class Task:
    """One shard of one step: its input files, its output files and the fingerprint of its results."""

    step: str
    shard: str
    fingerprint: str
    files: Mapping[str, Any]
    outputs: Mapping[str, str]


class Tasks(Sequence[Task]):
    """The tasks of a step for the shards with these indices. Each task is built on access, to save memory."""

    def __init__(self, step: Step, indices: NDArray[np.intp]) -> None:
        self._step, self._indices = step, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, i: Any) -> Any:
        step, index = self._step, int(self._indices[i])
        shard = step.names[index]
        inputs = {kind: files[shard].path for kind, files in step.each.items()}
        outputs = {name: files.file(index).path for name, files in step.outputs.items()}
        outputs |= {name: files[shard].path for name, files in step.also.items() if shard in files}
        return Task(step.name, shard, fingerprint_text(step.fingerprints[index]), inputs, outputs)


@dataclass(frozen=True)
class Step:
    """A stage in a run, with its shards and their fingerprints; `exists` marks the shards whose results exist.

    `each` has the input files that the stage reads shard by shard, `outputs` the files of all shards, finished or not,
    and `also` the files of later steps that it writes too (`with_later`).
    """

    name: str
    stage: Stage
    names: ShardNames
    fingerprints: Fingerprints
    exists: NDArray[np.bool_]
    each: Files
    outputs: Mapping[str, ShardFiles]
    also: Mapping[str, ShardFiles] = field(default_factory=dict)

    @property
    def tasks(self) -> Tasks:
        return Tasks(self, np.arange(len(self.names)))

    @property
    def todo(self) -> Tasks:
        """The tasks without results."""
        return Tasks(self, np.flatnonzero(~self.exists))

    @functools.cached_property
    def done(self) -> ShardNames:
        """The names of the finished shards."""
        return self.names.where(self.exists)

    @property
    def complete(self) -> bool:
        return bool(self.exists.all())

    def results(self) -> dict[str, ShardFiles]:
        """The files of the finished shards, by product and shard."""
        done = self.done
        return {name: ShardFiles(done, files.numbers[self.exists], files.path) for name, files in self.outputs.items()}


def plan_step(name: str, stage: Stage, files: Files, store: Store, again: Collection[str] = ()) -> Step:
    """Plan a stage over existing files: its shards are those that all its `each` inputs have.

    Results of shards that are to be read `again` have another fingerprint, as have later steps that depend on them.
    """
    each = {kind: files[kind] for kind in stage.each if files.get(kind)}
    whole = {kind: digest(files[kind]) for kind in stage.whole if files.get(kind)}
    base = fingerprint(name, stage.version, stage.settings(), whole)
    names = common_shards(each.values()) if each else ShardNames([WHOLE])
    inputs = [fingerprints(shard_files, names) for shard_files in each.values()]
    numbers = (
        int(fingerprint(base, shard, dict(zip(each, marks, strict=True))), 16)
        for shard, *marks in zip(names, *inputs, strict=True)
    )
    prints = np.fromiter(numbers, np.uint64, len(names))
    if stage.reads_again:
        prints = _second_readings(prints, names, stage.products[0], store, again)
    outputs = {p.name: ShardFiles(names, prints, functools.partial(store.path, p)) for p in stage.products}
    exists = np.ones(len(names), bool)
    for product in stage.products:
        exists &= _exist(product, outputs[product.name], store)
    return Step(name, stage, names, prints, exists, each, outputs)


def with_later(planned: Step, stages: Mapping[str, Stage], files: Files, store: Store) -> Step:
    """The step with the files that it writes for later ones among `stages`, whose own tasks are then done."""
    also: dict[str, ShardFiles] = {}
    for name, later in stages.items():
        if {product.name for product in later.products} & {*planned.stage.also}:
            also |= plan_step(name, later, {**files, **planned.outputs}, store).outputs
    return replace(planned, also=also)


def _second_readings(
    prints: Fingerprints, names: ShardNames, product: Product, store: Store, again: Collection[str]
) -> Fingerprints:
    """The fingerprints, with other ones for the shards that were read a second time or are to be read `again`."""
    numbers = (int(fingerprint(fingerprint_text(number), "again"), 16) for number in prints.tolist())
    second = np.fromiter(numbers, np.uint64, len(names))
    were_read = _exist(product, ShardFiles(names, second, functools.partial(store.path, product)), store)
    return np.where(were_read | np.isin(names.raw, ShardNames(again).raw), second, prints)


def _exist(product: Product, files: ShardFiles, store: Store) -> NDArray[np.bool_]:
    """Which files of a product exist."""
    finished = store.listing(product)
    return np.fromiter((path.rpartition("/")[2] in finished for path in FilePaths(files)), bool, len(files))


def upstream(names: Collection[str], steps: Mapping[str, Stage]) -> list[str]:
    """The named steps and those that they depend on, in order; all if no name is given. ConfigError if unknown."""
    for name in names:
        if name not in steps:
            raise ConfigError(f"there is no step {name!r} in this run; its steps are {', '.join(steps)}")
    needed, sources = set(names or steps), makers(steps)
    for name in reversed(list(steps)):
        if name in needed:
            stage = steps[name]
            needed |= {sources[name][kind] for kind in (*stage.each, *stage.whole) if kind in sources[name]}
    return [name for name in steps if name in needed]


def makers(steps: Mapping[str, Stage]) -> dict[str, dict[str, str]]:
    """For each step, the steps that make its inputs, by kind: a step may replace a product of an earlier one."""
    latest, sources = dict[str, str](), dict[str, dict[str, str]]()
    for name, stage in steps.items():
        sources[name] = {kind: latest[kind] for kind in (*stage.each, *stage.whole) if kind in latest}
        latest |= {product.name: name for product in stage.products}
    return sources
