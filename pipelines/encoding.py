"""The stages that use an encoder: images to FEATURES, words to a vocabulary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cpp import encoder, images, samples, sources, tables
from cpp.samples import Reason
from cpp.store import Product
from cpp.tables import Counts
from pipelines import config
from pipelines.stage import Given, Stage, Work


@dataclass(frozen=True)
class Encode(Stage):
    """A shard of images -> FEATURES: unit vectors in float16 with captions and metadata. A bad image is rejected."""

    version = 1
    products = (Product("features", rows="out"), Product("rejected", rows="rejected"))
    each = ("images",)
    whole = ()
    encode: config.Encode
    weights: str  # their SHA-256
    max_bytes: int
    max_pixels: int
    max_aspect: float

    def open(self, given: Given) -> Work:
        model = open_encoder(self.encode, given.device)
        about = {"cpp.model": self.encode.model, "cpp.pretrained": self.encode.pretrained, "cpp.weights": self.weights}
        limits = images.Limits(self.max_bytes, self.max_pixels, self.max_aspect)
        waiting = 2 * given.image_batch

        def work(files: Mapping[str, Any], out: Mapping[str, Path]) -> Counts:
            shard = files["images"]
            kept: list[tuple[str, int, dict[str, Any]]] = []
            rejected: list[dict[str, Any]] = []

            def reject(key: str, row: int, reason: Reason) -> None:
                rejected.append({"key": key, "row": row, "reason": str(reason)})

            def pixels() -> Iterator[tuple[NDArray[np.uint8], ...]]:
                read = sources.read(shard, limits.max_bytes)
                prepared = images.prepare(read, [model.preprocess], limits, given.threads, waiting)
                for row, item in enumerate(prepared):
                    if item.pixels is None:
                        reject(item.key, row, item.reason or Reason.NO_IMAGE)
                    else:
                        kept.append((item.key, row, item.metadata))
                        yield item.pixels

            parts = [part for (part,) in encoder.encode([model], pixels(), given.image_batch)]
            X = np.concatenate([np.empty((0, model.dim), np.float16), *parts])
            rows_in = len(kept) + len(rejected)
            finite = np.isfinite(X).all(axis=1)
            for i in np.flatnonzero(~finite):
                reject(*kept[i][:2], Reason.NOT_FINITE)
            rows = [row for row, good in zip(kept, finite, strict=True) if good]
            keys = [key for key, _, _ in rows]
            columns = {
                "key": pa.array(keys, pa.string()),
                "embedding": tables.matrix_column(X[finite]),
                "image_shard": pa.repeat(pa.scalar(shard.path, pa.string()), len(rows)),
                **samples.columns(keys, [metadata for _, _, metadata in rows]),
            }
            counts = Counts(rows_in, len(rows), len(rejected))
            tables.write(pa.table(columns), out["features"], counts, about)
            ordered = sorted(rejected, key=lambda row: row["row"])
            tables.write(pa.Table.from_pylist(ordered, tables.REJECTED), out["rejected"], counts)
            if repeated := len(keys) - len(set(keys)):
                print(f"encode: {shard.path} has {repeated} rows whose key repeats; they are kept", flush=True)
            return counts

        return work


@dataclass(frozen=True)
class Words(Stage):
    """Files of words -> their text vectors, by the encoder of the run."""

    version = 1
    products = (Product("words"),)
    each = ()
    whole = ("wordlists",)
    encode: config.Encode
    weights: str
    templates: str | list[str]

    def open(self, given: Given) -> Work:
        model = open_encoder(self.encode, given.device)
        texts = encoder.templates(self.templates)

        def work(files: Mapping[str, Any], out: Mapping[str, Path]) -> Counts:
            lines = [line.strip() for path in given.whole["wordlists"] for line in _lines(path)]
            words = list(dict.fromkeys(line for line in lines if line))
            if not words:
                raise ValueError(f"label.vocabulary: there are no words in {', '.join(given.whole['wordlists'])}")
            X = model.words(words, texts, given.image_batch)
            tables.write(pa.table({"word": words, "embedding": tables.matrix_column(X)}), out["words"])
            return Counts(len(words), len(words))

        return work


def _lines(path: str) -> list[str]:
    with fsspec.open(path, "rt", encoding="utf-8") as file:
        return str(file.read()).splitlines()


def open_encoder(settings: config.Encode, device: str) -> encoder.Encoder:
    """The encoder of a run. WeightsError where its weights cannot be had."""
    if settings.configs:
        encoder.register(settings.configs)
    return encoder.Encoder(settings.model, settings.pretrained, device, settings.precision, settings.compile)
