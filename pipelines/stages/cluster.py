"""The stages of clustering: fine groups of a sample, their moments over all data, K and layers, assignment."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa

from cpp.clustering.answers import NO_LINKS
from cpp.clustering.layers import build_layers
from cpp.files import tables
from cpp.files.common_schema import conform
from cpp.files.tables import Counts
from cpp.files.thinning import stays
from cpp.store.results import Product, shard_of
from pipelines.engine.stage import Context, Inputs, Outputs, Stage, Work
from pipelines.stages import artifacts, schemas

if TYPE_CHECKING:
    from cpp.clustering.partition import Method

FINER = 4  # fine groups for each cluster of the finest layer, so that merging them can follow the classes


class Partition(Stage):
    """Partition the codes of a sample of FEATURES, without copies, into clusters, and measure their noise.

    If a layer is finer than the clusters, or answers may split clusters, these are divided into fine groups.
    """

    version = 9
    products = (Product("groups", ".safetensors"),)
    whole = ("features", "head", "estimate", "thinned")
    gpu = True
    n_clusters: int | None
    fine: int | None  # None: as many as clusters or, if more are needed, `FINER` times those needed
    finest: int  # number of clusters in the finest layer that was requested; 0 without one
    answered: bool  # whether answers may split clusters
    method: Method
    eta: float
    sample: int
    landmarks: int
    directions: int | None
    distortion: float | None
    candidates: list[int]
    embeddings: tables.VectorColumns
    seed: int

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        import torch

        from cpp.clustering.partition import fine_groups
        from cpp.rate_reduction.copies import distinct_rows
        from cpp.rate_reduction.head import Head

        features = context.whole["features"]
        among = stays(context.whole.get("thinned", ()), features, shard_of)
        X = tables.sample_rows(features, self.embeddings, self.sample, self.seed, context.prefetch, among)
        head = Head.load(context.file("head"), context.device)
        rows, gpu, estimate = torch.from_numpy(X), context.device == "cuda", artifacts.read_estimate(context)
        n_clusters = estimate.best if estimate else self.n_clusters
        needed = max(self.finest, n_clusters or 0)
        groups = fine_groups(
            head.project(rows, context.batch),
            distinct_rows(rows, gpu),
            n_clusters=n_clusters,
            fine=self.fine or (FINER * needed if self.answered or needed > (n_clusters or 0) else None),
            candidates=self.candidates,
            method=self.method,
            eta=self.eta,
            landmarks=self.landmarks,
            directions=self.directions,
            distortion=self.distortion,
            isolated=estimate is None,
            seed=self.seed,
            gpu=gpu,
        )
        if len(groups.centroids) < self.finest:
            raise ValueError(
                f"partition.layers has {self.finest}, but the {len(rows):,} rows of the sample make only "
                f"{len(groups.centroids):,} groups: remove this layer, or raise partition.sample"
            )
        artifacts.write_groups(groups, out["groups"])
        K = len(np.unique(groups.cluster))
        message = f"partition: {K:,} cluster{'s' * (K != 1)} by {groups.method}"
        if len(groups.centroids) > K:
            message += f", divided into {len(groups.centroids):,} fine groups"
        if groups.silhouettes:
            message += "; silhouettes: " + ", ".join(
                f"{name} {value:.3f}" for name, value in groups.silhouettes.items()
            )
        if groups.candidates:
            message += "; bits of each K: " + ", ".join(f"{k} {bits:,.0f}" for k, bits in groups.candidates.items())
        print(message, flush=True)
        return Counts(len(X), len(X))


class Measure(Stage):
    """Sum the moments of the fine groups over all CODES, exactly, with copies of a row of the sample counted once.

    Coding lengths, K and layers follow from them.
    """

    version = 3
    products = (Product("moments", ".safetensors"),)
    whole = ("codes", "groups")
    gpu = True

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        batches = tables.batches(context.whole["codes"], ["code"], context.prefetch)
        codes = (tables.matrix(batch["code"]).astype(np.float32) for batch in batches)
        measured = artifacts.read_groups(context).moments(codes, context.batch, context.device == "cuda")
        moments, rows, copies = measured
        artifacts.write_moments(measured, out["moments"])
        if isolated := rows - copies - int(moments.count_K.sum()):
            print(
                f"measure: {isolated:,} of {rows:,} rows are far from every group: coding lengths leave them out",
                flush=True,
            )
        if copies:
            print(f"measure: {copies:,} of {rows:,} rows are copies of others; they count once for K", flush=True)
        return Counts(rows, rows)


class CutLayers(Stage):
    """Build the merge tree from the moments, and cut it into layers.

    Links between fine groups, from answers about pairs of clusters, change the cuts.
    """

    version = 4
    products = (Product("tree", ".safetensors"),)
    whole = ("groups", "moments", "links", "estimate")
    n_clusters: int | None
    layers: list[int] | Literal["auto"]

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        moments = artifacts.read_part_moments(context)
        links, estimate = artifacts.read_links(context), artifacts.read_estimate(context)
        built = build_layers(artifacts.read_groups(context), moments, self.layers, links)
        artifacts.write_tree(built, out["tree"])
        if estimate:
            print(f"layers: {estimate.sentence}", flush=True)
        if links != NO_LINKS:
            answers = f"{len(links.same):,} same, {len(links.different):,} different"
            print(f"layers: {built.main:,} clusters after the answers about pairs: {answers}", flush=True)
        elif self.n_clusters and built.main < self.n_clusters:
            shortage = (
                f"partition.n_clusters is {self.n_clusters:,}, but only {built.main:,} groups have different rows"
            )
            print(f"layers: {shortage}, so there are {built.main:,} clusters: lower n_clusters, or remove copies")
        rows = int(moments.count_K.sum())
        return Counts(rows, rows)


class Assign(Stage):
    """Assign every image to its cluster in every layer, and copy its metadata in the common schema of the run.

    If the search is not exact, `cpp.recall` in the file's metadata is the share of a sample that got its nearest group.
    `artifacts.LOST` has the numbers of values, by column, that the schema has no place for: those of appended shards.
    """

    version = 3
    products = (Product("assignments", rows="out"),)
    each = ("codes", "features")
    whole = ("groups", "tree", "columns")
    gpu = True

    def open(self, context: Context) -> Work:
        from cpp.nearest import Nearest

        tree, schema = artifacts.read_tree(context), tables.read_schema(context.file("columns"))
        nearest = Nearest(artifacts.read_groups(context).centroids, context.device == "cuda", tree.clusters[tree.main])

        def work(files: Inputs, out: Outputs) -> Counts:
            codes = tables.read(files["codes"])
            Z = tables.matrix(codes["code"]).astype(np.float32)
            assigned = nearest(Z, context.batch)
            table = pa.table({"key": codes["key"].combine_chunks(), **assigned._asdict()}, schemas.ASSIGNED)
            for K, cluster in tree.clusters.items():
                if tree.main != K:
                    table = table.append_column(tree.column(K), pa.array(cluster[assigned.group].astype(np.int32)))
            metadata, lost = conform(artifacts.read_metadata(files["features"]), schema)
            for field in metadata.schema:
                table = table.append_column(field, metadata[field.name])
            footer = {} if nearest.exact else {"cpp.recall": f"{nearest.recall(Z):.4f}"}
            footer |= {artifacts.LOST: json.dumps(lost)} if lost else {}
            counts = Counts(len(metadata), len(table))
            tables.write(table, out["assignments"], counts, footer)
            return counts

        return work
