"""The stages that make vectors: FEATURES from images or from vectors that exist."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cpp.encoding import images
from cpp.files import tables
from cpp.files.tables import Counts
from cpp.sources import samples, shards, vectors
from cpp.sources.samples import Reason
from cpp.store.results import Product
from pipelines.engine.stage import Context, Stage, Work
from pipelines.stages.artifacts import Model


@dataclass(frozen=True, kw_only=True)
class Import(Stage):
    """Vectors that exist -> FEATURES: unit rows in float16 with their metadata. A row that is no vector is rejected."""

    version = 1
    products = (Product("features", rows="out"), Product("rejected", rows="rejected"))
    each = ("vectors", "metadata", "images")
    whole = ()
    key: str | None
    dim: int

    def open(self, context: Context) -> Work:
        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            source = (files["vectors"], files["metadata"], files.get("images"))
            features, rejected, rows = vectors.import_vectors(*source, self.key, self.dim)
            counts = Counts(rows, len(features), len(rejected))
            tables.write(features, out["features"], counts)
            tables.write(rejected, out["rejected"], counts)
            return counts

        return work


@dataclass(frozen=True, kw_only=True)
class Encode(Stage):
    """A shard of images -> FEATURES: unit vectors in float16 with captions and metadata. A bad image is rejected.

    Every encoder fills one column; the images are read and decoded once for all of them.
    """

    version = 3
    products = (Product("features", rows="out"), Product("rejected", rows="rejected"))
    each = ("images",)
    whole = ()
    gpu = True
    encoders: dict[str, Model]  # by the column that it fills
    max_bytes: int
    max_pixels: int
    max_aspect: float

    def open(self, context: Context) -> Work:
        from cpp.encoding import encoder

        models = [model.open(context.device) for model in self.encoders.values()]
        about = {
            f"cpp.{column}": json.dumps(asdict(m.identity)) for column, m in zip(self.encoders, models, strict=True)
        }
        limits = images.Limits(self.max_bytes, self.max_pixels, self.max_aspect)
        waiting = 2 * context.image_batch

        def work(files: Mapping[str, Any], out: Mapping[str, Path]) -> Counts:
            shard = files["images"]
            kept: list[tuple[str, int, dict[str, Any]]] = []
            rejected: list[dict[str, Any]] = []

            def reject(key: str, row: int, reason: Reason) -> None:
                rejected.append({"key": key, "row": row, "reason": str(reason)})

            def pixels() -> Iterator[tuple[NDArray[np.uint8], ...]]:
                read = shards.read_samples(shard, limits.max_bytes)
                prepared = images.prepare(read, [m.preprocess for m in models], limits, context.threads, waiting)
                for row, item in enumerate(prepared):
                    if item.pixels is None:
                        reject(item.key, row, item.reason or Reason.NO_IMAGE)
                    else:
                        kept.append((item.key, row, item.metadata))
                        yield item.pixels

            empty = tuple(np.empty((0, model.dim), np.float16) for model in models)
            parts = [empty, *encoder.encode(models, pixels(), context.image_batch)]
            matrices = [np.concatenate(of_one) for of_one in zip(*parts, strict=True)]
            rows_in = len(kept) + len(rejected)
            finite = np.logical_and.reduce([np.isfinite(X).all(axis=1) for X in matrices])
            for i in np.flatnonzero(~finite):
                reject(*kept[i][:2], Reason.NOT_FINITE)
            rows = [row for row, good in zip(kept, finite, strict=True) if good]
            keys = [key for key, _, _ in rows]
            columns = {
                "key": pa.array(keys, pa.string()),
                **{c: tables.matrix_column(X[finite]) for c, X in zip(self.encoders, matrices, strict=True)},
                "image_shard": pa.repeat(pa.scalar(shard.path, pa.string()), len(rows)),
                **samples.metadata_columns(keys, [metadata for _, _, metadata in rows]),
            }
            counts = Counts(rows_in, len(rows), len(rejected))
            tables.write(pa.table(columns), out["features"], counts, about)
            ordered = sorted(rejected, key=lambda row: row["row"])
            tables.write(pa.Table.from_pylist(ordered, tables.REJECTED), out["rejected"], counts)
            if repeated := len(keys) - len(set(keys)):
                print(f"encode: {shard.path} has {repeated} rows whose key repeats; they are kept", flush=True)
            return counts

        return work
