"""The command `clean`: list the results that no configuration in use refers to and, on request, remove them.

A configuration refers to the results that its run has or would compute, with or without failed shards, and to those of
its appended shards. A result under a stable name stays while a configuration has a step for its product; once a run has
replaced it, `clean` removes it.
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
from cpp.files.quantities import format_bytes
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
RESULTS: tuple[Callable[[Step], Files], ...] = (attrgetter("outputs"), Step.results)  # of all shards; of those done


@dataclass
class Folder:
    """A run folder: the fingerprints that configurations refer to, and the products that their steps write."""

    store: Store
    fingerprints: list[Fingerprints] = field(default_factory=list)
    products: set[str] = field(default_factory=set)

    def refer(
        self, stages: Mapping[str, Stage], files: Files, results: Callable[[Step], Files]
    ) -> dict[str, Mapping[str, File]]:
        """Add the fingerprints of these steps, with the `results` of each as inputs of the next. Returns all files."""
        available = dict(files)
        for name, stage in stages.items():
            step = plan.plan_step(name, stage, available, self.store)
            self.fingerprints.append(step.fingerprints)
            self.products |= step.outputs.keys()
            available |= results(step)
        return available


@dataclass(frozen=True)
class Stale:
    """Results of a product that no configuration refers to. `size` in bytes; `gone` if no step writes the product."""

    store: Store
    product: Product
    names: list[str]
    size: int
    gone: bool


@dataclass
class Survey:
    """Results to remove, and what stays: results under stable names, foreign files, and folders with the reason."""

    stale: list[Stale] = field(default_factory=list)
    shown: int = 0
    foreign: list[str] = field(default_factory=list)
    left: set[str] = field(default_factory=set)

    @property
    def size(self) -> int:
        return sum(stale.size for stale in self.stale)

    def lines(self) -> Iterator[str]:
        number = sum(len(stale.names) for stale in self.stale)
        yield f"{number:,} results that no configuration refers to, {format_bytes(self.size)}"
        for s in self.stale:
            gone = ", with their stable names: no configuration has a step for them" if s.gone else ""
            folder = f"{s.store.address}/cache/{s.product.name}"
            yield f"    {folder}: {len(s.names):,} results, {format_bytes(s.size)}{gone}"
        if self.shown:
            yield f"{self.shown:,} more stay until a run replaces them: the last run shows them under stable names"
        if self.foreign:
            yield f"{len(self.foreign):,} files stay that no step wrote, such as {self.foreign[0]}"
        yield from sorted(self.left)


def clean(configs: Sequence[Config], yes: bool) -> Iterator[str]:
    """List stale results and, with `yes`, remove them. Yields lines to print.

    Raises UsageError or LockedError before anything is removed.
    """
    root = _root(configs)
    run, appended = open_store(root), open_store(f"{root}/{appending.FOLDER}")
    stores = [run, appended] if _is_appended(configs[0]) else [run]
    for store in stores:
        if holder := store.holder():
            raise LockedError(f"a run is writing to {store.address} ({holder}): wait for it, or stop it")
    survey = look(configs, run, appended)
    yield from survey.lines()
    if not survey.stale:
        return
    if not yes:
        yield "nothing was removed: the same command with --yes removes them"
        return
    with ExitStack() as stack:
        for store in stores:
            stack.enter_context(store.lock())
        survey = look(configs, run, appended)  # a run may have finished since
        for stale in survey.stale:
            if stale.gone:
                stale.store.publish(stale.product, ())
            stale.store.remove(stale.product, stale.names)
    yield f"removed; {format_bytes(survey.size)} are free again"


def look(configs: Sequence[Config], run: Store, appended: Store) -> Survey:
    """The results that no configuration refers to, in `run` and in the folder of its `appended` shards."""
    main, more, survey = Folder(run), Folder(appended), Survey()
    for config in configs:
        files = input_files(config)
        stages = graph.pipeline(config, files)
        for results in RESULTS:
            available = main.refer(stages, files, results)
            try:
                if batches := appending.recorded(config):
                    new = appending.describe(config, batches, available)
                    for appended_results in RESULTS:
                        more.refer(new.stages, new.files, appended_results)
            except UserError as error:
                survey.left.add(f"{appended.address} is left as it is: {error}")
    products = {product.name: product for stage in Stage.__subclasses__() for product in stage.products}
    for folder in [main] if survey.left or not more.fingerprints else [main, more]:
        _sort(folder, {product: _unused(folder, product, survey) for product in products.values()}, survey)
    return survey


def _unused(folder: Folder, product: Product, survey: Survey) -> dict[str, Result]:
    """The results of a product that no configuration refers to."""
    pattern = re.compile(rf".+-[0-9a-f]{{16}}{re.escape(product.suffix)}")
    results = folder.store.results(product)
    ours = [name for name in sorted(results) if pattern.fullmatch(name)]
    foreign = sorted(results.keys() - set(ours))
    survey.foreign += [f"{folder.store.address}/cache/{product.name}/{name}" for name in foreign]
    fingerprints = np.fromiter((int(_fingerprint(product, name), 16) for name in ours), np.uint64, len(ours))
    is_used = np.isin(fingerprints, np.concatenate(folder.fingerprints))
    return {name: results[name] for name, used in zip(ours, is_used, strict=True) if not used}


def _sort(folder: Folder, unused: Mapping[Product, Mapping[str, Result]], survey: Survey) -> None:
    """Keep results under stable names, with all results of the same task, which share a fingerprint."""
    shown = {
        _fingerprint(product, name)
        for product, results in unused.items()
        if product.name in folder.products
        for name, result in results.items()
        if result.shown
    }
    for product, results in unused.items():
        gone = product.name not in folder.products
        names = [name for name in results if gone or _fingerprint(product, name) not in shown]
        survey.shown += len(results) - len(names)
        if names:
            survey.stale.append(Stale(folder.store, product, names, sum(results[n].size for n in names), gone))


def _fingerprint(product: Product, name: str) -> str:
    return name.removesuffix(product.suffix)[-16:]


def _root(configs: Sequence[Config]) -> str:
    """The run folder, which all configurations must share."""
    roots = {c.root.rstrip("/") if filesystem.is_remote(c.root) else os.path.abspath(c.root): c.name for c in configs}
    if len(roots) > 1:
        folders = ", ".join(f"{root} ({name})" for root, name in roots.items())
        raise UsageError(f"root: these configurations have different folders, {folders}: clean one folder at a time")
    return next(iter(roots))


def _is_appended(config: Config) -> bool:
    try:
        return bool(appending.recorded(config))
    except UserError:  # `look` reports it
        return False
