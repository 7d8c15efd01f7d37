"""The stages that write FEATURES: from images, or from existing vectors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cpp.encoding import images
from cpp.files import tables
from cpp.files.tables import Counts
from cpp.sources import samples, shards, vectors
from cpp.sources.samples import Reason
from cpp.store.results import Product
from pipelines.engine.stage import Context, Inputs, Outputs, Stage, Work
from pipelines.stages.artifacts import Model


class Import(Stage):
    """Write existing vectors as float16 unit rows with their metadata. Rows that are no vectors are rejected."""

    version = 1
    products = (Product("features", rows="out"), Product("rejected", rows="rejected"))
    each = ("vectors", "metadata", "images")
    key: str | None
    dim: int

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        source = (files["vectors"], files["metadata"], files.get("images"))
        features, rejected, rows = vectors.import_vectors(*source, self.key, self.dim)
        counts = Counts(rows, len(features), len(rejected))
        tables.write(features, out["features"], counts)
        tables.write(rejected, out["rejected"], counts)
        return counts


class Encode(Stage):
    """Encode a shard of images as float16 unit vectors with captions and metadata. Unusable images are rejected.

    Each encoder fills one column; the images are read and decoded once for all encoders.
    """

    version = 3
    products = (Product("features", rows="out"), Product("rejected", rows="rejected"))
    each = ("images",)
    gpu = True
    encoders: dict[str, Model]  # by column
    max_bytes: int
    max_pixels: int
    max_aspect: float

    def open(self, context: Context) -> Work:
        from cpp.encoding import encoder

        models = [model.open(context.device) for model in self.encoders.values()]
        identities = {
            f"cpp.{column}": json.dumps(asdict(m.identity)) for column, m in zip(self.encoders, models, strict=True)
        }
        limits = images.Limits(self.max_bytes, self.max_pixels, self.max_aspect)

        def work(files: Inputs, out: Outputs) -> Counts:
            shard = files["images"]
            kept: list[Prepared] = []
            rejected: list[dict[str, Any]] = []

            def pixels() -> Iterator[tuple[NDArray[np.uint8], ...]]:
                read = shards.read_samples(shard, limits.max_bytes)
                transforms = [model.preprocess for model in models]
                prepared = images.prepare(read, transforms, limits, context.threads, 2 * context.image_batch)
                for row, item in enumerate(prepared):
                    if item.pixels is None:
                        rejected.append(_rejected(item.key, row, item.reason or Reason.NO_IMAGE))
                    else:
                        kept.append(Prepared(item.key, row, item.metadata))
                        yield item.pixels

            empty = tuple(np.empty((0, model.dim), np.float16) for model in models)
            batches = [empty, *encoder.encode(models, pixels(), context.image_batch)]
            matrices = [np.concatenate(batch) for batch in zip(*batches, strict=True)]
            finite = np.logical_and.reduce([np.isfinite(X).all(axis=1) for X in matrices])
            rejected += [_rejected(*kept[i][:2], Reason.NOT_FINITE) for i in np.flatnonzero(~finite)]
            rows = [row for row, is_finite in zip(kept, finite, strict=True) if is_finite]
            counts = Counts(len(rows) + len(rejected), len(rows), len(rejected))
            embeddings = {c: tables.matrix_column(X[finite]) for c, X in zip(self.encoders, matrices, strict=True)}
            tables.write(_features(rows, embeddings, shard.path), out["features"], counts, identities)
            rejected.sort(key=lambda row: row["row"])
            tables.write(pa.Table.from_pylist(rejected, tables.REJECTED), out["rejected"], counts)
            if repeated := len(rows) - len({row.key for row in rows}):
                print(
                    f"encode: {repeated} rows of {shard.path} repeat the key of another row; they are kept", flush=True
                )
            return counts

        return work


class Prepared(NamedTuple):
    """An image that was decoded: its key, its row in the shard, and its metadata."""

    key: str
    row: int
    metadata: dict[str, Any]


def _rejected(key: str, row: int, reason: Reason) -> dict[str, Any]:
    return {"key": key, "row": row, "reason": str(reason)}


def _features(rows: Sequence[Prepared], embeddings: Mapping[str, pa.Array], path: str) -> pa.Table:
    """The table FEATURES of a shard."""
    keys = [row.key for row in rows]
    columns = {
        "key": pa.array(keys, pa.string()),
        **embeddings,
        "image_shard": pa.repeat(pa.scalar(path, pa.string()), len(rows)),
        **samples.metadata_columns(keys, [row.metadata for row in rows]),
    }
    return pa.table(columns)
