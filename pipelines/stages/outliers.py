"""The stages of outlier scores: the parts by shard, their distribution over the whole set, ranks and one score."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from safetensors.numpy import load_file, save_file

from cpp.curation import outliers
from cpp.files import tables
from cpp.files.tables import Counts
from cpp.store.results import Product
from pipelines.engine.stage import Context, Inputs, Outputs, Stage, Work
from pipelines.stages.artifacts import read_cluster_moments, read_groups, read_tree


class Oddities(Stage):
    """Measure the parts of the outlier score for every image."""

    version = 3
    products = (Product("oddities", rows="out"),)
    each = ("features", "codes", "assignments", "caption_match")
    whole = ("features", "groups", "tree", "moments")
    gpu = True
    embeddings: tables.VectorColumns
    neighbours: int
    sample: int
    seed: int

    def open(self, context: Context) -> Work:
        import torch

        tree, groups = read_tree(context), read_groups(context)
        features = context.whole[self.whole[0]]
        drawn = tables.sample_rows(features, self.embeddings, self.sample, self.seed, context.prefetch)
        density = outliers.Density(drawn, self.neighbours, context.device == "cuda")
        residual = outliers.Residual(read_cluster_moments(context, tree.clusters[tree.main]), tree.metadata["e"])

        def work(files: Inputs, out: Outputs) -> Counts:
            table = tables.read(files["features"], columns=["key", *self.embeddings])
            assigned = tables.read(files["assignments"], columns=["cluster", "margin"])
            Z = tables.matrix(tables.read(files["codes"], columns=["code"])["code"]).astype(np.float32) @ groups.basis
            caption = np.full(len(table), np.nan)
            if "caption_match" in files:
                caption = np.asarray(tables.read(files["caption_match"], ["caption"])["caption"], np.float64)
            cluster = torch.from_numpy(assigned["cluster"].to_numpy().astype(np.int64))
            parts = {
                "margin": assigned["margin"].to_numpy(),
                "density": density(tables.join_vectors(table, self.embeddings), context.batch),
                "residual": residual(torch.from_numpy(Z), cluster),
                "caption": caption,
            }
            counts = Counts(len(table), len(cluster))
            tables.write(pa.table({"key": table["key"], **parts}, schema=outliers.ODDITIES), out["oddities"], counts)
            return counts

        return work


class AppendedOddities(Oddities):
    """Measure appended images by the images of the run, among which their neighbours are."""

    whole = ("run_features", "groups", "tree", "moments")


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
                f"curate.similarity: no image has a number in the metadata column {self.similarity!r}: "
                "name the column with the similarity of image and caption, or null"
            )
        save_file(counts, out["scales"])
        return Counts(rows, rows)


class Outliers(Stage):
    """Write the score of every image, and the ranks of its measures over the whole set."""

    version = 2
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
            scored = {"key": table["key"], "outlier": known[outliers.SCORE], **known}
            tables.write(pa.table(scored, outliers.OUTLIERS), out["outliers"], counts)
            return counts

        return work
