"""The stages that write FEATURES: from images, or from existing vectors."""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cpp.encoding import families, images, measures
from cpp.files import tables
from cpp.files.tables import Counts
from cpp.sources import samples, shards, vectors
from cpp.sources.samples import Reason
from cpp.store.results import Product
from pipelines.engine.stage import WORKER_MEMORY, Context, Inputs, Outputs, Stage, Work
from pipelines.stages.artifacts import Model

IMAGE_BYTES = 3 * 384**2  # pixels of a decoded image, of the larger ones among the usual models
BATCHES_HELD = 7  # batches of pixels of the two shards of a worker, from decoding to the device


class Import(Stage):
    """Write existing vectors as float16 unit rows with their metadata. Rows that are no vectors are rejected."""

    version = 2
    products = (Product("features", rows="out"), Product("rejected", rows="rejected"))
    each: ClassVar[tuple[str, ...]] = ("vectors", "metadata", "images")
    key: str | None
    dim: int

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        source = (files["vectors"], files["metadata"], files.get("images"))
        features, rejected, rows = vectors.import_vectors(*source, self.key, self.dim, self.further(files))
        counts = Counts(rows, len(features), len(rejected))
        tables.write(features, out["features"], counts)
        tables.write_rejected(rejected, out["rejected"], counts)
        return counts

    def further(self, files: Inputs) -> dict[str, tuple[str, int]]:
        """The file of vectors of each further encoder and their dimension, by column."""
        return {}


class ImportSeveral(Import):
    """Write the vectors of several encoders of the same images. A row that is no vector in one of them is rejected."""

    each = ("vectors", *vectors.FURTHER, "metadata", "images")
    dims: dict[str, int]  # of further encoders, by column

    def further(self, files: Inputs) -> dict[str, tuple[str, int]]:
        return {
            column: (files[kind], dim) for kind, (column, dim) in zip(vectors.FURTHER, self.dims.items(), strict=False)
        }


@dataclass
class Reading:
    """The images of a shard as they are read: `decoded` with their rows, and `rejected` with rows, keys and reasons.

    With `measured`, decoded images are measured for curation too. InterruptedError once `interrupted` is set.
    """

    shard: Any
    transforms: Sequence[images.ToPixels]
    limits: images.Limits
    measured: bool
    interrupted: threading.Event | None
    decoded: list[tuple[int, images.Prepared]] = field(default_factory=list)
    rejected: list[tuple[int, str, Reason]] = field(default_factory=list)
    _hashes: list[int] = field(default_factory=list)
    _records: list[NDArray[Any]] = field(default_factory=lambda: [measures.unknown(0)])

    def pixels(self, threads: int, waiting: int) -> Iterator[tuple[NDArray[np.uint8], ...]]:
        """Yield the pixels of each decoded image for every transform."""
        n, uses = len(self.transforms), [*self.transforms, *([measures.measure] if self.measured else [])]
        for row, image in enumerate(images.prepare(self._samples(), uses, self.limits, threads, waiting)):
            if self.interrupted and self.interrupted.is_set():
                raise InterruptedError("the run was interrupted")
            if image.pixels is None:
                self.rejected.append((row, image.key, image.reason or Reason.NO_IMAGE))
            else:
                self.decoded.append((row, image._replace(pixels=None)))
                self._records.extend(record.view(measures.RECORD) for record in image.pixels[n:])
                yield image.pixels[:n]

    def _samples(self) -> Iterator[samples.Sample]:
        for sample in shards.read_samples(self.shard, self.limits.max_bytes):
            self._hashes.append(measures.bytes_hash(sample.image) if self.measured else 0)
            yield sample

    def pictures(self, kept: NDArray[np.bool_]) -> pa.Table:
        """PICTURES of those of the decoded images that are `kept` `[n]`."""
        chosen = [image for image, keep in zip(self.decoded, kept, strict=True) if keep]
        hashes = np.array([self._hashes[row] for row, _ in chosen], np.uint64)
        return measures.table([image.key for _, image in chosen], hashes, np.concatenate(self._records)[kept])


class Encode(Stage):
    """Encode a shard of images as float16 unit vectors with captions and metadata. Unusable images are rejected.

    Each encoder fills one column; the images are read and decoded once for all encoders. In a run that curates,
    PICTURES of the shard are measured in the same pass. Of two shards in a worker one encodes while the other reads and
    decodes its first batches, or is written.
    """

    version = 5
    products = (Product("features", rows="out"), Product("rejected", rows="rejected"))
    each = ("images",)
    gpu = True
    reads_again = True
    also = ("pictures",)
    overlaps = True
    encoders: dict[str, Model]  # by column
    max_bytes: int
    max_pixels: int
    max_aspect: float

    def is_outdated(self, reasons: Collection[str]) -> bool:
        """Whether pictures were rejected for lack of a package that is installed now."""
        return Reason.HEIC in reasons and images.reads_heif()

    def memory(self, image_batch: int) -> float:
        """Measured (tests/bench/RESULTS.md, "A worker's memory"): weights are in memory twice while they are loaded."""
        files = [
            families.weights_file(model.model, model.pretrained, model.configs) for model in self.encoders.values()
        ]
        weights = sum(Path(file).stat().st_size for file in files)
        return WORKER_MEMORY + 2 * weights + BATCHES_HELD * image_batch * IMAGE_BYTES * len(self.encoders)

    def open(self, context: Context) -> Work:
        from cpp.encoding import encoder

        models = [model.open(context.device) for model in self.encoders.values()]
        identities = {
            f"cpp.{column}": json.dumps(model.identity.as_dict())
            for column, model in zip(self.encoders, models, strict=True)
        }
        limits = images.Limits(self.max_bytes, self.max_pixels, self.max_aspect)
        turn = threading.Lock()  # of one shard at a time, to start batches

        def work(files: Inputs, out: Outputs) -> Counts:
            shard, measured = files["images"], "pictures" in out
            reading = Reading(shard, [model.preprocess for model in models], limits, measured, context.interrupted)
            pixels = reading.pixels(context.threads, 2 * context.image_batch)
            rejected = reading.rejected
            empty = tuple(np.empty((0, model.dim), np.float16) for model in models)
            batches = [empty, *encoder.encode(models, pixels, context.image_batch, turn)]
            matrices = [np.concatenate(batch) for batch in zip(*batches, strict=True)]
            finite = np.logical_and.reduce([np.isfinite(X).all(axis=1) for X in matrices])
            for i in np.flatnonzero(~finite):
                row, image = reading.decoded[i]
                rejected.append((row, image.key, Reason.NOT_FINITE))
            kept = [reading.decoded[i][1] for i in np.flatnonzero(finite)]
            counts = Counts(len(kept) + len(rejected), len(kept), len(rejected))
            features = self._features(shard.path, kept, [X[finite] for X in matrices])
            tables.write(features, out["features"], counts, identities)
            if measured:
                pictures = reading.pictures(finite)
                tables.write(pictures, out["pictures"], Counts(len(kept), len(kept)))
            rows = [{"key": key, "row": row, "reason": str(reason)} for row, key, reason in sorted(rejected)]
            tables.write_rejected(pa.Table.from_pylist(rows, tables.REJECTED), out["rejected"], counts)
            return counts

        return work

    def _features(
        self, shard: str, kept: Sequence[images.Prepared], matrices: Sequence[NDArray[np.float16]]
    ) -> pa.Table:
        """FEATURES of the images of a shard, with the vectors of each encoder."""
        keys = [image.key for image in kept]
        columns = {
            "key": pa.array(keys, pa.string()),
            **{c: tables.matrix_column(X) for c, X in zip(self.encoders, matrices, strict=True)},
            "image_shard": pa.repeat(pa.scalar(shard, pa.string()), len(kept)),
        }
        return pa.table(columns | samples.metadata_columns(keys, [image.metadata for image in kept]))
