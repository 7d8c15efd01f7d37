"""The rows of an export: the columns and the metadata of each image of a shard, and its image in the source.

Reads ASSIGNMENTS with LABELS and REJECTED of the same shard, row by row. Knows no formats.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cpp.export.classes import Class
from cpp.files import tables
from cpp.sources.samples import RESERVED, column_titles
from cpp.sources.shards import MAX_BYTES, ImageShard, select_samples

# the names that exports use themselves: metadata of these names are in `source_NAME`
OWN = re.compile(rf"file|class|class_name|label|confidence|{RESERVED.pattern}")


@dataclass(frozen=True)
class Filter:
    """`clusters` of the exported layer, None for all; `min_confidence` from 0 to 1; at most `per_cluster` images."""

    clusters: tuple[int, ...] | None = None
    min_confidence: float | None = None
    per_cluster: int | None = None


@dataclass(frozen=True)
class Layer:
    """The columns of the layers: `column` has the exported layer, `columns` has all of them.

    `main` is true if the exported layer is the main one, to which the confidences in LABELS belong.
    """

    column: str
    columns: tuple[str, ...]
    main: bool


@dataclass(frozen=True)
class Shard:
    """The files of a shard. `images` is its source, None if the run has vectors only; `labels` is None without names.

    `drop` lists the images that curation dropped, None if they are exported too.
    """

    assignments: str
    labels: str | None = None
    rejected: str | None = None
    images: str | ImageShard | None = None
    drop: str | None = None


def decide(
    shard: Shard, layer: Layer, images: Filter, classes: Sequence[Class] = ()
) -> tuple[pa.Table, NDArray[np.int64], Counter[str]]:
    """Apply all of a filter but `per_cluster`: columns of all rows, the rows that pass, and how many do not, by reason.

    The columns are `cluster`, `score` and `confidence` (float64, NaN if unknown), which some `classes` replace. A row
    counts for one reason only.
    """
    assigned = tables.with_exclusions(shard.assignments, [layer.column, "score"])
    table = assigned.select([0, 1]).rename_columns(["cluster", "score"])
    confidence = np.full(len(table), np.nan)
    if shard.labels is not None and layer.main:
        confidence = tables.read(shard.labels, ["confidence"])["confidence"].to_numpy().astype(np.float64)
        if len(confidence) != len(table):
            raise ValueError(f"{shard.labels} has {len(confidence)} rows, {shard.assignments} {len(table)}: run again")
        confidence = _replaced(confidence, table["cluster"].to_numpy(), classes)
    keep, left_out = np.ones(len(table), np.bool_), Counter[str]()

    def leave_out(failing: NDArray[np.bool_], reason: str) -> None:
        if n := int((keep & failing).sum()):
            left_out[reason] = n
        keep[failing] = False

    excluded = tables.exclusions(assigned)
    for reason in dict.fromkeys(filter(None, excluded)):
        leave_out(excluded == reason, reason)
    if shard.drop is not None:
        reasons = np.full(len(table), None, object)
        dropped = tables.read(shard.drop, ["row", "reason"])
        reasons[dropped["row"].to_numpy()] = dropped["reason"].to_pylist()
        for reason in dict.fromkeys(dropped["reason"].to_pylist()):
            leave_out(reasons == reason, f"dropped by curation: {reason}")
    if images.clusters is not None:
        leave_out(~np.isin(table["cluster"], images.clusters), "of a cluster that was not asked for")
    if images.min_confidence is not None:
        reason = f"of a confidence below {images.min_confidence:g}, or without one"
        leave_out(~(confidence >= images.min_confidence), reason)
    return table.append_column("confidence", pa.array(confidence)), np.flatnonzero(keep), left_out


def _replaced(
    confidence: NDArray[np.float64], cluster: NDArray[np.int32], classes: Sequence[Class]
) -> NDArray[np.float64]:
    """The confidences `[n]` of rows of these clusters, with those of the classes that replace them."""
    by_cluster = np.full(int(cluster.max(initial=-1)) + 1, np.nan)
    for c in classes:
        if c.confidence is not None and c.cluster < len(by_cluster):
            by_cluster[c.cluster] = c.confidence
    return np.where(np.isnan(by_cluster[cluster]), confidence, by_cluster[cluster])


def schema(layer: Layer, files: bool) -> pa.Schema:
    """The columns of an export's rows but metadata; with `files` the first is the path of the image in the export."""
    return pa.schema(
        [
            *([("file", pa.string())] if files else []),
            ("key", pa.string()),
            ("class", pa.int32()),
            ("class_name", pa.string()),
            ("label", pa.string()),
            ("confidence", pa.float32()),
            *((column, pa.int32()) for column in layer.columns),
            ("score", pa.float32()),
            ("margin", pa.float32()),
            ("image_shard", pa.string()),
        ]
    )


def read(shard: Shard, layer: Layer, classes: Sequence[Class]) -> pa.Table:
    """All rows of a shard: the columns of `schema` but `file`, and the metadata.

    A row of a cluster without a class has null classes. The label is the name of the class, null without LABELS.
    Metadata with a name of `OWN` are in `source_NAME`.
    """
    table = tables.read(shard.assignments, ["key", *layer.columns, "score", "margin", "image_shard"])
    by_cluster = {c.cluster: c for c in classes}
    of_row, n = [by_cluster.get(k) for k in table[layer.column].to_pylist()], len(table)
    columns = dict(zip(table.column_names, table.columns, strict=True))
    columns |= {"class": [c and c.number for c in of_row], "class_name": [c and c.title for c in of_row]}
    columns |= {"label": pa.nulls(n, pa.string()), "confidence": pa.nulls(n, pa.float32())}
    if shard.labels is not None:
        labels = tables.read(shard.labels, ["key", "confidence"])
        if not labels["key"].equals(table["key"]):
            raise ValueError(f"{shard.labels} has other rows than {shard.assignments}: run again")
        columns["label"] = [c and c.name for c in of_row]
        if layer.main:
            confidence = labels["confidence"].to_numpy().astype(np.float64)
            confidence = _replaced(confidence, table[layer.column].to_numpy(), classes)
            columns["confidence"] = pa.array(confidence.astype(np.float32), from_pandas=True)
    rows, more = pa.table(columns, schema=schema(layer, files=False)), metadata(shard, layer)
    for name, title in column_titles(more.column_names, OWN).items():
        rows = rows.append_column(title, more[name])
    return rows


def find(
    shard: Shard, keys: Sequence[str], rows: NDArray[np.int64], max_bytes: int = MAX_BYTES
) -> Iterator[tuple[int, bytes | None]]:
    """Yield row and image of the requested `rows` in the order of the source. `keys` has the keys of all rows.

    The rows of a repeated key are matched to its images in order, rejected images included. An image that cannot be
    read is None; an image that is no longer in the source is skipped.
    """
    rejected = dict[int, str]()
    if shard.rejected is not None:
        table = tables.read(shard.rejected, columns=["row", "key"])
        rejected = dict(zip(table["row"].to_pylist(), table["key"].to_pylist(), strict=True))
    requested, pending, before = set(rows.tolist()), dict[tuple[str, int], int](), Counter[str]()
    kept = enumerate(keys)
    for place in range(len(keys) + len(rejected)):
        row, key = (-1, rejected[place]) if place in rejected else next(kept)
        if row in requested:
            pending[key, before[key]] = row
        before[key] += 1
    if not pending or shard.images is None:
        return
    seen = Counter[str]()
    for sample in select_samples(shard.images, frozenset(key for key, _ in pending), max_bytes):
        if (sample.key, seen[sample.key]) in pending:
            yield pending.pop((sample.key, seen[sample.key])), sample.image
        seen[sample.key] += 1
        if not pending:
            return


def metadata(shard: Shard, layer: Layer) -> pa.Table:
    """The columns of ASSIGNMENTS that the source supplied as metadata."""
    computed = {"key", *layer.columns, "score", "second", "margin", tables.EXCLUDED, "image_shard"}
    names = [name for name in pq.read_schema(shard.assignments).names if name not in computed]
    return tables.read(shard.assignments, columns=names)
