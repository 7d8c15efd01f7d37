"""The stages that search pairs of near-duplicates: the rows of a shard sorted by cluster, and the pairs of clusters.

Pairs lie within clusters, and clusters extend over all shards. So each shard is sorted by cluster, and each task of the
search reads the rows of some clusters from every shard.
"""

from __future__ import annotations

import hashlib
import tempfile
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
from pipelines.stages.artifacts import FACTS, SHARD_BITS, is_number, numbers, read_tree, shard_number

BUCKET = 1 << 16  # approximate number of rows that a task searches, if there are enough shards
ROW_GROUP = 256  # rows of a sorted shard that are read together
SIZES = ("width", "height")  # metadata columns, which tell the size of an image if they are numbers
LINKED = (*FACTS, "row")  # columns of SIMILAR_ROWS, in which `row` becomes `place`


class Scatter(Stage):
    """Sort the rows of a shard by cluster, with their vectors and the values that decide which duplicate is kept.

    With `neighbours` a row is also a guest of its second cluster.
    """

    version = 1
    products = (Product("scattered"),)
    each = ("features", "assignments", "rejected")
    embeddings: tables.VectorColumns
    neighbours: bool
    similarity: str | None
    bytes: bool

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        X = tables.join_vectors(tables.read(files["features"], columns=list(self.embeddings)), self.embeddings)
        columns, second = self._columns(files)
        columns |= {"vector": tables.matrix_column(X), "row": np.arange(len(X)), "guest": np.zeros(len(X), bool)}
        table = pa.table(columns)
        if self.neighbours:
            guests = pa.table({**columns, "cluster": second, "guest": np.ones(len(X), bool)})
            table = pa.concat_tables([table, guests.filter(pc.greater_equal(second, 0))])
        table = table.sort_by([("cluster", "ascending"), ("guest", "ascending"), ("row", "ascending")])
        tables.write(table, out["scattered"], Counts(len(X), len(X)), row_group_size=ROW_GROUP)
        return Counts(len(X), len(X))

    def _columns(self, files: Inputs) -> tuple[dict[str, Any], pa.ChunkedArray]:
        """Columns of the rows of a shard from ASSIGNMENTS and the images, `cluster` first; and their second clusters.

        ValueError if `similarity` is no column of numbers.
        """
        schema = pq.read_schema(files["assignments"])
        known = all(name in schema.names and is_number(schema.field(name).type) for name in SIZES)  # not of CSV: text
        sizes = SIZES if known else ()
        read = {"cluster", "score", "second", "key", "image_shard", *sizes, self.similarity or "score"}
        table = tables.read(files["assignments"], columns=sorted(read))
        unknown, setting = np.full(len(table), np.nan), "curate.duplicates.similarity"
        pixels = np.prod([numbers(table, name, "width and height") for name in sizes] or [unknown], axis=0)
        bytes_hash = np.zeros(len(table), np.uint64)
        if self.bytes and len(table) and (place := table["image_shard"][0].as_py()) is not None:
            shard = export_rows.Shard(files["assignments"], rejected=files["rejected"], images=place)
            for row, data in export_rows.find(shard, table["key"].to_pylist(), np.arange(len(table))):
                if data is not None:
                    bytes_hash[row] = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest()) or 1
                    pixels[row] = images.pixel_count(data) or np.nan
        columns = {
            "cluster": table["cluster"],
            "score": table["score"].cast(pa.float64()),
            "pixels": pixels,
            "caption": numbers(table, self.similarity, setting) if self.similarity else unknown,
            "bytes_hash": bytes_hash,
        }
        return columns, table["second"]


class Search(Stage):
    """Search pairs of duplicates in some of the clusters. There are as many tasks as shards.

    The vectors of a task are in a temporary file in the scratch folder, not in memory.
    """

    version = 1
    products = (Product("similar_pairs"), Product("similar_rows"))
    each = ("scattered",)
    whole = ("scattered", "moments", "tree")
    lowest: float

    def open(self, context: Context) -> Work:
        with safe_open(context.file("moments"), framework="numpy") as file:
            counts_by_part = file.get_tensor("count")
        tree = read_tree(context)
        cluster = np.repeat(tree.clusters[tree.main], PARTS)
        sizes = np.bincount(cluster, weights=counts_by_part, minlength=tree.main)
        edges = buckets(sizes, len(context.whole["scattered"])).tolist()

        def work(files: Inputs, out: Outputs) -> Counts:
            number = shard_number(files["scattered"], context)
            with tempfile.TemporaryFile(dir=out["similar_pairs"].parent) as scratch:
                rows, facts = _read(context, edges[number], edges[number + 1], scratch)
                pairs = duplicate_pairs.duplicate_forest(rows, self.lowest)
            place = facts["place"].to_numpy()
            ends = {"a": place[pairs.a], "b": place[pairs.b]}
            in_pair = np.unique([pairs.a, pairs.b])
            _, first = np.unique(place[in_pair], return_index=True)  # a row may be both a guest and a member
            members = int((~rows.guest).sum())
            counts = Counts(members, members)
            table = pa.table({**ends, "similarity": pairs.similarity, "kind": pairs.kind})
            tables.write(table, out["similar_pairs"], counts)
            tables.write(facts.take(in_pair[first]), out["similar_rows"], counts)
            return counts

        return work


def buckets(sizes: NDArray[np.number], n: int) -> NDArray[np.int64]:
    """The first cluster of each of `n` tasks, and the number of clusters. A task has consecutive clusters.

    Tasks have about equal numbers of rows. If fewer than `n` tasks suffice for `BUCKET` rows each, the last have none.
    """
    n_filled = int(min(n, max(1, np.ceil(sizes.sum() / BUCKET))))
    before = np.concatenate([[0], np.cumsum(sizes)])
    inner = np.searchsorted(before, before[-1] * np.arange(1, n_filled) / n_filled)
    return np.concatenate([[0], inner, np.full(n + 1 - n_filled, len(sizes))]).astype(np.int64)


def _read(context: Context, low: int, high: int, scratch: IO[bytes]) -> tuple[duplicate_pairs.Rows, pa.Table]:
    """The rows of clusters `low` to `high` - 1 in all shards, with vectors in `scratch`; and a table of `LINKED`."""
    stored = tables.read_schema(context.whole["scattered"][0])
    schema = pa.schema([stored.field(name) for name in ("cluster", "guest", "bytes_hash", *LINKED)])
    where = (pc.field("cluster") >= low) & (pc.field("cluster") < high)
    number_by_digest, vector_id, parts = dict[bytes, int](), list[int](), list[pa.RecordBatch]()
    for number, path in enumerate(context.whole["scattered"] if low < high else ()):
        for batch in tables.batches([path], [*schema.names, "vector"], context.prefetch, where):
            vectors = tables.matrix(batch["vector"])
            scratch.write(vectors.tobytes())
            digests = (hashlib.blake2b(vector, digest_size=16).digest() for vector in vectors)
            vector_id += [number_by_digest.setdefault(digest, len(number_by_digest)) for digest in digests]
            place = pc.add(batch["row"], number << SHARD_BITS)
            parts.append(batch.select(schema.names).set_column(len(schema) - 1, "row", place))
    scratch.flush()
    table = pa.Table.from_batches(parts, schema)
    cluster, guest, bytes_hash = (table[name].to_numpy() for name in schema.names[:3])
    shape = len(table), stored.field("vector").type.list_size
    vector = np.memmap(scratch, np.float16, "r", shape=shape) if len(table) else np.empty(shape, np.float16)
    rows = duplicate_pairs.Rows(cluster, guest, np.array(vector_id, np.int64), bytes_hash, vector)
    return rows, table.select(LINKED).rename_columns({"row": "place"})
