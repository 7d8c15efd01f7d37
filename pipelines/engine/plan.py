"""A configuration -> steps, shards and fingerprints: what there is to do, without doing any of it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpp.store.hard_links import hashes
from cpp.store.local import Store
from cpp.store.results import WHOLE, File, Product, fingerprint
from pipelines.config.errors import ConfigError
from pipelines.engine.shard_index import Keys, Made, Names, Paths, aligned, common, digest, text
from pipelines.engine.stage import Stage

Files = Mapping[str, Mapping[str, File]]  # name of a product or source -> shard -> file


@dataclass(frozen=True)
class Task:
    """One shard of one step: what it reads, what it writes, and the fingerprint that its results are keyed by."""

    step: str
    shard: str
    fingerprint: str
    files: Mapping[str, Any]
    outputs: Mapping[str, str]


class Tasks(Sequence[Task]):
    """The tasks of a step, those at the places `at`: each is made when it is asked for."""

    def __init__(self, step: Step, at: NDArray[np.intp]) -> None:
        self._step, self._at = step, at

    def __len__(self) -> int:
        return len(self._at)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return Tasks(self._step, self._at[i])
        s, place = self._step, int(self._at[i])
        shard, key = s.names[place], text(s.fingerprints[place])
        outputs = {name: files.file(place).path for name, files in s.outputs.items()}
        return Task(s.name, shard, key, {kind: files[shard].path for kind, files in s.each.items()}, outputs)


@dataclass(frozen=True)
class Step:
    """One stage of a run over its shards: their names and keys, and which of them have their files.

    `each` are the files that it takes shard by shard, `made` those that it makes of all shards, done or not.
    """

    name: str
    stage: Stage
    names: Names
    fingerprints: Keys
    exists: NDArray[np.bool_]
    each: Files
    outputs: Mapping[str, Made]

    @property
    def tasks(self) -> Tasks:
        return Tasks(self, np.arange(len(self.names)))

    @property
    def todo(self) -> Tasks:
        """The tasks that are not done."""
        return Tasks(self, np.flatnonzero(~self.exists))

    @functools.cached_property
    def done(self) -> Names:
        """The names of the shards whose files are there."""
        return self.names.where(self.exists)

    @property
    def complete(self) -> bool:
        return bool(self.exists.all())

    def results(self) -> dict[str, Made]:
        """The files of the shards that are done, by product and shard."""
        done = self.done
        return {name: Made(done, files.numbers[self.exists], files.path) for name, files in self.outputs.items()}


def plan_step(name: str, stage: Stage, files: Files, store: Store) -> Step:
    """A stage over the files that there are: its shards, and which of them are done."""
    each = {kind: files[kind] for kind in stage.each if files.get(kind)}
    whole = {kind: digest(files[kind]) for kind in stage.whole if files.get(kind)}
    base = fingerprint(name, stage.version, stage.settings(), whole)
    names = common(list(each.values())) if each else Names([WHOLE])
    made_from = [aligned(of, names) for of in each.values()]
    numbers = (
        int(fingerprint(base, shard, dict(zip(each, mine, strict=True))), 16)
        for shard, *mine in zip(names, *made_from, strict=True)
    )
    keys = np.fromiter(numbers, np.uint64, len(names))
    made = {p.name: Made(names, keys, functools.partial(store.path, p)) for p in stage.products}
    there = np.ones(len(names), bool)
    for product in stage.products:
        there &= _there(store, product, made[product.name])
    return Step(name, stage, names, keys, there, each, made)


def _there(store: Store, product: Product, made: Made) -> NDArray[np.bool_]:
    """Which of the files of a product are there."""
    return np.isin(hashes(path.rpartition("/")[2] for path in Paths(made)), hashes(store.listing(product)))


def plan_steps(stages: Mapping[str, Stage], files: Files, store: Store) -> list[Step]:
    """The same from the stages, and the files that they start from."""
    there: dict[str, Mapping[str, File]] = dict(files)
    found = []
    for name, stage in stages.items():
        planned = plan_step(name, stage, there, store)
        found.append(planned)
        there |= planned.outputs
    return found


def upstream(names: list[str], steps: Mapping[str, Stage]) -> list[str]:
    """The named steps and all that they need, in order; all where none is named. ConfigError for an unknown one."""
    for name in names:
        if name not in steps:
            raise ConfigError(f"there is no step {name!r} in this run; its steps are {', '.join(steps)}")
    made_by = {product.name: name for name, stage in steps.items() for product in stage.products}
    needed = set(names or steps)
    for name in reversed(list(steps)):
        if name in needed:
            needed |= {made_by[kind] for kind in (*steps[name].each, *steps[name].whole) if kind in made_by}
    return [name for name in steps if name in needed]
