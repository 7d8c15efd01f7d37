"""The command `export`: write a finished run as a labelled data set, shard by shard, in this process or on Ray."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cpp.export import dataset
from cpp.export.classes import renumbered
from cpp.export.dataset import Export
from cpp.files import tables
from cpp.files.credentials import check_address
from cpp.files.filesystem import is_remote
from cpp.files.tables import Counts
from cpp.store.bucket_folder import check_writable
from cpp.store.local import Store
from cpp.store.object_store import open_store
from pipelines.commands.export_plan import Wanted, describe, local_tables, shards, survey
from pipelines.commands.parts import together
from pipelines.config.errors import UsageError
from pipelines.config.load import Config
from pipelines.engine.executor import Result, run_in_process
from pipelines.engine.plan import Task
from pipelines.engine.progress import Progress
from pipelines.engine.stage import Context, Inputs, Outputs, Stage, Work

NEEDED = ("assignments", "clusters", "labels")
CURATED = ("keep", "drop")
STEP = "export"


@dataclass
class Summary:
    """The result of an export: `images` written and `left_out` by reason, or the `failed` shards."""

    to: str
    shards: int = 0
    reused: int = 0
    rows: int = 0
    classes: int = 0
    images: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    failed: list[Result] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """The lines that the command prints."""
        for result in self.failed:
            yield f"failed: {result.shard}: {result.error}"
        if self.failed:
            yield f"{len(self.failed):,} of {self.shards:,} shards failed; run the same command again to resume"
            return
        yield f"{self.images:,} of {self.rows:,} images in {self.classes:,} classes: {self.to}"
        for reason, n in self.left_out.items():
            yield f"  left out: {n:,} {reason}"


class Write(Stage):
    """Write one shard of an export. Its files lie in the target folder of the export, so the stage has no products."""

    version = dataset.VERSION
    products = ()
    export: Export
    to: str

    def open(self, context: Context) -> Work:
        folder = self.export.folder(self.to)

        def work(files: Inputs, out: Outputs) -> Counts:
            with local_tables(files["shard"]) as shard:
                n = dataset.write(self.export, shard, files["name"], files["key"], folder, files["chosen"])
            return Counts(n, n)

        return work


def go(config: Config, wanted: Wanted, local: bool = False) -> Summary:
    """Bring an export up to date.

    Raises UsageError, RunStateError, LockedError or PermissionError before anything is written.
    """
    if wanted.curated and config.curate is None:
        raise UsageError("--curated: this run curates nothing: add `curate:` to its configuration, and run it")
    to = _folder(config, wanted)
    fitted, later = together(config, (*NEEDED, *CURATED) if wanted.curated else NEEDED)
    files = dict(fitted.files)
    if not wanted.curated:  # curation is of the images of the run
        files |= {kind: {**files.get(kind, {}), **more} for kind, more in later.items()}
    export, shards_by_name = describe(config, wanted, files), shards(config, files, wanted.curated)
    seen, chosen = survey(export, [shard for shard, _ in shards_by_name.values()])
    export = replace(export, classes=renumbered(export.classes, seen))
    tasks = []
    for i, (name, (shard, made_from)) in enumerate(shards_by_name.items()):
        rows = None if chosen is None else chosen[i]
        shard_name, key = export.name(name, i), export.key(i, made_from, rows)
        tasks.append(Task(STEP, shard_name, key, {"shard": shard, "name": shard_name, "key": key, "chosen": rows}, {}))
    n_rows = sum(tables.read_counts(shard.assignments)[1] for shard, _ in shards_by_name.values())
    summary = Summary(to, len(tasks), rows=n_rows, classes=len(export.classes))
    folder, description = export.folder(to), _description(config, wanted, export)
    store = open_store(config.root)
    with store.lock(), folder.claim(description["format"]):
        done = folder.clean({task.shard: task.fingerprint for task in tasks}, export.finals)
        summary.reused = len(done)
        if todo := [task for task in tasks if task.shard not in done]:
            folder.write_mark({"state": "unfinished", **description})
            summary.failed = _write(config, store, Write(export=export, to=to), todo, len(done), local)
        if not summary.failed:
            counts = dataset.finish(export, folder, [folder.part(task.shard, task.fingerprint) for task in tasks])
            summary.images, summary.left_out = counts["images"], counts["left_out"]
            folder.write_mark({"state": "done", **description, **counts})
    return summary


def _folder(config: Config, wanted: Wanted) -> str:
    """The target folder, as an absolute path or an address. UsageError if it cannot be written."""
    to = wanted.to or f"{config.root.rstrip('/')}/{STEP}/{wanted.format}"
    if not is_remote(to):
        return os.path.abspath(to)
    try:
        check_address(to)
        check_writable(to)
    except ValueError as error:
        raise UsageError(f"--to: {error}") from None
    if wanted.links:
        raise UsageError(f"--links needs a folder of this machine, an object store has none ({to}): take --copies")
    return to


def _description(config: Config, wanted: Wanted, export: Export) -> dict[str, Any]:
    f = wanted.filter
    filters = {
        "clusters": None if f.clusters is None else sorted(f.clusters),
        "min_confidence": f.min_confidence,
        "per_cluster": f.per_cluster,
        "curated": wanted.curated,
    }
    run = {"run": config.name, "root": config.root, "layer": export.layer.column, "classes": len(export.classes)}
    return {"format": str(wanted.format), **run, **filters, "links": wanted.links}


def _write(config: Config, store: Store, stage: Write, tasks: Sequence[Task], reused: int, local: bool) -> list[Result]:
    """Write the shards that are not done. Returns those that failed."""
    keys, failed = {task.shard: task.fingerprint for task in tasks}, list[Result]()
    with Progress(store.root) as progress:
        progress.start_step(STEP, len(tasks), reused)
        try:
            for result in _results(config, stage, tasks, store, local):
                progress.finish_shard(result, keys[result.shard])
                failed += [result] if result.error else []
        finally:
            progress.finish_step()
    return failed


def _results(config: Config, stage: Write, tasks: Sequence[Task], store: Store, local: bool) -> Iterator[Result]:
    r = config.resources
    context = Context.create(stage.whole, {}, r)
    if local:
        yield from run_in_process(stage, context, tasks, store)
        return
    from pipelines.ray_backend.pool import Pool

    only = {"workers": min(r.workers, len(tasks)), "gpus": 0.0, "cpu_workers": None}
    with Pool(store, r.model_copy(update=only)) as pool:
        yield from pool.results(stage, context, tasks)
