"""The stages that say how odd an image is: parts by shard, their scales over the whole set, ranks and one score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from cpp.curation import outliers
from cpp.files import tables
from cpp.files.tables import Counts
from cpp.store.results import Product
from pipelines.engine.stage import Context, Stage, Work
from pipelines.stages.artifacts import Model, iter_captions, read_cluster_moments, read_groups, read_tree

if TYPE_CHECKING:
    from cpp.encoding.encoder import Encoder


@dataclass(frozen=True, kw_only=True)
class Oddities(Stage):
    """FEATURES, CODES and ASSIGNMENTS -> ODDITIES: what the parts of the score are made of, as measured."""

    version = 1
    products = (Product("oddities", rows="out"),)
    each = ("features", "codes", "assignments")
    whole = ("features", "groups", "tree", "moments")
    gpu = True
    embeddings: list[str]
    neighbours: int
    sample: int
    similarity: str | None
    captions: str | None
    tower: Model | None  # of the column `embedding`, where captions are to be encoded
    seed: int

    def open(self, context: Context) -> Work:
        tree, fine = read_tree(context), read_groups(context)
        drawn = tables.sample_rows(context.whole["features"], self.embeddings, self.sample, self.seed, context.prefetch)
        density = outliers.Density(drawn, self.neighbours, context.device == "cuda")
        residual = outliers.Residual(read_cluster_moments(context, tree.clusters[tree.main]), tree.about["e"])
        model = self.tower.open(context.device) if self.tower else None

        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            table = tables.read(files["features"], columns=["key", *self.embeddings])
            assigned = tables.read(files["assignments"], columns=["cluster", "margin"])
            Z = tables.matrix(tables.read(files["codes"], columns=["code"])["code"]).astype(np.float32) @ fine.basis
            cluster = torch.from_numpy(assigned["cluster"].to_numpy().astype(np.int64))
            parts = {
                "margin": assigned["margin"].to_numpy(),
                "density": density(tables.join_vectors(table, self.embeddings), context.batch),
                "residual": residual(torch.from_numpy(Z), cluster),
                "caption": self._fit(files["features"], model, context.image_batch),
            }
            counts = Counts(len(table), len(cluster))
            found = pa.table({"key": table["key"], **parts}, schema=outliers.ODDITIES)
            tables.write(found, out["oddities"], counts)
            return counts

        return work

    def _fit(self, path: str, model: Encoder | None, batch: int) -> NDArray[np.floating]:
        """How well captions fit their images, `[n]`; NaN where there is none."""
        if model is None:
            return known_similarity(path, self.similarity)
        assert self.captions is not None  # there is a text tower for them  # noqa: S101
        said = [texts[0] if texts else None for texts in iter_captions(path, self.captions, "curate.outliers.captions")]
        X = tables.matrix(tables.read(path, columns=[tables.EMBEDDING])[tables.EMBEDDING]).astype(np.float32)
        found, rows = np.full(len(X), np.nan, np.float32), [i for i, text in enumerate(said) if text]
        if rows:
            texts = model.words([str(said[i]) for i in rows], ["{}"], batch).astype(np.float32)
            found[rows] = np.einsum("nd,nd->n", X[rows], texts)
        return found


def known_similarity(path: str, column: str | None) -> NDArray[np.floating]:
    """A metadata column of numbers, NaN where it is null or not there. ValueError where it is not of numbers."""
    footer = pq.read_metadata(path)
    if column is None or column not in footer.schema.to_arrow_schema().names:
        return np.full(footer.num_rows, np.nan, np.float32)
    values = tables.read(path, [column])[column]
    numeric = pa.types.is_floating(values.type) or pa.types.is_integer(values.type) or values.null_count == len(values)
    if not numeric:
        raise ValueError(
            f"curate.outliers.similarity: the metadata column {column!r} holds {values.type}, it must be of numbers: "
            "name the one that says how well captions fit, or null"
        )
    found: NDArray[np.floating] = values.cast(pa.float32()).to_numpy().astype(np.float32)
    return found


@dataclass(frozen=True, kw_only=True)
class Scales(Stage):
    """All ODDITIES -> how many images have each value of each part: what ranks are made from."""

    version = 1
    products = (Product("scales", ".safetensors"),)
    each = ()
    whole = ("oddities",)
    similarity: str | None

    def open(self, context: Context) -> Work:
        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            found = {part: np.zeros(outliers.BINS, np.int64) for part in outliers.PARTS}
            rows = 0
            for batch in tables.batches(context.whole["oddities"], outliers.PARTS, context.prefetch):
                rows += len(batch)
                for part in outliers.PARTS:
                    found[part] += outliers.tally(_column(batch, part))
            if self.similarity and not found["caption"].any():
                raise ValueError(
                    f"curate.outliers.similarity: no image has a number in the metadata column {self.similarity!r}: "
                    "name the one that says how well captions fit, or null"
                )
            save_file(found, out["scales"])
            return Counts(rows, rows)

        return work


@dataclass(frozen=True, kw_only=True)
class Outliers(Stage):
    """ODDITIES and scales -> OUTLIERS: the rank of each part over the whole set, and the score."""

    version = 1
    products = (Product("outliers", rows="out"),)
    each = ("oddities",)
    whole = ("scales",)

    def open(self, context: Context) -> Work:
        scales = load_file(context.file("scales"))

        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            table = tables.read(files["oddities"])
            ranked = {
                part: outliers.ranks(scales[part], _column(table, part), part in outliers.ODD_IF_LARGE)
                for part in outliers.PARTS
            }
            known = {part: pa.array(values, pa.float32(), from_pandas=True) for part, values in ranked.items()}
            counts = Counts(len(table), len(table))
            found = pa.table({"key": table["key"], "outlier": outliers.score(ranked), **known}, outliers.OUTLIERS)
            tables.write(found, out["outliers"], counts)
            return counts

        return work


def _column(table: pa.Table | pa.RecordBatch, name: str) -> NDArray[np.floating]:
    values: NDArray[np.floating] = (
        table[name].to_numpy(zero_copy_only=False) if isinstance(table, pa.RecordBatch) else table[name].to_numpy()
    )
    return values.astype(np.float64)
