"""The stages that search pairs of near-duplicates: cells of the vectors, rows sorted by cell, pairs in cells.

Pairs lie within cells, which extend over all shards. So each shard is sorted by cell, and each task of the search reads
the rows of some cells from every shard. Cells do not depend on the clusters.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from cpp.curation import cells, duplicate_pairs
from cpp.encoding import signature
from cpp.files import tables
from cpp.files.tables import Counts
from cpp.store.results import Product
from pipelines.engine.stage import Context, Inputs, Outputs, Stage, Work
from pipelines.stages.artifacts import FACTS, SHARD_BITS, all_files, is_number, numbers

BUCKET = 1 << 16  # approximate number of rows that a task searches, if there are enough shards
ROW_GROUP = 256  # rows of a sorted shard that are read together
SIZES = ("width", "height")  # metadata columns, which tell the size of an image if they are numbers
PICTURE = ("bytes_hash", "signature")  # columns of PICTURES that are compared
CHECKED = 1 << 14  # pairs whose signatures are in memory at a time
IMAGE = ("key", "image_shard")
LINKED = (*FACTS, *IMAGE, "row")  # columns of SIMILAR_ROWS, in which `row` becomes `place`


class Cells(Stage):
    """Cells of the vectors, by k-means on a sample, and the share of the sample in each, guests included."""

    version = 2
    products = (Product("cells", ".safetensors"),)
    whole = ("features",)
    embeddings: tables.VectorColumns
    threshold: float
    seed: int

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        rows = sum(tables.read_footer(path).num_rows for path in context.whole["features"])
        n = max(-(-rows // cells.ROWS) * cells.SAMPLE, cells.SAMPLE)
        sample = tables.sample_rows(context.whole["features"], self.embeddings, n, self.seed, context.prefetch)
        centroids = cells.train_centroids(sample, rows, self.seed)
        assigned = cells.assign_cells(sample, centroids, self.threshold)
        both = np.concatenate([assigned.home, assigned.guest_cell])
        share = np.bincount(both, minlength=len(centroids)) / len(sample)
        save_file({"centroids": centroids, "rows": share * rows}, out["cells"])
        guests = len(assigned.guest_cell) / len(sample)
        print(f"cells: {len(centroids):,}; a row is near the borders of {guests:.1f} others on average", flush=True)
        return Counts(rows, rows)


class Scatter(Stage):
    """Sort the rows of a shard by cell, with what is compared and what decides which duplicate is kept.

    A row is a guest of every cell to whose border it is near, so that no pair from `threshold` on is missed.
    """

    version = 3
    products = (Product("scattered"),)
    each = ("features", "assignments", "pictures", "caption_match")
    whole = ("cells",)
    embeddings: tables.VectorColumns
    threshold: float
    pictures: bool

    def open(self, context: Context) -> Work:
        centroids = load_file(context.file("cells"))["centroids"]

        def work(files: Inputs, out: Outputs) -> Counts:
            X = tables.join_vectors(tables.read(files["features"], columns=list(self.embeddings)), self.embeddings)
            assigned = cells.assign_cells(X, centroids, self.threshold)
            rows = {"vector": tables.matrix_column(X), "row": np.arange(len(X)), "guest": np.zeros(len(X), bool)}
            table = pa.table({"cell": assigned.home, **_facts(files, self.pictures), **rows})
            if len(assigned.guest_row):
                guests = table.take(pa.array(assigned.guest_row))
                guests = guests.set_column(0, "cell", pa.array(assigned.guest_cell))
                where = guests.column_names.index("guest")
                guests = guests.set_column(where, "guest", pa.array(np.ones(len(guests), bool)))
                table = pa.concat_tables([table, guests])
            table = table.sort_by([("cell", "ascending"), ("guest", "ascending"), ("row", "ascending")])
            tables.write(table, out["scattered"], Counts(len(X), len(X)), row_group_size=ROW_GROUP)
            return Counts(len(X), len(X))

        return work


def _facts(files: Inputs, compared: bool) -> dict[str, Any]:
    """The columns `FACTS` of the rows of a shard and, if pictures are `compared`, the columns `PICTURE`."""
    schema = pq.read_schema(files["assignments"])
    known = all(name in schema.names and is_number(schema.field(name).type) for name in SIZES)  # not of CSV: text
    table = tables.read(files["assignments"], columns=["score", *IMAGE, *(SIZES if known else ())])
    unknown = np.full(len(table), np.nan)
    pixels = np.prod([numbers(table, name, "width and height") for name in SIZES if known] or [unknown], axis=0)
    columns: dict[str, Any] = {"score": table["score"].cast(pa.float64()), "pixels": pixels, "caption": unknown}
    columns |= {name: table[name] for name in IMAGE}
    if "caption_match" in files:
        columns["caption"] = np.asarray(tables.read(files["caption_match"])["caption"], np.float64)
    if "pictures" in files:
        pictures = tables.read(files["pictures"], columns=[*PICTURE, *SIZES])
        read = np.prod([np.asarray(pictures[name], np.float64) for name in SIZES], axis=0)
        columns["pixels"] = np.where(np.isnan(read), pixels, read)
        columns |= {name: pictures[name] for name in PICTURE if compared}
    return columns


class Search(Stage):
    """Search pairs of duplicates in some of the cells. There are as many tasks as shards.

    A task reads about `BUCKET` rows at a time; their vectors and signatures are in temporary files in the scratch
    folder, not in memory. In an append, pairs have at least one appended row.
    """

    version = 4
    products = (Product("similar_pairs"), Product("similar_rows"))
    each = ("scattered",)
    whole = ("run_scattered", "scattered", "cells")
    lowest: float

    def open(self, context: Context) -> Work:
        sizes, tasks = load_file(context.file("cells"))["rows"], context.whole["scattered"]
        edges = buckets(sizes, len(tasks))

        def work(files: Inputs, out: Outputs) -> Counts:
            number = [Path(path).name for path in tasks].index(Path(files["scattered"]).name)
            low, high = edges[number], edges[number + 1]
            parts = buckets(sizes[low:high], max(1, int(np.ceil(sizes[low:high].sum() / BUCKET))))
            bounds = zip((low + parts[:-1]).tolist(), (low + parts[1:]).tolist(), strict=True)
            results = [self._pairs(context, part, out["similar_pairs"].parent) for part in bounds]
            pairs, linked = (pa.concat_tables([result[i] for result in results]) for i in (0, 1))
            members = sum(n for _, _, n in results)
            _, first = np.unique(linked["place"].to_numpy(), return_index=True)  # a row may be in several cells
            counts = Counts(members, members)
            tables.write(pairs, out["similar_pairs"], counts)
            tables.write(linked.take(first), out["similar_rows"], counts)
            return counts

        return work

    def _pairs(self, context: Context, bounds: tuple[int, int], folder: Path) -> tuple[pa.Table, pa.Table, int]:
        """The pairs in cells from the first to before the second bound, the rows in them, and the number of members."""
        with tempfile.TemporaryFile(dir=folder) as vectors, tempfile.TemporaryFile(dir=folder) as signatures:
            rows, S, facts = _read(context, bounds, vectors, signatures)
            pairs = duplicate_pairs.similar_pairs(rows, self.lowest, None if S is None else _same_picture(S))
        place = facts["place"].to_numpy()
        table = {"a": place[pairs.a], "b": place[pairs.b], "similarity": pairs.similarity, "kind": pairs.kind}
        return pa.table(table), facts.take(np.unique([pairs.a, pairs.b])), int((~rows.guest).sum())


def _same_picture(S: NDArray[np.uint64]) -> duplicate_pairs.Check:
    """Whether pairs of rows with signatures `[n, SIZE]` are copies of one picture."""

    def check(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.bool_]:
        parts = [slice(start, start + CHECKED) for start in range(0, len(a), CHECKED)]
        checked = [signature.same_picture(S[a[part]], S[b[part]]) for part in parts]
        return np.concatenate([np.empty(0, bool), *checked])

    return check


def buckets(sizes: NDArray[np.number], n: int) -> NDArray[np.int64]:
    """The first cell of each of `n` tasks, and the number of cells. A task has consecutive cells.

    Tasks have about equal numbers of rows. If fewer than `n` tasks suffice for `BUCKET` rows each, the last have none.
    """
    n_filled = int(min(n, max(1, np.ceil(sizes.sum() / BUCKET))))
    before = np.concatenate([[0], np.cumsum(sizes)])
    inner = np.searchsorted(before, before[-1] * np.arange(1, n_filled) / n_filled)
    return np.concatenate([[0], inner, np.full(n + 1 - n_filled, len(sizes))]).astype(np.int64)


def _read(
    context: Context, bounds: tuple[int, int], vectors: IO[bytes], signatures: IO[bytes]
) -> tuple[duplicate_pairs.Rows, NDArray[np.uint64] | None, pa.Table]:
    """The rows of cells from the first to before the second bound in all shards; their signatures; a table of `LINKED`.

    Vectors and signatures `[n, SIZE]`, None for a run that compares no pictures, are mapped from these files.
    """
    low, high = bounds
    files, n_fitted = all_files("scattered", context), len(context.whole.get("run_scattered", ()))
    stored = tables.read_schema(files[0])
    compared = [name for name in PICTURE if name in stored.names]
    schema = pa.schema([stored.field(name) for name in ("cell", "guest", *compared[:1], *LINKED)])
    where = (pc.field("cell") >= low) & (pc.field("cell") < high)
    number_by_digest, vector_id, parts = dict[bytes, int](), list[int](), list[pa.RecordBatch]()
    for number, path in enumerate(files if low < high else ()):
        for batch in tables.batches([path], [*schema.names, "vector", *compared[1:]], context.prefetch, where):
            X = tables.matrix(batch["vector"])
            vectors.write(X.tobytes())
            for name in compared[1:]:
                signatures.write(batch[name].flatten().to_numpy().tobytes())
            digests = (hashlib.blake2b(vector, digest_size=16).digest() for vector in X)
            vector_id += [number_by_digest.setdefault(digest, len(number_by_digest)) for digest in digests]
            place = pc.add(batch["row"], number << SHARD_BITS)
            rows = batch.select(schema.names).set_column(len(schema) - 1, "row", place)
            if n_fitted:  # a pair needs a member: of an append every appended row, at home or not
                fitted = pa.array(np.full(len(batch), number < n_fitted))
                rows = rows.set_column(1, "guest", fitted)
            parts.append(rows)
    table = pa.Table.from_batches(parts, schema)
    n = len(table)
    bytes_hash = table["bytes_hash"].to_numpy() if compared else np.zeros(n, np.uint64)
    vector = _mapped(vectors, np.float16, (n, stored.field("vector").type.list_size))
    compared_rows = duplicate_pairs.Rows(
        table["cell"].to_numpy(), table["guest"].to_numpy(), np.array(vector_id, np.int64), bytes_hash, vector
    )
    S = _mapped(signatures, np.uint64, (n, signature.SIZE)) if compared else None
    return compared_rows, S, table.select(LINKED).rename_columns({"row": "place"})


def _mapped(file: IO[bytes], dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """The content of a file as an array that is read as needed."""
    file.flush()
    return np.memmap(file, dtype, "r", shape=shape) if shape[0] else np.empty(shape, dtype)
