"""The command `clean`: results that no configuration in use refers to are listed, and removed where that is asked.

A configuration refers to the results that a run of it has or would make, also to those of a run that went on without
shards that failed, and to those of what was appended to it. What stable names show stays as long as one of the
configurations makes such a product: the next run of it shows other results, and then the old ones go.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from operator import attrgetter

import numpy as np

from cpp.files import filesystem
from cpp.store.connect import open_store
from cpp.store.lease import LockedError
from cpp.store.local import Store
from cpp.store.results import File, Product, Result
from pipelines import graph
from pipelines.commands import appended as appending
from pipelines.config.errors import UsageError, UserError
from pipelines.config.load import Config
from pipelines.engine import plan
from pipelines.engine.inputs import input_files
from pipelines.engine.plan import Step
from pipelines.engine.shard_index import Fingerprints
from pipelines.engine.stage import Stage

Files = Mapping[str, Mapping[str, File]]
MADE: tuple[Callable[[Step], Files], ...] = (attrgetter("outputs"), Step.results)  # if all is done; as far as it is


@dataclass
class Folder:
    """A run folder: the keys of the results that configurations refer to, and the products that they make."""

    store: Store
    keys: list[Fingerprints] = field(default_factory=list)
    products: set[str] = field(default_factory=set)

    def refer(
        self, stages: Mapping[str, Stage], files: Files, made: Callable[[Step], Files]
    ) -> dict[str, Mapping[str, File]]:
        """Note what these steps refer to; of those before them each finds what `made` says. Returns all files."""
        there = dict(files)
        for name, stage in stages.items():
            planned = plan.plan_step(name, stage, there, self.store)
            self.keys.append(planned.fingerprints)
            self.products |= planned.outputs.keys()
            there |= made(planned)
        return there


@dataclass(frozen=True)
class Stale:
    """Results of a product that nothing refers to, and their bytes. `gone`: no configuration makes the product."""

    store: Store
    product: Product
    names: list[str]
    size: int
    gone: bool


@dataclass
class Found:
    """What there is to remove, and what stays: results that are shown, files that no step made, folders and why."""

    stale: list[Stale] = field(default_factory=list)
    shown: int = 0
    foreign: list[str] = field(default_factory=list)
    left: set[str] = field(default_factory=set)

    @property
    def size(self) -> int:
        return sum(stale.size for stale in self.stale)

    def lines(self) -> Iterator[str]:
        number = sum(len(stale.names) for stale in self.stale)
        yield f"{number:,} results that no configuration refers to, {_mib(self.size)}"
        for s in self.stale:
            gone = ", with what shows them: no configuration makes them" if s.gone else ""
            yield f"    {s.store.address}/cache/{s.product.name}: {len(s.names):,} results, {_mib(s.size)}{gone}"
        if self.shown:
            yield f"{self.shown:,} more stay until a run has replaced them: they are what the last run shows"
        if self.foreign:
            yield f"{len(self.foreign):,} files stay that no step made, such as {self.foreign[0]}"
        yield from sorted(self.left)


def clean(configs: Sequence[Config], yes: bool) -> Iterator[str]:
    """Look, and with `yes` remove; gives the lines to say. UsageError and LockedError before anything is removed."""
    root = _root(configs)
    run, appended = open_store(root), open_store(f"{root}/{appending.FOLDER}")
    stores = [run, appended] if _is_appended(configs[0]) else [run]
    for store in stores:
        if holder := store.holder():
            raise LockedError(f"a run is writing to {store.address} ({holder}): wait for it, or stop it")
    found = look(configs, run, appended)
    yield from found.lines()
    if not found.stale:
        return
    if not yes:
        yield "nothing was removed: the same command with --yes removes them"
        return
    with ExitStack() as stack:
        for store in stores:
            stack.enter_context(store.lock())
        found = look(configs, run, appended)  # a run may have come in between
        for stale in found.stale:
            if stale.gone:
                stale.store.publish(stale.product, ())
            stale.store.remove(stale.product, stale.names)
    yield f"removed; {_mib(found.size)} are free again"


def look(configs: Sequence[Config], run: Store, appended: Store) -> Found:
    """What no configuration refers to in `run`, and in `appended` what was appended to it."""
    main, more, found = Folder(run), Folder(appended), Found()
    for config in configs:
        files = input_files(config)
        stages = graph.pipeline(config, files)
        for made in MADE:
            there = main.refer(stages, files, made)
            try:
                if batches := appending.recorded(config):
                    new = appending.describe(config, batches, there)
                    for also in MADE:
                        more.refer(new.stages, new.files, also)
            except UserError as error:
                found.left.add(f"{appended.address} is left as it is: {error}")
    products = {product.name: product for stage in Stage.__subclasses__() for product in stage.products}
    for folder in [main] if found.left or not more.keys else [main, more]:
        _sort(folder, {product: _unwanted(folder, product, found) for product in products.values()}, found)
    return found


def _unwanted(folder: Folder, product: Product, found: Found) -> dict[str, Result]:
    """The results of a product that no configuration refers to."""
    pattern = re.compile(rf".+-[0-9a-f]{{16}}{re.escape(product.suffix)}")
    results = folder.store.results(product)
    ours = [name for name in sorted(results) if pattern.fullmatch(name)]
    foreign = sorted(results.keys() - set(ours))
    found.foreign += [f"{folder.store.address}/cache/{product.name}/{name}" for name in foreign]
    keys = np.fromiter((int(_key(product, name), 16) for name in ours), np.uint64, len(ours))
    wanted = np.isin(keys, np.concatenate(folder.keys))
    return {name: results[name] for name, is_wanted in zip(ours, wanted, strict=True) if not is_wanted}


def _sort(folder: Folder, unwanted: Mapping[Product, Mapping[str, Result]], found: Found) -> None:
    """Tell what is to go from what stable names show. All files of a task stay where one does: they have one key."""
    shown = {
        _key(product, name)
        for product, results in unwanted.items()
        if product.name in folder.products
        for name, result in results.items()
        if result.shown
    }
    for product, results in unwanted.items():
        gone = product.name not in folder.products
        names = [name for name in results if gone or _key(product, name) not in shown]
        found.shown += len(results) - len(names)
        if names:
            found.stale.append(Stale(folder.store, product, names, sum(results[n].size for n in names), gone))


def _key(product: Product, name: str) -> str:
    return name.removesuffix(product.suffix)[-16:]


def _root(configs: Sequence[Config]) -> str:
    """The run folder that all configurations have."""
    roots = {c.root.rstrip("/") if filesystem.is_remote(c.root) else os.path.abspath(c.root): c.name for c in configs}
    if len(roots) > 1:
        said = ", ".join(f"{root} ({name})" for root, name in roots.items())
        raise UsageError(f"root: these configurations have different folders, {said}: clean one folder at a time")
    return next(iter(roots))


def _is_appended(config: Config) -> bool:
    try:
        return bool(appending.recorded(config))
    except UserError:  # `look` says so
        return False


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
