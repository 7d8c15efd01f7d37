"""The stages of outlier scores: the parts by shard, their distribution over the whole set, ranks and one score."""

from __future__ import annotations

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
from pipelines.engine.stage import Context, Inputs, Outputs, Stage, Work
from pipelines.stages.artifacts import Model, iter_captions, read_cluster_moments, read_groups, read_tree

if TYPE_CHECKING:
    from cpp.encoding.encoder import Encoder


class Oddities(Stage):
    """Measure the parts of the outlier score for every image."""

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
    tower: Model | None  # the text tower of the column `embedding`, if captions are encoded
    seed: int

    def open(self, context: Context) -> Work:
        tree, groups = read_tree(context), read_groups(context)
        drawn = tables.sample_rows(context.whole["features"], self.embeddings, self.sample, self.seed, context.prefetch)
        density = outliers.Density(drawn, self.neighbours, context.device == "cuda")
        residual = outliers.Residual(read_cluster_moments(context, tree.clusters[tree.main]), tree.about["e"])
        model = self.tower.open(context.device) if self.tower else None

        def work(files: Inputs, out: Outputs) -> Counts:
            table = tables.read(files["features"], columns=["key", *self.embeddings])
            assigned = tables.read(files["assignments"], columns=["cluster", "margin"])
            Z = tables.matrix(tables.read(files["codes"], columns=["code"])["code"]).astype(np.float32) @ groups.basis
            cluster = torch.from_numpy(assigned["cluster"].to_numpy().astype(np.int64))
            parts = {
                "margin": assigned["margin"].to_numpy(),
                "density": density(tables.join_vectors(table, self.embeddings), context.batch),
                "residual": residual(torch.from_numpy(Z), cluster),
                "caption": self._caption_similarity(files["features"], model, context.image_batch),
            }
            counts = Counts(len(table), len(cluster))
            tables.write(pa.table({"key": table["key"], **parts}, schema=outliers.ODDITIES), out["oddities"], counts)
            return counts

        return work

    def _caption_similarity(self, path: str, model: Encoder | None, batch: int) -> NDArray[np.floating]:
        """Cosine of each caption and its image, `[n]`; NaN for an image without a caption."""
        if model is None:
            return known_similarity(path, self.similarity)
        assert self.captions is not None  # a text tower is given only with captions  # noqa: S101
        captions = iter_captions(path, self.captions, "curate.outliers.captions")
        first = [texts[0] if texts else None for texts in captions]
        X = tables.matrix(tables.read(path, columns=[tables.EMBEDDING])[tables.EMBEDDING]).astype(np.float32)
        similarity, rows = np.full(len(X), np.nan, np.float32), [i for i, text in enumerate(first) if text]
        if rows:
            texts = model.words([str(first[i]) for i in rows], ["{}"], batch).astype(np.float32)
            similarity[rows] = np.einsum("nd,nd->n", X[rows], texts)
        return similarity


def known_similarity(path: str, column: str | None) -> NDArray[np.floating]:
    """A metadata column of numbers, NaN for null or a missing column. ValueError if the column is not of numbers."""
    footer = pq.read_metadata(path)
    if column is None or column not in footer.schema.to_arrow_schema().names:
        return np.full(footer.num_rows, np.nan, np.float32)
    values = tables.read(path, [column])[column]
    numeric = pa.types.is_floating(values.type) or pa.types.is_integer(values.type) or values.null_count == len(values)
    if not numeric:
        raise ValueError(
            f"curate.outliers.similarity: the metadata column {column!r} holds {values.type}, not numbers: "
            "name the column with the similarity of image and caption, or null"
        )
    similarity: NDArray[np.floating] = values.cast(pa.float32()).to_numpy().astype(np.float32)
    return similarity


class Scales(Stage):
    """Count how many images have each value of each part; the ranks follow from these histograms."""

    version = 1
    products = (Product("scales", ".safetensors"),)
    whole = ("oddities",)
    similarity: str | None

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        counts = {part: np.zeros(outliers.BINS, np.int64) for part in outliers.PARTS}
        rows = 0
        for batch in tables.batches(context.whole["oddities"], outliers.PARTS, context.prefetch):
            rows += len(batch)
            for part in outliers.PARTS:
                counts[part] += outliers.histogram(_column(batch, part))
        if self.similarity and not counts["caption"].any():
            raise ValueError(
                f"curate.outliers.similarity: no image has a number in the metadata column {self.similarity!r}: "
                "name the column with the similarity of image and caption, or null"
            )
        save_file(counts, out["scales"])
        return Counts(rows, rows)


class Outliers(Stage):
    """Score every image by the ranks of its parts over the whole set."""

    version = 1
    products = (Product("outliers", rows="out"),)
    each = ("oddities",)
    whole = ("scales",)

    def open(self, context: Context) -> Work:
        scales = load_file(context.file("scales"))

        def work(files: Inputs, out: Outputs) -> Counts:
            table = tables.read(files["oddities"])
            ranked = {
                part: outliers.ranks(scales[part], _column(table, part), part in outliers.ODD_IF_LARGE)
                for part in outliers.PARTS
            }
            known = {part: pa.array(values, pa.float32(), from_pandas=True) for part, values in ranked.items()}
            counts = Counts(len(table), len(table))
            scored = {"key": table["key"], "outlier": outliers.score(ranked), **known}
            tables.write(pa.table(scored, outliers.OUTLIERS), out["outliers"], counts)
            return counts

        return work


def _column(table: pa.Table | pa.RecordBatch, name: str) -> NDArray[np.floating]:
    values: NDArray[np.floating] = (
        table[name].to_numpy(zero_copy_only=False) if isinstance(table, pa.RecordBatch) else table[name].to_numpy()
    )
    return values.astype(np.float64)
