"""The stages that choose what of a run is shown: members of clusters, their thumbnails, the map."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cpp.files import tables
from cpp.files.tables import Counts
from cpp.report import examples, run_page, thumbnails, tsne_map
from cpp.store.results import Product
from pipelines.engine.stage import Context, Stage, Work
from pipelines.stages.artifacts import read_tree

CAPTIONS = ("caption", "captions")  # columns of text that stand beside an image, the first that is there


@dataclass(frozen=True, kw_only=True)
class Examples(Stage):
    """ASSIGNMENTS -> which members of each cluster are shown."""

    version = 1
    products = (Product("examples"),)
    each = ()
    whole = ("assignments", "tree")

    def open(self, context: Context) -> Work:
        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            batches = tables.batches(context.whole["assignments"], examples.COLUMNS, context.prefetch)
            found = examples.choose(batches, read_tree(context).main)
            tables.write(found, out["examples"])
            return Counts(len(found), len(found))

        return work


@dataclass(frozen=True, kw_only=True)
class Map(Stage):
    """A sample of CODES -> its points in the plane, with shard, key and cluster of each."""

    version = 1
    products = (Product("map"),)
    each = ()
    whole = ("codes", "assignments")
    seed: int

    def open(self, context: Context) -> Work:
        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            drawn = tsne_map.POINTS, self.seed, context.prefetch
            Z = tables.sample_rows(context.whole["codes"], ["code"], *drawn)
            about = tables.sample_batches(context.whole["assignments"], ["key", "image_shard", "cluster"], *drawn)
            table = pa.Table.from_batches(list(about))
            x, y = tsne_map.embed(Z, self.seed).T
            tables.write(table.append_column("x", pa.array(x)).append_column("y", pa.array(y)), out["map"])
            return Counts(len(Z), len(Z))

        return work


@dataclass(frozen=True, kw_only=True)
class Thumbnails(Stage):
    """A shard of ASSIGNMENTS and REJECTED -> pictures and captions of those of its images that are shown."""

    version = 1
    products = (Product("thumbnails"),)
    each = ("assignments", "rejected")
    whole = ("examples", "map")
    images: bool

    def open(self, context: Context) -> Work:
        shown = tables.read(context.file("examples"))
        n_clusters = len(shown["cluster"].unique())
        side = thumbnails.side(n_clusters, run_page.PAGED)
        large = _places(shown)
        typical = _places(shown.filter(pc.equal(shown["kind"], "typical"))) if n_clusters > run_page.PAGED else set()
        small = typical | _places(tables.read(context.file("map"), columns=["image_shard", "key"]))
        keys = pa.array(sorted({key for _, key in large | small}), pa.string())

        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            wanted: dict[str | None, list[thumbnails.Wanted]] = {}
            for shard, key, said in _with_captions(files["assignments"], keys):
                sizes = (shard, key) in large, (shard, key) in small
                if any(sizes):
                    wanted.setdefault(shard, []).append(thumbnails.Wanted(key, *sizes, thumbnails.caption(said)))
            wanted.setdefault(_image_shard(files["assignments"]), []).extend(_rejected(files["rejected"]))
            parts = [
                thumbnails.make(shard if self.images else None, some, side, context.threads)
                for shard, some in wanted.items()
            ]
            rows = pq.read_metadata(files["assignments"]).num_rows
            tables.write(pa.concat_tables(parts), out["thumbnails"], Counts(rows, rows))
            return Counts(rows, rows)

        return work


def _places(table: pa.Table) -> set[tuple[str | None, str]]:
    return set(zip(table["image_shard"].to_pylist(), table["key"].to_pylist(), strict=True))


def _image_shard(path: str) -> str | None:
    """Where the images of a file of ASSIGNMENTS are."""
    first = next(tables.batches([path], ["image_shard"], 1), None)
    return first["image_shard"][0].as_py() if first is not None and len(first) else None


def _with_captions(path: str, keys: pa.Array) -> list[tuple[str | None, str, Any]]:
    """Shard, key and caption of the rows of a file of ASSIGNMENTS that have one of the keys."""
    names = pq.read_schema(path).names
    caption = next((name for name in CAPTIONS if name in names), None)
    table = tables.read(path, columns=["image_shard", "key", *([caption] if caption else [])])
    table = table.filter(pc.is_in(table["key"], value_set=keys))
    said = table[caption].to_pylist() if caption else [None] * len(table)
    return list(zip(table["image_shard"].to_pylist(), table["key"].to_pylist(), said, strict=True))


def _rejected(path: str) -> list[thumbnails.Wanted]:
    """The first rejected images of a shard for each reason."""
    counted, found = Counter[str](), []
    for row in tables.read(path, columns=["key", "reason"]).to_pylist():
        counted[row["reason"]] += 1
        if counted[row["reason"]] <= thumbnails.REASONS:
            found.append(thumbnails.Wanted(row["key"], True, False, reason=row["reason"]))
    return found
