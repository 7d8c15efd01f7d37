"""The command `export`: a finished run -> a labelled data set, shard by shard with the runners that a run has."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cpp.export import dataset
from cpp.export import rows as export_rows
from cpp.export.classes import classes, renumbered
from cpp.export.dataset import Export, Format
from cpp.export.filters import Filter
from cpp.export.rows import Layer, Shard
from cpp.files import tables
from cpp.files.credentials import check_address
from cpp.files.filesystem import is_remote
from cpp.files.scratch import local_copy
from cpp.files.tables import Counts
from cpp.files.top_rows import TopRows
from cpp.sources.shards import MAX_BYTES
from cpp.sources.tar import TarShard
from cpp.store.bucket_folder import check_writable
from cpp.store.connect import open_store
from cpp.store.local import Store
from cpp.store.results import File
from pipelines.commands.appended import together
from pipelines.config.errors import UsageError
from pipelines.config.load import Config
from pipelines.engine.executor import Result, run_in_process
from pipelines.engine.plan import Task
from pipelines.engine.progress import Progress
from pipelines.engine.stage import Context, Stage, Work

NEEDED = ("assignments", "clusters", "labels")
CURATED = ("keep", "drop")
STEP = "export"


@dataclass(frozen=True)
class Wanted:
    """What a person asks for. `layer` is a number of clusters, None the main one; `to` None is below the run's root.

    `curated` leaves out what the run's curation dropped.
    """

    format: Format
    to: str | None = None
    layer: int | None = None
    filter: Filter = field(default_factory=Filter)
    links: bool = False
    curated: bool = False


@dataclass
class Summary:
    """How an export went: `images` written and `left_out` by reason where it is complete, else the `failed` shards."""

    to: str
    shards: int = 0
    reused: int = 0
    rows: int = 0
    classes: int = 0
    images: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    failed: list[Result] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """What a person is told."""
        for result in self.failed:
            yield f"failed: {result.shard}: {result.error}"
        if self.failed:
            yield f"{len(self.failed):,} of {self.shards:,} shards failed; run the same command again to go on"
            return
        yield f"{self.images:,} of {self.rows:,} images in {self.classes:,} classes: {self.to}"
        for reason, n in self.left_out.items():
            yield f"  left out: {n:,} {reason}"


@dataclass(frozen=True)
class Write(Stage):
    """A shard of the export -> its files in the folder, which are no products: they lie where a person wants them."""

    version = dataset.VERSION
    products = ()
    each = ()
    whole = ()
    export: Export
    to: str

    def open(self, context: Context) -> Work:
        folder = self.export.folder(self.to)

        def work(files: Mapping[str, Any], out: Mapping[str, Path]) -> Counts:
            with _at_hand(files["shard"]) as shard:
                n = dataset.write(self.export, shard, files["name"], files["key"], folder, files["chosen"])
            return Counts(n, n)

        return work


def numbers(text: str | None) -> frozenset[int] | None:
    """The clusters of `--clusters 3,17`. UsageError where they are no numbers."""
    if text is None:
        return None
    try:
        return frozenset(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--clusters is {text!r}, it must be numbers with commas, such as 3,17") from None


def described(config: Config, wanted: Wanted, files: Mapping[str, Mapping[str, File]]) -> Export:
    """What there is to write. UsageError names the option that does not fit the run."""
    (clusters,) = files["clusters"].values()
    with local_copy(clusters.path) as path:
        rows = tables.read(path, columns=["layer", "main", "cluster", "size", "name"]).to_pylist()
    main = next(row["layer"] for row in rows if row["main"])
    layers = sorted({row["layer"] for row in rows})
    K = main if wanted.layer is None else wanted.layer
    is_main = bool(main == K)
    if K not in layers:
        raise UsageError(f"--layer is {K}; the layers of this run have {', '.join(map(str, layers))} clusters")
    columns = {layer: "cluster" if layer == main else f"cluster_{layer}" for layer in layers}
    f, known = wanted.filter, "labels" in files
    there = {row["cluster"] for row in rows if row["layer"] == K}
    if unknown := sorted((f.clusters or frozenset()) - there):
        raise UsageError(f"--clusters names {unknown[0]}; the clusters of this layer are 0 to {max(there)}")
    if f.min_confidence is not None and not known:
        raise UsageError("--min-confidence: this run has no confidences: it needs `label:` in its configuration")
    if f.min_confidence is not None and not is_main:
        raise UsageError(
            f"--min-confidence: confidences are of the layer of {main} clusters, not of {K}: leave one of the two out"
        )
    _check_images(config, wanted)
    return Export(
        wanted.format,
        Layer(columns[K], ("cluster", *(columns[layer] for layer in layers if layer != main)), is_main),
        tuple(classes([row for row in rows if row["layer"] == K], f.clusters)),
        f,
        wanted.links,
        config.images.max_bytes if config.images else MAX_BYTES,
    )


def _check_images(config: Config, wanted: Wanted) -> None:
    if wanted.format.pictured and config.import_ and config.import_.images is None:
        raise UsageError(
            f"--format {wanted.format} needs images and this run has vectors only: set import.images, or take csv or "
            "parquet"
        )
    if not wanted.links:
        return
    if wanted.format is not Format.IMAGEFOLDER:
        raise UsageError(f"--links is for --format imagefolder, not for {wanted.format}")
    if config.images is None or config.images.format not in ("folder", "coco"):
        raise UsageError("--links needs images that are files of a folder (images.format folder, coco): take --copies")
    if "://" in (folder := config.locate(config.images.path[0])):
        raise UsageError(f"--links needs images on this machine, they are at {folder}: take --copies")


def shards(
    config: Config, files: Mapping[str, Mapping[str, File]], curated: bool = False
) -> dict[str, tuple[Shard, list[str]]]:
    """The shards of a run by name, each with the fingerprints of what it is made from."""
    kinds = ("labels", "rejected", *(["drop"] if curated else []))
    found = {}
    tars = config.images is None or config.images.format == "webdataset"
    for name, assignments in files["assignments"].items():
        made_from = [assignments, *(files[kind][name] for kind in kinds if kind in files)]
        paths = {kind: files[kind][name].path if kind in files else None for kind in (*kinds, "images")}
        source = paths["images"] if isinstance(paths["images"], str | None) else paths["images"].path
        paths["images"] = TarShard(source, "") if source is not None and tars else source
        found[name] = Shard(assignments.path, **paths), [file.fingerprint for file in made_from]
    return found


class Survey(NamedTuple):
    """A look at all rows: `clusters` that have one which passes, and of each shard the surest rows, if asked for."""

    clusters: frozenset[int]
    chosen: list[NDArray[np.int64]] | None


def survey(whole: Export, found: Sequence[Shard]) -> Survey:
    """Which classes an export has, and the rows that are among the surest of their cluster over the whole set."""
    n_clusters, n = 1 + max((c.cluster for c in whole.classes), default=0), whole.wanted.per_cluster
    kept = TopRows(n, n_clusters) if n is not None else None
    clusters, starts = set[int](), [0]
    for shard in found:
        with _at_hand(shard) as local:
            table, passed = export_rows.decide(local, whole.layer, whole.wanted)
        rows = np.flatnonzero(passed.keep)
        cluster, score, confidence = (table[name].to_numpy()[rows] for name in ("cluster", "score", "confidence"))
        clusters |= set(np.unique(cluster).tolist())
        if kept is not None:
            kept.add(rows + starts[-1], cluster, confidence, score)
        starts.append(starts[-1] + len(table))
    if kept is None:
        return Survey(frozenset(clusters), None)
    chosen = kept.rows()
    cuts = np.searchsorted(chosen, starts)
    parts = [chosen[a:b] - start for a, b, start in zip(cuts[:-1], cuts[1:], starts[:-1], strict=True)]
    return Survey(frozenset(clusters), parts)


def go(config: Config, wanted: Wanted, command: Sequence[str], local: bool = False) -> Summary:
    """Bring an export up to date. UsageError, LockedError or PermissionError before anything is written."""
    if wanted.curated and config.curate is None:
        raise UsageError("--curated: this run curates nothing: add `curate:` to its configuration, and run it")
    to = _folder(config, wanted)
    files, later = together(config, (*NEEDED, *CURATED) if wanted.curated else NEEDED, command)
    if not wanted.curated:  # curation is of the images of the run
        files |= {kind: {**files.get(kind, {}), **more} for kind, more in later.items()}
    whole, found = described(config, wanted, files), shards(config, files, wanted.curated)
    seen, chosen = survey(whole, [shard for shard, _ in found.values()])
    whole = replace(whole, classes=renumbered(whole.classes, seen))
    tasks = []
    for i, (name, (shard, made_from)) in enumerate(found.items()):
        mine = None if chosen is None else chosen[i]
        called, key = whole.name(name, i), whole.key(i, made_from, mine)
        tasks.append(Task(STEP, called, key, {"shard": shard, "name": called, "key": key, "chosen": mine}, {}))
    rows = sum(tables.read_counts(shard.assignments)[1] for shard, _ in found.values())
    summary = Summary(to, len(tasks), rows=rows, classes=len(whole.classes))
    folder, about = whole.folder(to), _about(config, wanted, whole)
    store = open_store(config.root)
    with store.lock(), folder.claim(about["format"]):
        done = folder.clean({task.shard: task.fingerprint for task in tasks}, whole.finals)
        summary.reused = len(done)
        if todo := [task for task in tasks if task.shard not in done]:
            folder.say({"state": "unfinished", **about})
            summary.failed = _write(config, store, Write(whole, to), todo, len(done), local)
        if not summary.failed:
            counts = dataset.finish(whole, folder, [folder.part(task.shard, task.fingerprint) for task in tasks])
            summary.images, summary.left_out = counts["images"], counts["left_out"]
            folder.say({"state": "done", **about, **counts})
    return summary


@contextmanager
def _at_hand(shard: Shard) -> Iterator[Shard]:
    """A shard whose tables are on this machine."""
    with ExitStack() as stack:
        paths = {kind: getattr(shard, kind) for kind in ("assignments", "labels", "rejected", "drop")}
        yield replace(shard, **{kind: path and stack.enter_context(local_copy(path)) for kind, path in paths.items()})


def _folder(config: Config, wanted: Wanted) -> str:
    """Where the data set goes. UsageError where nothing can be written there."""
    to = wanted.to or f"{config.root.rstrip('/')}/{STEP}/{wanted.format}"
    if not is_remote(to):
        return os.path.abspath(to)
    try:
        check_address(to)
        check_writable(to)
    except ValueError as error:
        raise UsageError(f"--to: {error}") from None
    if wanted.links:
        raise UsageError(f"--links needs a folder of this machine, there are no links at {to}: take --copies")
    return to


def _about(config: Config, wanted: Wanted, whole: Export) -> dict[str, Any]:
    f = wanted.filter
    filters = {
        "clusters": None if f.clusters is None else sorted(f.clusters),
        "min_confidence": f.min_confidence,
        "per_cluster": f.per_cluster,
        "curated": wanted.curated,
    }
    run = {"run": config.name, "root": config.root, "layer": whole.layer.column, "classes": len(whole.classes)}
    return {"format": str(wanted.format), **run, **filters, "links": wanted.links}


def _write(config: Config, store: Store, stage: Write, tasks: Sequence[Task], reused: int, local: bool) -> list[Result]:
    """Work on the shards that are not done. Returns those that failed."""
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
