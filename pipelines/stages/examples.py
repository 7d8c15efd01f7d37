"""The stages that choose what the pages show of a run: members of clusters, their thumbnails, the map."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cpp.files import tables
from cpp.files.tables import Counts
from cpp.report import examples, members, run_page, thumbnails, tsne_map
from cpp.report.thumbnails import Place
from cpp.store.results import Product
from pipelines.engine.stage import Context, Inputs, Outputs, Stage, Work
from pipelines.stages.artifacts import read_tree

MOST_ENLARGED = 10_000  # pictures that the viewer shows larger, for the whole run
CAPTIONS = ("caption", "captions")  # columns of captions; the first with a value is used


class Examples(Stage):
    """ASSIGNMENTS -> the members of each cluster that are shown."""

    version = 1
    products = (Product("examples"),)
    whole = ("assignments", "tree")

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        batches = tables.batches(context.whole["assignments"], examples.COLUMNS, context.prefetch)
        chosen = examples.choose(batches, read_tree(context).main)
        tables.write(chosen, out["examples"])
        return Counts(len(chosen), len(chosen))


class Members(Stage):
    """ASSIGNMENTS -> the members of each cluster that its page lists, with or without a picture."""

    version = 1
    products = (Product("members"),)
    whole = ("assignments", "tree")

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        sizes = np.zeros(read_tree(context).main, np.int64)
        for batch in tables.batches(context.whole["assignments"], ["cluster"], context.prefetch):
            sizes += np.bincount(batch["cluster"].to_numpy(), minlength=len(sizes))
        batches = tables.batches(context.whole["assignments"], members.COLUMNS, context.prefetch)
        chosen = members.choose(batches, sizes)
        tables.write(chosen, out["members"])
        return Counts(len(chosen), len(chosen))


class Map(Stage):
    """A sample of CODES -> points in the plane, with the shard, key and cluster of each."""

    version = 1
    products = (Product("map_sample"),)
    whole = ("codes", "assignments")
    seed: int

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        sample = tsne_map.POINTS, self.seed, context.prefetch
        Z = tables.sample_rows(context.whole["codes"], ["code"], *sample)
        columns = ["key", "image_shard", "cluster"]
        table = pa.Table.from_batches(list(tables.sample_batches(context.whole["assignments"], columns, *sample)))
        x, y = tsne_map.embed(Z, self.seed).T
        tables.write(table.append_column("x", pa.array(x)).append_column("y", pa.array(y)), out["map_sample"])
        return Counts(len(Z), len(Z))


class Thumbnails(Stage):
    """A shard of ASSIGNMENTS and REJECTED -> thumbnails and captions of its images that are shown.

    Images on the map alone, of which the page has small pictures, have large ones too, for notebooks: they are few.
    """

    version = 5
    products = (Product("thumbnails"),)
    each = ("assignments", "rejected")
    whole = ("examples", "map_sample", "members")
    images: bool

    def open(self, context: Context) -> Work:
        shown = tables.read(context.file("examples"))
        n_clusters = len(shown["cluster"].unique())
        side = thumbnails.side(n_clusters, run_page.PAGED)
        on_map = _places(tables.read(context.file("map_sample"), columns=["image_shard", "key"]))
        listed = tables.read(context.file("members"))
        large, small = _places(shown) | on_map, on_map | _places(listed.filter(listed["picture"]))
        enlarged = _first_of_each_cluster(shown, listed.filter(listed["picture"]), MOST_ENLARGED)
        keys = pa.array(sorted({key for _, key in large | small}), pa.string())

        def work(files: Inputs, out: Outputs) -> Counts:
            rows: dict[Place, dict[str, Any]] = {}
            for place, text in _with_captions(files["assignments"], keys):
                if place in large or place in small:
                    rows.setdefault(place, {"caption": thumbnails.caption(text)})
            rejected = _rejected(files["rejected"], _image_shard(files["assignments"]))
            for place, reason in rejected.items():
                rows.setdefault(place, {})["reason"] = reason
            sizes = {
                "enlarged": (thumbnails.ENLARGED, enlarged),
                "large": (side, large | set(rejected)),
                "small": (thumbnails.SMALL, small),
            }
            sides = {place: {name: n for name, (n, shown) in sizes.items() if place in shown} for place in rows}
            pictures = thumbnails.read(sides if self.images else {}, context.threads, rejected)
            complete = [
                {"image_shard": shard if self.images else None, "key": key, **row, **pictures.get((shard, key), {})}
                for (shard, key), row in rows.items()
            ]
            n = pq.read_metadata(files["assignments"]).num_rows
            tables.write(pa.Table.from_pylist(complete, thumbnails.THUMBNAILS), out["thumbnails"], Counts(n, n))
            return Counts(n, n)

        return work


def _places(table: pa.Table) -> set[Place]:
    return set(zip(table["image_shard"].to_pylist(), table["key"].to_pylist(), strict=True))


def _first_of_each_cluster(shown: pa.Table, listed: pa.Table, most: int) -> set[Place]:
    """At most `most` places of EXAMPLES and MEMBERS: the first image of every cluster, then the second, and so on."""
    cluster = listed["cluster"].to_numpy()
    ranks = np.arange(len(cluster)) - np.searchsorted(cluster, cluster)
    ranked = [*zip(shown["rank"].to_pylist(), shown["image_shard"].to_pylist(), shown["key"].to_pylist(), strict=True)]
    ranked += zip(ranks.tolist(), listed["image_shard"].to_pylist(), listed["key"].to_pylist(), strict=True)
    ranked.sort(key=lambda row: (row[0], row[1] or "", row[2]))
    return set(list(dict.fromkeys((shard, key) for _, shard, key in ranked))[:most])


def _image_shard(path: str) -> str | None:
    """The shard with the images of a file of ASSIGNMENTS."""
    first = next(tables.batches([path], ["image_shard"], 1), None)
    return first["image_shard"][0].as_py() if first is not None and len(first) else None


def _with_captions(path: str, keys: pa.Array) -> Iterator[tuple[Place, Any]]:
    """Yield the place and the caption of each row of a file of ASSIGNMENTS with one of the keys."""
    names = pq.read_schema(path).names
    captions = [name for name in CAPTIONS if name in names]
    table = tables.read(path, columns=["image_shard", "key", *captions])
    for row in table.filter(pc.is_in(table["key"], value_set=keys)).to_pylist():
        yield (row["image_shard"], row["key"]), next((row[name] for name in captions if row[name]), None)


def _rejected(path: str, shard: str | None) -> dict[Place, str]:
    """The first rejected images for each reason, with the reason; `shard` has the images."""
    counts, reasons = Counter[str](), dict[Place, str]()
    for row in tables.read(path, columns=["key", "reason"]).to_pylist():
        counts[row["reason"]] += 1
        if counts[row["reason"]] <= thumbnails.REJECTED:
            reasons.setdefault((shard, row["key"]), row["reason"])
    return reasons
