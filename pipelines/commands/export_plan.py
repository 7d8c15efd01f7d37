"""Plan an export: check the options against the run, and choose layer, classes, shards and rows. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from cpp.export import rows as export_rows
from cpp.export.classes import classes, renumbered
from cpp.export.dataset import Export
from cpp.export.format import Format
from cpp.export.rows import Filter, Layer, Shard
from cpp.files import tables
from cpp.files.scratch import local_copy
from cpp.files.top_rows import SmallestRows
from cpp.sources.shards import MAX_BYTES
from cpp.sources.tar import TarShard
from cpp.store.local import Store
from cpp.store.results import File, fingerprint
from pipelines.config.errors import UsageError
from pipelines.config.load import Config
from pipelines.engine.plan import Files

TABLES = ("assignments", "labels", "rejected", "drop")  # the files of a shard in the run folder


@dataclass(frozen=True)
class Wanted:
    """The options of the command.

    `to` is the target, by default a folder in the run folder; `layer` is a number of clusters, by default that of the
    main layer; `curated` leaves out the images that the run's curation dropped; with `use_guess` a cluster that is not
    named, only `general` or `unsure`, is exported under its guess.
    """

    format: Format
    to: str | None = None
    layer: int | None = None
    filter: Filter = field(default_factory=Filter)
    links: bool = False
    curated: bool = False
    use_guess: bool = False


def parse_clusters(text: str | None) -> tuple[int, ...] | None:
    """The cluster numbers of `--clusters 3,17`. UsageError if one is not a number."""
    if text is None:
        return None
    try:
        return tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise UsageError(f"--clusters is {text!r}, it must be numbers with commas, such as 3,17") from None


def describe(config: Config, wanted: Wanted, files: Files) -> Export:
    """The export that the options ask for. UsageError names an option that does not fit the run."""
    (clusters,) = files["clusters"].values()
    with local_copy(clusters.path) as path:
        names = ["layer", "main", "cluster", "size", "name", "status", "guess", "guess_confidence"]
        rows = tables.read(path, columns=names).to_pylist()
    main = next(row["layer"] for row in rows if row["main"])
    layers = sorted({row["layer"] for row in rows})
    K = main if wanted.layer is None else wanted.layer
    is_main = bool(main == K)
    if K not in layers:
        raise UsageError(f"--layer is {K}; the layers of this run have {', '.join(map(str, layers))} clusters")
    columns = {layer: "cluster" if layer == main else f"cluster_{layer}" for layer in layers}
    f = wanted.filter
    existing = {row["cluster"] for row in rows if row["layer"] == K}
    if unknown := sorted({*(f.clusters or ())} - existing):
        raise UsageError(f"--clusters names {unknown[0]}; the clusters of this layer are 0 to {max(existing)}")
    if f.min_confidence is not None and "labels" not in files:
        raise UsageError("--min-confidence: this run has no confidences: it needs `label:` in its configuration")
    if f.min_confidence is not None and not is_main:
        raise UsageError(
            f"--min-confidence: confidences are of the layer of {main} clusters, not of {K}: leave one of the two out"
        )
    if wanted.use_guess and config.label is None:
        raise UsageError("--use-guess: this run has no guesses: it needs `label:` in its configuration")
    _check_images(config, wanted)
    return Export(
        wanted.format,
        Layer(columns[K], ("cluster", *(columns[layer] for layer in layers if layer != main)), is_main),
        tuple(classes([row for row in rows if row["layer"] == K], f.clusters, wanted.use_guess)),
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


def inputs(config: Config, wanted: Wanted, files: Files) -> dict[str, Mapping[str, File]]:
    """The files of each shard by kind; its number is part of the names of its images."""
    kinds = [kind for kind in (*TABLES, "images") if kind in files and (kind != "drop" or wanted.curated)]
    return {kind: files[kind] for kind in kinds}


def shard_of(files: Mapping[str, Any]) -> Shard:
    """A shard by its files."""
    images = files.get("images")
    source = images if isinstance(images, TarShard) else getattr(images, "path", images)
    return Shard(files["assignments"], images=source, **{kind: files.get(kind) for kind in TABLES[1:]})


def survey(
    export: Export, inputs: Mapping[str, Mapping[str, File]], store: Store
) -> tuple[Export, dict[str, Mapping[str, File]], int]:
    """Scan the tables of all shards for the clusters that keep a row and the surest rows of each cluster.

    Returns the export with the classes of these clusters, the inputs with the `name` of each shard's files and, with a
    limit per cluster, its `chosen` rows `[n]`, and the number of all rows.
    """
    n = export.filter.per_cluster
    top = SmallestRows(n) if n is not None else None
    clusters, starts = set[int](), [0]
    shards = list(inputs["assignments"])
    for shard in shards:
        with store.local_files({kind: inputs[kind][shard].path for kind in TABLES if kind in inputs}) as files:
            table, rows, _ = export_rows.decide(shard_of(files), export.layer, export.filter, export.classes)
        cluster, score, confidence = (table[name].to_numpy()[rows] for name in ("cluster", "score", "confidence"))
        clusters |= set(np.unique(cluster).tolist())
        if top is not None:
            top.add(-confidence, pa.record_batch({"cluster": cluster, "row": rows + starts[-1]}), -score)
        starts.append(starts[-1] + len(table))
    names = (export.name(shard, number) for number, shard in enumerate(shards))
    more = {"name": {shard: File(name, name) for shard, name in zip(shards, names, strict=True)}}
    if top is not None:
        chosen = np.sort(top.column("row"))
        cuts = np.searchsorted(chosen, starts)
        parts = (chosen[a:b] - start for a, b, start in zip(cuts[:-1], cuts[1:], starts[:-1], strict=True))
        more["chosen"] = {
            shard: File(rows, fingerprint(rows.tolist())) for shard, rows in zip(shards, parts, strict=True)
        }
    return replace(export, classes=renumbered(export.classes, clusters)), {**inputs, **more}, starts[-1]
