"""The stages `estimate_k`, `fit` and `project`: estimate K and train the head on a sample, project all FEATURES."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pyarrow as pa

from cpp.files import tables
from cpp.files.tables import Counts
from cpp.files.thinning import stays
from cpp.rate_reduction import recipes
from cpp.store.results import Product, shard_of
from pipelines.config import sections
from pipelines.engine.stage import Context, Inputs, Outputs, Stage, Work
from pipelines.stages import artifacts, schemas

if TYPE_CHECKING:
    from cpp.clustering.estimate_k import Estimate
    from cpp.rate_reduction.fit import StepRecord

ESTIMATE_ROWS = 32_768  # rows read at most: four times `estimate_k.SAMPLE`, so that enough are left without copies


class EstimateK(Stage):
    """Estimate the number of clusters on a sample of FEATURES, in which copies count once."""

    version = 3
    products = (Product("estimate", ".json"),)
    whole = ("features", "thinned")
    gpu = True
    discriminant: recipes.Discriminant
    embeddings: tables.VectorColumns
    max_samples: int
    seed: int

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        import torch

        from cpp.clustering.estimate_k import estimate_k

        features, n_rows = context.whole["features"], min(self.max_samples, ESTIMATE_ROWS)
        among = stays(context.whole.get("thinned", ()), features, shard_of)
        rows = tables.sample_rows(features, self.embeddings, n_rows, self.seed, context.prefetch, among)
        estimate = estimate_k(torch.from_numpy(rows), self.discriminant, self.seed, context.device)
        out["estimate"].write_text(estimate.to_json(), encoding="utf-8")
        print(f"estimate_k: {estimate.sentence}", flush=True)
        return Counts(len(rows), len(rows))


class Fit(Stage):
    """Train the head on a sample of FEATURES."""

    version = 5
    products = (Product("head", ".safetensors"), Product("loss"))
    whole = ("features", "estimate", "thinned")
    gpu = True
    fit: sections.DiscriminantFit | sections.PaperFit
    n_clusters: int | None  # None if it is estimated, or if the recipe does not use it
    seed: int

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        import torch

        from cpp.rate_reduction.fit import fit

        features = context.whole["features"]
        among = stays(context.whole.get("thinned", ()), features, shard_of)
        n_rows, prefetch = self.fit.max_samples, context.prefetch
        rows = tables.sample_rows(features, self.fit.embeddings, n_rows, self.seed, prefetch, among)
        log, estimate = _ProgressLog(), artifacts.read_estimate(context)
        n_clusters = estimate.best if estimate else self.n_clusters
        head, record = fit(torch.from_numpy(rows), self.fit, n_clusters, self.seed, context.device, log)
        head.save(out["head"])
        tables.write(_loss_table(estimate, n_clusters, record), out["loss"])
        return Counts(len(rows), len(rows))


def _loss_table(estimate: Estimate | None, n_clusters: int | None, record: list[StepRecord]) -> pa.Table:
    """The record of the training, which is the last round, after those of the rounds in which K was estimated."""
    followed = [None, *estimate.rounds[:-1], n_clusters] if estimate else [n_clusters]
    records = [*(estimate.records if estimate else []), record]
    rows = [
        {"round": i, "n_clusters": K} | step._asdict()
        for i, (K, steps) in enumerate(zip(followed, records, strict=True))
        for step in steps
    ]
    return pa.Table.from_pylist(rows, schemas.LOSS)


class _ProgressLog:
    """Prints the progress of the training every few seconds."""

    def __init__(self, every: float = 5.0) -> None:
        self.every, self.last = every, time.monotonic()

    def __call__(self, row: StepRecord, n_steps: int) -> None:
        if time.monotonic() - self.last >= self.every:
            self.last = time.monotonic()
            rates = f"R {row.R:.1f}, R_c {row.R_c:.1f}, ||Pi||^2 {row.pi_norm2:.1f}"
            print(f"fit: step {row.step + 1} of {n_steps}, {rates}", flush=True)


class Project(Stage):
    """Project FEATURES to CODES: z = head(features), float16 unit rows."""

    version = 1
    products = (Product("codes", rows="out"),)
    each = ("features",)
    whole = ("head",)
    gpu = True
    embeddings: tables.VectorColumns

    def open(self, context: Context) -> Work:
        import torch

        from cpp.rate_reduction.head import Head

        head = Head.load(context.file("head"), context.device)

        def work(files: Inputs, out: Outputs) -> Counts:
            table = tables.read(files["features"], columns=["key", *self.embeddings])
            Z = head.project(torch.from_numpy(tables.join_vectors(table, self.embeddings)), context.batch).Z
            counts = Counts(len(table), len(Z))
            columns = {"key": table["key"].combine_chunks(), "code": tables.matrix_column(Z.numpy())}
            tables.write(pa.table(columns, schemas.vectors("code", Z.shape[1])), out["codes"], counts)
            return counts

        return work
