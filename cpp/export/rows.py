"""The rows of an export: what is known of each image of a shard, and which image in the source it is.

Reads ASSIGNMENTS with LABELS and REJECTED of the same shard, row for row. Knows no formats.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cpp.export.classes import Class
from cpp.export.filters import Filter, Passed, passing
from cpp.files import tables
from cpp.sources.shards import MAX_BYTES, ImageShard, select_samples

GONE = "whose image is no longer in its shard"


@dataclass(frozen=True)
class Layer:
    """Where the layers of a run are: `column` holds the exported one, `columns` all of them.

    `main` says that it is the layer that the confidences in LABELS are of.
    """

    column: str
    columns: tuple[str, ...]
    main: bool


@dataclass(frozen=True)
class Shard:
    """The files of a shard. `images` is its source; None where the run has none, as `labels` without LABELS.

    `drop` is what curation took out, None where all is exported.
    """

    assignments: str
    labels: str | None = None
    rejected: str | None = None
    images: str | ImageShard | None = None
    drop: str | None = None


def decide(shard: Shard, layer: Layer, wanted: Filter) -> tuple[pa.Table, Passed]:
    """Columns `cluster`, `score` and `confidence` (float64, NaN where unknown) of all rows, and which rows pass."""
    table = tables.read(shard.assignments, columns=[layer.column, "score"])
    confidence = np.full(len(table), np.nan)
    if shard.labels is not None and layer.main:
        confidence = (
            tables.read(shard.labels, ["confidence"])["confidence"].to_numpy(zero_copy_only=False).astype(np.float64)
        )
        if len(confidence) != len(table):
            raise ValueError(f"{shard.labels} has {len(confidence)} rows, {shard.assignments} {len(table)}: run again")
    cluster = table[layer.column]
    found = pa.table({"cluster": cluster, "score": table["score"], "confidence": confidence})
    dropped: dict[str, NDArray[np.int64]] = {}
    if shard.drop is not None:
        out = tables.read(shard.drop, columns=["row", "reason"])
        rows, reasons = out["row"].to_numpy(), np.array(out["reason"].to_pylist(), object)
        dropped = {reason: rows[reasons == reason] for reason in dict.fromkeys(reasons.tolist())}
    return found, passing(cluster.to_numpy(), confidence, wanted, dropped)


def schema(layer: Layer, files: bool) -> pa.Schema:
    """The columns of an export's rows; with `files` the first says which file of the export an image is."""
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
    """All rows of a shard with the columns of `schema` but `file`; a cluster without a class has nulls for it.

    The label is that of LABELS; in another layer than theirs it is the name of the cluster, and null without LABELS.
    """
    plain = ["key", *layer.columns, "score", "margin", "image_shard"]
    table = tables.read(shard.assignments, columns=plain)
    by_cluster = {c.cluster: c for c in classes}
    of_row = [by_cluster.get(k) for k in table[layer.column].to_pylist()]
    known = {
        "class": pa.array([c and c.number for c in of_row], pa.int32()),
        "class_name": pa.array([c and c.title for c in of_row], pa.string()),
        "label": pa.nulls(len(table), pa.string()),
        "confidence": pa.nulls(len(table), pa.float32()),
    }
    if shard.labels is not None:
        labels = tables.read(shard.labels, ["key", "label", "confidence"])
        if not labels["key"].equals(table["key"]):
            raise ValueError(f"{shard.labels} has other rows than {shard.assignments}: run again")
        if layer.main:
            known |= {"label": labels["label"], "confidence": labels["confidence"]}
        else:
            known["label"] = pa.array([c and c.name for c in of_row], pa.string())
    columns = {**{name: table[name] for name in plain}, **known}
    whole = schema(layer, files=False)
    return pa.table({name: columns[name] for name in whole.names}, schema=whole)


def find(
    shard: Shard, keys: Sequence[str], rows: NDArray[np.int64], max_bytes: int = MAX_BYTES
) -> Iterator[tuple[int, bytes | None]]:
    """Row and image of the wanted `rows` as they come by in the source. `keys` are those of all rows of the shard.

    A key that is there more than once stands for the images in their order, those that were rejected counted. An image
    that cannot be read is None; one that is not there does not come.
    """
    places = _places(keys, _rejected(shard))
    wanted = {(keys[row], places[row]): int(row) for row in rows.tolist()}
    seen = Counter[str]()
    if not wanted or shard.images is None:
        return
    for sample in select_samples(shard.images, frozenset(key for key, _ in wanted), max_bytes):
        row = wanted.pop((sample.key, seen[sample.key]), None)
        seen[sample.key] += 1
        if row is not None:
            yield row, sample.image
        if not wanted:
            return


def metadata(shard: Shard, layer: Layer) -> pa.Table:
    """The columns of ASSIGNMENTS that came with the images."""
    ours = {"key", *layer.columns, "score", "second", "margin", "image_shard"}
    names = [name for name in pq.read_schema(shard.assignments).names if name not in ours]
    return tables.read(shard.assignments, columns=names)


def _rejected(shard: Shard) -> Mapping[int, str]:
    if shard.rejected is None:
        return {}
    table = tables.read(shard.rejected, columns=["row", "key"])
    return dict(zip(table["row"].to_pylist(), table["key"].to_pylist(), strict=True))


def _places(keys: Sequence[str], rejected: Mapping[int, str]) -> list[int]:
    """For every row that was kept, how many of the input have the same key and come before it."""
    before, places = Counter[str](), list[int]()
    kept = iter(keys)
    for row in range(len(keys) + len(rejected)):
        lost = row in rejected
        key = rejected[row] if lost else next(kept)
        if not lost:
            places.append(before[key])
        before[key] += 1
    return places
