"""The stages of outlier scores: the parts by shard, their distribution over the whole set, ranks and one score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from pydantic import Field
from safetensors.numpy import load_file, save_file

from cpp.curation import outliers
from cpp.files import tables
from cpp.files.tables import Counts
from cpp.store.results import Product
from pipelines.engine.stage import Context, Inputs, Outputs, Stage, Work
from pipelines.stages.artifacts import Model, iter_captions, numbers, read_cluster_moments, read_groups, read_tree

if TYPE_CHECKING:
    from cpp.encoding.encoder import Encoder


class TextTower(Model):
    """An encoder of words, and the column with its image vectors."""

    column: str = Field(  # left out of the fingerprints of results that are older than the key
        tables.EMBEDDING, exclude_if=lambda column: column == tables.EMBEDDING
    )


class Oddities(Stage):
    """Measure the parts of the outlier score for every image."""

    version = 2
    products = (Product("oddities", rows="out"),)
    each = ("features", "codes", "assignments")
    whole = ("features", "groups", "tree", "moments")
    gpu = True
    embeddings: tables.VectorColumns
    neighbours: int
    sample: int
    similarity: str | None
    captions: str | None
    tower: TextTower | None  # if captions are encoded
    seed: int

    def open(self, context: Context) -> Work:
        tree, groups = read_tree(context), read_groups(context)
        drawn = tables.sample_rows(context.whole["features"], self.embeddings, self.sample, self.seed, context.prefetch)
        density = outliers.Density(drawn, self.neighbours, context.device == "cuda")
        residual = outliers.Residual(read_cluster_moments(context, tree.clusters[tree.main]), tree.metadata["e"])
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
                "caption": self._caption_similarity(files, model, context.image_batch),
            }
            counts = Counts(len(table), len(cluster))
            tables.write(pa.table({"key": table["key"], **parts}, schema=outliers.ODDITIES), out["oddities"], counts)
            return counts

        return work

    def _caption_similarity(self, files: Inputs, model: Encoder | None, batch: int) -> NDArray[np.floating]:
        """Cosine of each image and its first caption, `[n]`, encoded or from a column; NaN where it is unknown."""
        path = files["assignments"]  # its schema is that of all shards
        footer = pq.read_metadata(path)
        similarity = np.full(footer.num_rows, np.nan)
        if model is None or self.tower is None or self.captions is None:
            if self.similarity is None or self.similarity not in footer.schema.to_arrow_schema().names:
                return similarity
            return numbers(tables.read(path, [self.similarity]), self.similarity, "curate.outliers.similarity")
        captions = iter_captions(path, self.captions, "curate.outliers.captions")
        first = {row: texts[0] for row, texts in enumerate(captions) if texts}
        if first:
            column = self.tower.column
            X = tables.matrix(tables.read(files["features"], [column])[column]).astype(np.float32)
            texts = model.words(list(first.values()), ["{}"], batch).astype(np.float32)
            similarity[list(first)] = np.einsum("nd,nd->n", X[list(first)], texts)
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
                counts[part] += outliers.histogram(np.asarray(batch[part], np.float64))
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
                part: outliers.ranks(scales[part], np.asarray(table[part], np.float64), part in outliers.ODD_IF_LARGE)
                for part in outliers.PARTS
            }
            known = {part: pa.array(values, pa.float32(), from_pandas=True) for part, values in ranked.items()}
            counts = Counts(len(table), len(table))
            scored = {"key": table["key"], "outlier": outliers.score(ranked), **known}
            tables.write(pa.table(scored, outliers.OUTLIERS), out["outliers"], counts)
            return counts

        return work
