"""The command `export`: write a finished run as a labelled data set, shard by shard, in this process or on Ray."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import to_jsonable_python

from cpp.export import dataset
from cpp.export.dataset import Export
from cpp.files.credentials import check_address
from cpp.files.filesystem import is_remote
from cpp.files.tables import Counts
from cpp.store.bucket_folder import check_writable
from cpp.store.local import Store
from cpp.store.object_store import open_store
from pipelines.commands.export_plan import TABLES, Wanted, describe, inputs, shard_of, survey
from pipelines.commands.parts import together
from pipelines.config.errors import UsageError
from pipelines.config.load import Config
from pipelines.engine.executor import TaskResult, run_in_process
from pipelines.engine.plan import Step, plan_step
from pipelines.engine.progress import Progress
from pipelines.engine.shard_index import FilePaths
from pipelines.engine.stage import Context, Inputs, Outputs, Stage

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
    failed: list[TaskResult] = field(default_factory=list)

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
    """Write one shard of an export of the run folder `root` to the folder or address `to`."""

    version = dataset.VERSION
    products = (dataset.LISTS,)
    each = (*TABLES, "images", "chosen", "name")
    export: Export
    root: str
    to: str

    def settings(self) -> dict[str, Any]:
        """Those of the export; a data set may be moved."""
        return {"export": to_jsonable_python(self.export)}

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        with open_store(self.root).local_files(files) as local:
            target, path = self.export.target(self.to), out[dataset.LISTS.name]
            n = dataset.write(self.export, shard_of(local), files["name"], target, path, files.get("chosen"))
        return Counts(n, n)


def go(config: Config, wanted: Wanted, local: bool = False) -> Summary:
    """Bring an export up to date.

    Raises UsageError, RunStateError, LockedError or PermissionError before anything is written.
    """
    if wanted.curated and config.curate is None:
        raise UsageError("--curated: this run curates nothing: add `curate:` to its configuration, and run it")
    to, store = _target(config, wanted), open_store(config.root)
    fitted, later = together(config, (*NEEDED, *CURATED) if wanted.curated else NEEDED)
    files = dict(fitted.files)
    files |= {kind: {**files.get(kind, {}), **more} for kind, more in later.items()}
    export, by_kind, n_rows = survey(describe(config, wanted, files), inputs(config, wanted, files), store)
    target, description = export.target(to), _description(config, wanted, export)
    target.check(wanted.format)
    with store.lock(), target.lock():
        step = plan_step(STEP, Write(export=export, root=config.root, to=to), by_kind, target)
        lists = step.outputs[dataset.LISTS.name]
        done = {name: os.path.basename(lists[name].path) for name in step.done}
        combined = () if step.complete else export.combined
        target.clean({by_kind["name"][name].path for name in done}, set(done.values()), combined)
        summary = Summary(to, len(lists), len(done), n_rows, len(export.classes))
        if not step.complete:
            target.write_mark({"state": "unfinished", **description})
            summary.failed = _write(config, store, target, step, local)
        if not summary.failed:
            summary.images, summary.left_out = dataset.finish(export, target, list(FilePaths(lists)))
            counts = {"images": summary.images, "left_out": summary.left_out}
            target.write_mark({"state": "done", **description, **counts})
    return summary


def _target(config: Config, wanted: Wanted) -> str:
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
    return to.rstrip("/")


def _description(config: Config, wanted: Wanted, export: Export) -> dict[str, Any]:
    """What `export.json` says of the export."""
    return {
        "format": wanted.format,
        "run": config.name,
        "root": config.root,
        "layer": export.layer.column,
        "classes": len(export.classes),
        **vars(wanted.filter),
        "curated": wanted.curated,
        "use_guess": wanted.use_guess,
        "links": wanted.links,
    }


def _write(config: Config, store: Store, target: Store, step: Step, local: bool) -> list[TaskResult]:
    """Write the shards that are not done. Returns those that failed."""
    failed = list[TaskResult]()
    with Progress(store.root) as progress:
        progress.start_step(STEP, len(step.todo), len(step.done))
        for result in _results(config, target, step, local):
            progress.finish_shard(result, step.outputs[dataset.LISTS.name][result.shard].fingerprint)
            failed += [result] if result.error else []
        progress.finish_step()
    return failed


def _results(config: Config, target: Store, step: Step, local: bool) -> Iterator[TaskResult]:
    r = config.resources
    context = Context.create(step.stage.whole, {}, r)
    if local:
        yield from run_in_process(step.stage, context, step.todo, target)
        return
    from pipelines.ray_backend.pool import Pool

    only = {"workers": min(r.workers, len(step.todo)), "gpus": 0.0, "cpu_workers": None}
    with Pool(target, r.model_copy(update=only)) as pool:
        yield from pool.results(step.stage, context, step.todo)
