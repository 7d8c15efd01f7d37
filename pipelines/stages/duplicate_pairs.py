"""The stages that find pairs of near-duplicates: rows of a shard by cluster, and the pairs of some clusters.

Pairs lie within clusters, and clusters over all shards. So a shard is sorted by cluster, and each task after that takes
some clusters from every shard: it reads their part of the files and no other.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors import safe_open

from cpp.clustering.partition import PARTS
from cpp.curation import duplicate_pairs
from cpp.encoding import images
from cpp.export import rows as export_rows
from cpp.files import tables
from cpp.files.tables import Counts
from cpp.store.results import Product
from pipelines.engine.stage import Context, Inputs, Outputs, Stage, Work
from pipelines.stages.artifacts import FACTS, SHARD_BITS, read_tree, shard_number

BUCKET = 1 << 16  # rows that are searched by one task, about, where there are shards enough
LYING = 256  # rows that lie together in a sorted shard


class Scatter(Stage):
    """A shard of FEATURES and ASSIGNMENTS -> its rows by cluster, with hashes and what the kept one is chosen by."""

    version = 1
    products = (Product("scattered"),)
    each = ("features", "assignments", "rejected")
    embeddings: list[str]
    neighbours: bool
    similarity: str | None
    bytes: bool

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        X = tables.join_vectors(tables.read(files["features"], columns=self.embeddings), self.embeddings)
        known, second = _known(files, self.similarity, self.bytes)
        known |= {"vector_hash": pa.array(duplicate_pairs.hash_vectors(X)), "vector": tables.matrix_column(X)}
        table = pa.table({**known, "row": np.arange(len(X)), "guest": pa.repeat(False, len(X))})
        if self.neighbours:
            guests = table.filter(pa.array(second >= 0))
            guests = guests.set_column(0, "cluster", pa.array(second[second >= 0]))
            as_guests = pa.repeat(True, len(guests))
            table = pa.concat_tables([table, guests.set_column(len(guests.schema) - 1, "guest", as_guests)])
        table = table.sort_by([("cluster", "ascending"), ("guest", "ascending"), ("row", "ascending")])
        tables.write(table, out["scattered"], Counts(len(X), len(X)), row_group_size=LYING)
        return Counts(len(X), len(X))


def _known(files: Mapping[str, str], similarity: str | None, read: bool) -> tuple[dict[str, pa.Array], NDArray[Any]]:
    """What ASSIGNMENTS and the images say of the rows of a shard, `cluster` first; and their second clusters."""
    names = pq.read_schema(files["assignments"]).names
    if similarity is not None and similarity not in names:
        raise ValueError(
            f"curate.duplicates.similarity names {similarity!r}, the metadata has {', '.join(names)}: take one of these"
        )
    sizes = ["width", "height"] if {"width", "height"} <= set(names) else []
    wanted = ["cluster", "score", "second", "key", "image_shard", *sizes, *([similarity] if similarity else [])]
    table = tables.read(files["assignments"], columns=list(dict.fromkeys(wanted)))
    pixels = np.prod([_numbers(table, name) for name in sizes], axis=0) if sizes else np.full(len(table), np.nan)
    bytes_hash = np.zeros(len(table), np.uint64)
    if read and len(table) and (place := table["image_shard"][0].as_py()) is not None:
        shard = export_rows.Shard(files["assignments"], rejected=files["rejected"], images=place)
        for row, data in export_rows.find(shard, table["key"].to_pylist(), np.arange(len(table))):
            if data is not None:
                bytes_hash[row] = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest()) or 1
                pixels[row] = images.pixel_count(data) or np.nan
    known = {
        "cluster": table["cluster"],
        "score": _numbers(table, "score"),
        "pixels": pixels,
        "caption": _numbers(table, similarity) if similarity else np.full(len(table), np.nan),
        "bytes_hash": bytes_hash,
    }
    return {name: pa.array(array) for name, array in known.items()}, table["second"].to_numpy()


def _numbers(table: pa.Table, name: str) -> NDArray[np.float64]:
    """A column of numbers, NaN for null. ValueError for a column of anything else."""
    if not (pa.types.is_integer(table[name].type) or pa.types.is_floating(table[name].type)):
        raise ValueError(f"the column {name!r} of the metadata has {table[name].type}, not numbers")
    return np.asarray(table[name].cast(pa.float64()).to_numpy(), np.float64)


class Search(Stage):
    """Rows by cluster -> the pairs of some clusters, as many tasks as there are shards, and the rows that are in one.

    The vectors of a task are in a file of the scratch folder meanwhile.
    """

    version = 1
    products = (Product("similar_pairs"), Product("similar_rows"))
    each = ("scattered",)
    whole = ("scattered", "moments", "tree")
    lowest: float

    def open(self, context: Context) -> Work:
        with safe_open(context.file("moments"), framework="numpy") as file:
            parts = file.get_tensor("count")
        tree = read_tree(context)
        of_part = np.repeat(tree.clusters[tree.main], PARTS)
        edges = buckets(np.bincount(of_part, weights=parts, minlength=tree.main), len(context.whole["scattered"]))

        def work(files: Inputs, out: Outputs) -> Counts:
            number = shard_number(files["scattered"], context)
            with tempfile.TemporaryFile(dir=out["similar_pairs"].parent) as scratch:
                rows, known = _read(context, int(edges[number]), int(edges[number + 1]), scratch)
                pairs = duplicate_pairs.duplicate_forest(rows, self.lowest)
                del rows
            place = known["place"]
            ends = {"a": place[pairs.a], "b": place[pairs.b]}
            members = int((~known.pop("guest")).sum())
            some = np.unique(np.concatenate([pairs.a, pairs.b]))
            _, once = np.unique(place[some], return_index=True)  # a guest may be a member as well
            linked = {name: array[some[once]] for name, array in known.items()}
            counts = Counts(members, members)
            tables.write(
                pa.table({**ends, "similarity": pairs.similarity, "kind": pairs.kind}), out["similar_pairs"], counts
            )
            tables.write(pa.table(linked), out["similar_rows"], counts)
            return counts

        return work


def buckets(sizes: NDArray[np.number], n: int) -> NDArray[np.int64]:
    """The first cluster of each of `n` tasks and of none: some consecutive clusters of about as many rows each.

    Fewer tasks have any where there are few rows.
    """
    many = int(min(n, max(1, np.ceil(sizes.sum() / BUCKET))))
    before = np.concatenate([[0], np.cumsum(sizes)])
    inner = np.searchsorted(before, before[-1] * np.arange(1, many) / many)
    return np.concatenate([[0], inner, np.full(n + 1 - many, len(sizes))]).astype(np.int64)


def _read(
    context: Context, low: int, high: int, scratch: IO[bytes]
) -> tuple[duplicate_pairs.Rows, dict[str, NDArray[Any]]]:
    """The rows of clusters `low` to `high` - 1 in all shards: vectors in a file, what is known of them in memory."""
    scalars = ("cluster", "guest", "row", "vector_hash", "bytes_hash", *FACTS)
    where = (pc.field("cluster") >= low) & (pc.field("cluster") < high)
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in (*scalars, "place")}
    dim = tables.read_schema(context.whole["scattered"][0]).field("vector").type.list_size
    for number, path in enumerate(context.whole["scattered"] if low < high else ()):
        for batch in tables.batches([path], [*scalars, "vector"], context.prefetch, where):
            scratch.write(tables.matrix(batch["vector"]).tobytes())
            for name in scalars:
                parts[name].append(batch[name].to_numpy(zero_copy_only=False))
            parts["place"].append(parts["row"][-1] + (number << SHARD_BITS))
    scratch.flush()
    kinds: dict[str, Any] = {"cluster": np.int32, "guest": np.bool_, "vector_hash": np.uint64, "bytes_hash": np.uint64}
    kinds |= {"row": np.int64, "place": np.int64}
    columns = {name: np.concatenate([np.empty(0, kinds.get(name)), *some]) for name, some in parts.items()}
    n = len(columns["place"])
    vector = np.memmap(scratch, np.float16, "r", shape=(n, dim)) if n else np.empty((0, dim), np.float16)
    hashes = columns.pop("vector_hash"), columns.pop("bytes_hash")
    columns.pop("row")
    return duplicate_pairs.Rows(columns.pop("cluster"), columns["guest"], *hashes, vector), columns
