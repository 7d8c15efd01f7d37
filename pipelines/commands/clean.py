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
from cpp.store.results import Product, StoredResult
from pipelines import graph
from pipelines.commands import parts
from pipelines.config.errors import UsageError, UserError
from pipelines.config.load import Config
from pipelines.engine.plan import Step
from pipelines.engine.shard_index import Fingerprints
from pipelines.engine.stage import all_products

CACHES = {"text": "the vectors of words", "chat": "the replies of the namer"}  # folders beside those of products


class Stale(NamedTuple):
    """Results of a product that no configuration refers to. `size` in bytes; `gone` if no step writes the product."""

    product: Product
    names: Sequence[str]
    size: int
    gone: bool


@dataclass
class Folder:
    """A run folder: the fingerprints that configurations refer to, and the products that their steps write.

    `sort` adds the results to remove, and what stays: the number of results under stable names, and foreign files.
    """

    store: Store
    fingerprints: list[Fingerprints] = field(default_factory=list)
    products: set[str] = field(default_factory=set)
    stale: list[Stale] = field(default_factory=list)
    shown: int = 0
    foreign: list[str] = field(default_factory=list)

    def refer(self, steps: Iterable[Step]) -> None:
        """Add the fingerprints and products of steps."""
        for step in steps:
            self.fingerprints.append(step.fingerprints)
            self.products |= step.outputs.keys()

    def sort(self) -> None:
        """List the results. One under a stable name stays with all of the same task, which share a fingerprint."""
        products = all_products()
        used, shown = np.concatenate(self.fingerprints), set[str]()
        unused: dict[Product, list[tuple[str, str, StoredResult]]] = {}  # file, fingerprint, result
        for product in products.values():
            results, unused[product] = self.store.results(product), []
            pattern = re.compile(rf".+-([0-9a-f]{{16}}){re.escape(product.suffix)}")
            matches = {file: pattern.fullmatch(file) for file in sorted(results)}
            self.foreign += [f"{self.store.address}/cache/{product.name}/{f}" for f, m in matches.items() if not m]
            fingerprints = {file: match[1] for file, match in matches.items() if match}
            numbers = np.fromiter((int(text, 16) for text in fingerprints.values()), np.uint64, len(fingerprints))
            for (file, text), is_used in zip(fingerprints.items(), np.isin(numbers, used), strict=True):
                if not is_used:
                    unused[product].append((file, text, results[file]))
            if product.name in self.products:
                shown |= {text for _, text, result in unused[product] if result.shown}
        for product, entries in unused.items():
            gone = product.name not in self.products
            removed = [(file, result.size) for file, text, result in entries if gone or text not in shown]
            self.shown += len(entries) - len(removed)
            if removed:
                files, sizes = zip(*removed, strict=True)
                self.stale.append(Stale(product, files, sum(sizes), gone))


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
    folders, unread = look(configs, run, appended)
    yield from _lines(folders)
    yield from sorted(unread)
    if not any(folder.stale for folder in folders):
        return
    if not yes:
        yield "nothing was removed: the same command with --yes removes them"
        return
    with ExitStack() as stack:
        for store in stores:
            stack.enter_context(store.lock())
        folders, _ = look(configs, run, appended)  # a run may have finished since
        for folder in folders:
            for stale in folder.stale:
                if stale.gone:
                    folder.store.publish(stale.product, ())
                folder.store.remove(stale.product, stale.names)
    yield f"removed; {_size(folders)} are free again"


def look(configs: Sequence[Config], run: Store, appended: Store) -> tuple[list[Folder], set[str]]:
    """The run folder, and that of the appended shards unless it stays as it is, for the reasons that are returned."""
    main, more, unread = Folder(run), Folder(appended), set[str]()
    for fitted in map(graph.fitted, configs):
        for finished in (False, True):  # the results of all shards, and those without failed shards
            steps, part = fitted.plan(finished=finished)
            main.refer(steps)
            try:
                later = parts.appended(part)
            except UserError as error:
                unread.add(f"{appended.address} is left as it is: {error}")
                continue
            if later:
                more.refer(later.plan()[0])
                more.refer(later.plan(finished=True)[0])
    folders = [main] if unread or not more.fingerprints else [main, more]
    for folder in folders:
        folder.sort()
    return folders, unread


def _lines(folders: Sequence[Folder]) -> Iterator[str]:
    number = sum(len(stale.names) for folder in folders for stale in folder.stale)
    yield f"{number:,} results that no configuration refers to, {_size(folders)}"
    for folder in folders:
        for product, names, size, gone in folder.stale:
            end = ", with their stable names: no configuration has a step for them" if gone else ""
            where = f"{folder.store.address}/cache/{product.name}"
            yield f"    {where}: {len(names):,} results, {format_bytes(size)}{end}"
    if shown := sum(folder.shown for folder in folders):
        yield f"{shown:,} more stay until a run replaces them: the last run shows them under stable names"
    for folder in folders:
        yield from _kept_caches(folder.store)
    if foreign := [path for folder in folders for path in folder.foreign]:
        yield f"{len(foreign):,} files stay that no step wrote, such as {foreign[0]}"


def _kept_caches(store: Store) -> Iterator[str]:
    """A line on each cache that saves work in later runs; no fingerprint tells whether an entry will be used again."""
    for name, content in CACHES.items():
        folder = store.root / "cache" / name
        files = [path for path in folder.rglob("*") if path.is_file()]
        if files:
            size = format_bytes(sum(path.stat().st_size for path in files))
            yield (
                f"{store.address}/cache/{name} ({size}) stays: {content}, which later runs use "
                "again; remove the folder if you do not need them"
            )


def _size(folders: Sequence[Folder]) -> str:
    return format_bytes(sum(stale.size for folder in folders for stale in folder.stale))


def _root(configs: Sequence[Config]) -> str:
    """The run folder, which all configurations must share."""
    roots = {c.root.rstrip("/") if filesystem.is_remote(c.root) else os.path.abspath(c.root): c.name for c in configs}
    if len(roots) > 1:
        folders = ", ".join(f"{root} ({name})" for root, name in roots.items())
        raise UsageError(f"root: these configurations have different folders, {folders}: clean one folder at a time")
    return next(iter(roots))
