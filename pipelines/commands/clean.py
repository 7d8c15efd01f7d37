"""The command `clean`: list the results that no configuration in use refers to and, on request, remove them.

A configuration refers to the results that its run has or would compute, with or without failed shards, and to those of
its appended shards. A result under a stable name stays while a configuration has a step for its product; once a run has
replaced it, `clean` removes it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from cpp.files import filesystem
from cpp.files.quantities import format_bytes
from cpp.store.lease import LockedError
from cpp.store.local import Store
from cpp.store.object_store import open_store
from cpp.store.results import Product, Result
from pipelines import graph
from pipelines.commands import parts
from pipelines.config.errors import UsageError, UserError
from pipelines.config.load import Config
from pipelines.engine.plan import Step
from pipelines.engine.shard_index import Fingerprints
from pipelines.engine.stage import Stage


@dataclass
class Folder:
    """A run folder: the fingerprints that configurations refer to, and the products that their steps write."""

    store: Store
    fingerprints: list[Fingerprints] = field(default_factory=list)
    products: set[str] = field(default_factory=set)

    def refer(self, steps: Iterable[Step]) -> None:
        """Add the fingerprints and products of steps."""
        for step in steps:
            self.fingerprints.append(step.fingerprints)
            self.products |= step.outputs.keys()


class Stale(NamedTuple):
    """Results of a product that no configuration refers to. `size` in bytes; `gone` if no step writes the product."""

    store: Store
    product: Product
    names: Sequence[str]
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
    def size(self) -> str:
        return format_bytes(sum(stale.size for stale in self.stale))

    def lines(self) -> Iterator[str]:
        yield f"{sum(len(s.names) for s in self.stale):,} results that no configuration refers to, {self.size}"
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
    run, appended = open_store(root), open_store(f"{root}/{parts.FOLDER}")
    stores = [run, appended] if appended.log(parts.RECORD).exists() else [run]
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
    yield f"removed; {survey.size} are free again"


def look(configs: Sequence[Config], run: Store, appended: Store) -> Survey:
    """The results that no configuration refers to, in `run` and in the folder of its `appended` shards."""
    main, more, survey = Folder(run), Folder(appended), Survey()
    for fitted in map(graph.fitted, configs):
        for finished in (False, True):  # the results of all shards, and those without failed shards
            steps, part = fitted.plan(finished=finished)
            main.refer(steps)
            try:
                later = parts.appended(part)
            except UserError as error:
                survey.left.add(f"{appended.address} is left as it is: {error}")
                continue
            if later:
                more.refer(later.plan()[0])
                more.refer(later.plan(finished=True)[0])
    for folder in [main] if survey.left or not more.fingerprints else [main, more]:
        _sort(folder, survey)
    return survey


def _sort(folder: Folder, survey: Survey) -> None:
    """Add the results of a folder to the survey.

    A result under a stable name stays with all results of the same task, which share a fingerprint.
    """
    products = {product.name: product for stage in Stage.__subclasses__() for product in stage.products}
    used, shown = np.concatenate(folder.fingerprints), set[str]()
    unused: dict[str, list[tuple[str, str, Result]]] = {}  # by product: file, fingerprint, result
    for name, product in products.items():
        results, unused[name] = folder.store.results(product), []
        pattern = re.compile(rf".+-([0-9a-f]{{16}}){re.escape(product.suffix)}")
        matches = {file: pattern.fullmatch(file) for file in sorted(results)}
        survey.foreign += [f"{folder.store.address}/cache/{name}/{f}" for f, match in matches.items() if not match]
        fingerprints = {file: match[1] for file, match in matches.items() if match}
        numbers = np.fromiter((int(text, 16) for text in fingerprints.values()), np.uint64, len(fingerprints))
        for (file, text), is_used in zip(fingerprints.items(), np.isin(numbers, used), strict=True):
            if not is_used:
                unused[name].append((file, text, results[file]))
        if name in folder.products:
            shown |= {text for _, text, result in unused[name] if result.shown}
    for name, entries in unused.items():
        gone = name not in folder.products
        removed = [(file, result.size) for file, text, result in entries if gone or text not in shown]
        survey.shown += len(entries) - len(removed)
        if removed:
            files, sizes = zip(*removed, strict=True)
            survey.stale.append(Stale(folder.store, products[name], files, sum(sizes), gone))


def _root(configs: Sequence[Config]) -> str:
    """The run folder, which all configurations must share."""
    roots = {c.root.rstrip("/") if filesystem.is_remote(c.root) else os.path.abspath(c.root): c.name for c in configs}
    if len(roots) > 1:
        folders = ", ".join(f"{root} ({name})" for root, name in roots.items())
        raise UsageError(f"root: these configurations have different folders, {folders}: clean one folder at a time")
    return next(iter(roots))
