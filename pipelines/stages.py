"""The stages of a run, from FEATURES to a page. Each reads and writes files and leaves the thinking to `cpp`."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from cpp import label, metrics, partition, quality, report, tables, vectors
from cpp.assign import Nearest
from cpp.fit import StepRecord, fit
from cpp.head import Head
from cpp.rate import Moments
from cpp.store import Product
from cpp.tables import Counts
from pipelines import config
from pipelines.events import seconds_by_step, versions
from pipelines.stage import Given, Stage, Work


@dataclass(frozen=True)
class Fit(Stage):
    """A sample of FEATURES -> the head and its loss record."""

    version = 1
    products = (Product("head", ".safetensors"), Product("loss"))
    each = ()
    whole = ("features",)
    fit: config.DiscriminantFit | config.PaperFit
    n_clusters: int | None  # where the recipe looks at it
    seed: int

    def open(self, given: Given) -> Work:
        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            features = given.whole["features"]
            rows = tables.sample_rows(features, self.fit.embeddings, self.fit.max_samples, self.seed, given.prefetch)
            found = fit(torch.from_numpy(rows), self.fit, self.n_clusters, self.seed, given.device, _Teller())
            head, record = found
            head.save(out["head"])
            loss = {name: [row[i] for row in record] for i, name in enumerate(StepRecord._fields)}
            tables.write(pa.table(loss), out["loss"])
            return Counts(len(rows), len(rows))

        return work


class _Teller:
    """Prints how the training goes, every few seconds."""

    def __init__(self, every: float = 5.0) -> None:
        self.every, self.last = every, time.monotonic()

    def __call__(self, row: StepRecord, n_steps: int) -> None:
        if time.monotonic() - self.last >= self.every:
            self.last = time.monotonic()
            rates = f"R {row.R:.1f}, R_c {row.R_c:.1f}, ||Pi||^2 {row.pi_norm2:.1f}"
            print(f"fit: step {row.step + 1} of {n_steps}, {rates}", flush=True)


@dataclass(frozen=True)
class Project(Stage):
    """FEATURES -> CODES: z = head(features), unit rows in float16."""

    version = 1
    products = (Product("codes", rows="out"),)
    each = ("features",)
    whole = ("head",)
    embeddings: list[str]

    def open(self, given: Given) -> Work:
        head = Head.load(given.whole["head"][0], given.device)

        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            table = pq.read_table(files["features"], columns=["key", *self.embeddings])
            Z = head.project(torch.from_numpy(tables.joined(table, self.embeddings)), given.batch).Z
            counts = Counts(len(table), len(Z))
            tables.write(pa.table({"key": table["key"], "code": tables.matrix_column(Z.numpy())}), out["codes"], counts)
            return counts

        return work


@dataclass(frozen=True)
class Partition(Stage):
    """A sample of FEATURES through the head -> K groups: unit centroids of z, counts, Gram matrices, coding rates."""

    version = 2
    products = (Product("groups", ".safetensors"),)
    each = ()
    whole = ("features", "head")
    partition: config.Partition
    embeddings: list[str]
    seed: int

    def open(self, given: Given) -> Work:
        head = Head.load(given.whole["head"][0], given.device)

        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            p, K = self.partition, self.partition.n_clusters
            X = tables.sample_rows(given.whole["features"], self.embeddings, p.sample, self.seed, given.prefetch)
            codes = head.project(torch.from_numpy(X), given.batch)
            found = partition.partition(codes, K, p.method, p.eta, p.landmarks, self.seed, given.device == "cuda")
            how = {"method": found.method, "silhouettes": found.silhouettes}
            print(f"partition: {report.how_partitioned(how)}", flush=True)
            Z = codes.Z
            groups = torch.from_numpy(found.group)
            moments = Moments.of(Z, groups, K)
            arrays = {
                "centroids": partition.centroids(Z, groups, K).numpy(),
                "count": moments.count_K.numpy(),
                "gram": moments.gram_Kdd.to(torch.float32).numpy(),
                "coding_rate": moments.coding_rate(p.distortion).numpy(),
            }
            save_file(arrays, out["groups"], metadata={"partition": json.dumps(how)})
            for warning in quality.warnings(moments, [int(n) for n in moments.count_K]):
                print(f"partition: {warning}", flush=True)
            return Counts(len(X), len(X))

        return work


@dataclass(frozen=True)
class Assign(Stage):
    """CODES -> ASSIGNMENTS: the nearest group of every image, and all that is known of the image but its vector."""

    version = 1
    products = (Product("assignments", rows="out"),)
    each = ("codes", "features")
    whole = ("groups",)

    def open(self, given: Given) -> Work:
        nearest = Nearest(load_file(given.whole["groups"][0])["centroids"], given.device == "cuda")

        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            codes = pq.read_table(files["codes"])
            found = nearest(tables.matrix(codes["code"]).astype(np.float32), given.batch)
            names = pq.read_schema(files["features"]).names
            about = [name for name in names if not re.fullmatch(rf"key|{tables.EMBEDDING}(_\d+)?", name)]
            rest = pq.read_table(files["features"], columns=about)
            table = pa.table({"key": codes["key"], **found._asdict(), **dict(zip(about, rest.columns, strict=True))})
            counts = Counts(len(rest), len(table))
            tables.write(table, out["assignments"], counts)
            return counts

        return work


@dataclass(frozen=True)
class Vote(Stage):
    """FEATURES and ASSIGNMENTS -> the votes of a shard's images for words, by cluster."""

    version = 1
    products = (Product("votes"),)
    each = ("features", "assignments")
    whole = ("vocabulary", "words")
    embedding: str
    top: int

    def open(self, given: Given) -> Work:
        vocabulary = read_vocabulary(given)

        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            features = pq.read_table(files["features"], columns=[self.embedding])
            X = torch.from_numpy(tables.matrix(features[self.embedding]))
            cluster = pq.read_table(files["assignments"], columns=["cluster"])["cluster"].to_numpy()
            votes = label.vote(X, cluster, vocabulary, self.top, given.batch, given.device)
            counts = Counts(len(X), len(cluster))
            tables.write(pa.table({f.name: getattr(votes, f.name) for f in fields(votes)}), out["votes"], counts)
            return counts

        return work


@dataclass(frozen=True)
class Label(Stage):
    """Votes of all shards -> `clusters.parquet`: sizes over the whole set, names with evidence, coding rates."""

    version = 1
    products = (Product("clusters"),)
    each = ()
    whole = ("assignments", "groups", "votes", "vocabulary", "words")
    top: int

    def open(self, given: Given) -> Work:
        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            rates = load_file(given.whole["groups"][0])["coding_rate"]
            size = np.zeros(len(rates), np.int64)
            for batch in tables.batches(given.whole["assignments"], ["cluster"], given.prefetch):
                size += np.bincount(batch["cluster"].to_numpy(), minlength=len(rates))
            words: tuple[str, ...] = ()
            votes = label.Votes.total([])
            if "votes" in given.whole:
                words = read_vocabulary(given).words
                for batch in tables.batches(given.whole["votes"], ["cluster", "word", "vote"], given.prefetch):
                    votes = label.Votes.total([votes, label.Votes(*(column.to_numpy() for column in batch.columns))])
            table = label.clusters(size, label.names(votes, words, len(rates), self.top), rates)
            tables.write(table, out["clusters"])
            return Counts(int(size.sum()), int(size.sum()))

        return work


@dataclass(frozen=True)
class Evaluate(Stage):
    """ASSIGNMENTS against a label column -> `scores.json`, with k-means on the raw features scored in the same run."""

    version = 1
    products = (Product("scores", ".json"),)
    each = ()
    whole = ("features", "assignments")
    evaluate: config.Evaluate
    embeddings: list[str]
    n_clusters: int
    seed: int

    def open(self, given: Given) -> Work:
        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            e, features, assignments = self.evaluate, given.whole["features"], given.whole["assignments"]
            rows = metrics.labelled(assignments, e.label, given.prefetch)
            sample = tables.sample_rows(features, self.embeddings, e.baseline_sample, self.seed, given.prefetch)
            batches = tables.batches(features, self.embeddings, given.prefetch)
            vectors = (tables.joined(batch, self.embeddings) for batch in batches)
            baseline = metrics.kmeans_baseline(sample, vectors, self.n_clusters, self.seed)
            methods = {"this run": rows.cluster, "k-means on the raw features, 10 restarts": baseline}
            found = {
                "label": e.label,
                "rows": int(rows.known.sum()),
                "unlabelled": int((~rows.known).sum()),
                "classes": len(np.unique(rows.label[rows.known])),
                "methods": [
                    {
                        "method": name,
                        "clusters": self.n_clusters,
                        **metrics.scores(rows.label[rows.known], cluster[rows.known])._asdict(),
                    }
                    for name, cluster in methods.items()
                ],
            }
            out["scores"].write_text(json.dumps(found, indent=2) + "\n")
            return Counts(len(rows.known), len(rows.known))

        return work


@dataclass(frozen=True)
class Report(Stage):
    """Everything -> `report.html`. The event log gives the timings; it is no cause of the page."""

    version = 1
    products = (Product("report", ".html"),)
    each = ()
    whole = ("clusters", "groups", "assignments", "rejected", "loss", "scores", "events")
    title: str
    about: str

    def open(self, given: Given) -> Work:
        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            clusters = pq.read_table(given.whole["clusters"][0]).to_pylist()
            loss = pq.read_table(given.whole["loss"][0])
            rejected = tables.batches(given.whole["rejected"], ["reason"], given.prefetch)
            page = report.Page(
                title=self.title,
                rejected=Counter(reason for batch in rejected for reason in batch["reason"].to_pylist()),
                clusters=clusters,
                members=report.members(given.whole["assignments"], given.prefetch, n_clusters=len(clusters)),
                curves=[
                    report.Curve("R", "nats", loss["R"].to_pylist()),
                    report.Curve("R_c", "nats", loss["R_c"].to_pylist()),
                    report.Curve("‖Π‖²", "", loss["pi_norm2"].to_pylist()),
                ],
                warmup_steps=sum(loss["warmup"].to_pylist()),
                seconds=seconds_by_step(Path(given.whole["events"][0])),
                settings=self.about,
                versions=versions(),
                partition=report.how_partitioned(read_how(given)),
                warnings=quality.warnings(read_moments(given), [cluster["size"] for cluster in clusters]),
                scores=json.loads(Path(given.whole["scores"][0]).read_text()) if "scores" in given.whole else None,
            )
            out["report"].write_text(report.render(page), encoding="utf-8")
            return Counts(page.images, page.images)

        return work


def read_how(given: Given) -> dict[str, Any]:
    """How the sample was partitioned."""
    with safe_open(given.whole["groups"][0], framework="numpy") as file:
        found: dict[str, Any] = json.loads(file.metadata()["partition"])
    return found


def read_moments(given: Given) -> Moments:
    """Counts and Gram matrices of the groups in the partition's sample."""
    groups = load_file(given.whole["groups"][0])
    return Moments(torch.from_numpy(groups["count"]), torch.from_numpy(groups["gram"]).to(torch.float64))


def read_vocabulary(given: Given) -> label.Vocabulary:
    """One vocabulary from folders of words with vectors and from encoded words; of equal words the first counts."""
    parts = {folder: vectors.read_words(folder) for folder in given.whole.get("vocabulary", [])}
    for path in given.whole.get("words", []):
        table = pq.read_table(path)
        parts["the encoder of this run"] = table["word"].to_pylist(), tables.matrix(table["embedding"])
    dims = {place: X.shape[1] for place, (_, X) in parts.items()}
    if len(set(dims.values())) > 1:
        raise ValueError(f"label.vocabulary: the dimensions differ, {dims}; all must come from one text tower")
    words = [word for some, _ in parts.values() for word in some]
    return label.Vocabulary.of(words, np.concatenate([X for _, X in parts.values()]))
