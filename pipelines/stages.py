"""The stages of a run, from vectors to a page. Each reads and writes files and leaves the thinking to `cpp`."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from safetensors.numpy import load_file, save_file
from sklearn.cluster import KMeans

from cpp import label, metrics, partition, report, tables, vectors
from cpp.assign import Nearest
from cpp.fit import StepRecord, train
from cpp.head import Head
from cpp.rate import Moments
from cpp.store import Product
from cpp.tables import Counts
from pipelines import config
from pipelines.events import seconds_by_step, versions
from pipelines.stage import Given, Work


@dataclass(frozen=True)
class Import:
    """Vectors that exist -> FEATURES: unit rows in float16 with their metadata. A row that is no vector is rejected."""

    version: ClassVar = 1
    products: ClassVar = (Product("features", rows="out"), Product("rejected", rows="rejected"))
    each: ClassVar = ("vectors", "metadata", "images")
    whole: ClassVar = ()
    key: str | None
    dim: int

    def open(self, given: Given) -> Work:
        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            source = (files["vectors"], files["metadata"], files.get("images"))
            features, rejected = vectors.import_vectors(*source, self.key, self.dim)
            counts = Counts(len(features) + len(rejected), len(features), len(rejected))
            tables.write(features, out["features"], counts)
            tables.write(rejected, out["rejected"], counts)
            return counts

        return work


@dataclass(frozen=True)
class Fit:
    """A sample of FEATURES -> the head and its loss record."""

    version: ClassVar = 1
    products: ClassVar = (Product("head", ".safetensors"), Product("loss"))
    each: ClassVar = ()
    whole: ClassVar = ("features",)
    fit: config.Fit
    seed: int

    def open(self, given: Given) -> Work:
        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            rows = tables.sample_rows(given.whole["features"], "embedding", self.fit.max_samples, self.seed, given.prefetch)
            head, record = train(torch.from_numpy(rows), self.fit, self.seed, given.device, _Teller())
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
            print(f"fit: step {row.step + 1} of {n_steps}, R {row.R:.1f}, R_c {row.R_c:.1f}, ||Pi||^2 {row.pi_norm2:.1f}", flush=True)


@dataclass(frozen=True)
class Project:
    """FEATURES -> CODES: z = head(features), unit rows in float16."""

    version: ClassVar = 1
    products: ClassVar = (Product("codes", rows="out"),)
    each: ClassVar = ("features",)
    whole: ClassVar = ("head",)

    def open(self, given: Given) -> Work:
        head = Head.load(given.whole["head"][0], given.device)

        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            table = pq.read_table(files["features"], columns=["key", "embedding"])
            Z = head.project(torch.from_numpy(tables.matrix(table["embedding"])), given.batch).Z
            counts = Counts(len(table), len(Z))
            tables.write(pa.table({"key": table["key"], "code": tables.matrix_column(Z.numpy())}), out["codes"], counts)
            return counts

        return work


@dataclass(frozen=True)
class Partition:
    """A sample of FEATURES through the head -> K groups: unit centroids of z, counts, Gram matrices, coding rates."""

    version: ClassVar = 1
    products: ClassVar = (Product("groups", ".safetensors"),)
    each: ClassVar = ()
    whole: ClassVar = ("features", "head")
    partition: config.Partition
    eta: float
    half_steps: int
    distortion: float
    share_heads: bool
    seed: int

    def open(self, given: Given) -> Work:
        head = Head.load(given.whole["head"][0], given.device)

        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            K = self.partition.n_clusters
            X = tables.sample_rows(given.whole["features"], "embedding", self.partition.sample, self.seed, given.prefetch)
            Z, C = head.project(torch.from_numpy(X), given.batch)
            if self.partition.method == "spectral":
                codes = Z if self.share_heads else C
                group = partition.spectral(codes.to(given.device), K, self.eta, self.half_steps, self.seed)
            else:
                group = partition.spherical_kmeans(Z, K, self.seed, given.device == "cuda")
            groups = torch.from_numpy(group)
            moments = Moments.of(Z, groups, K)
            arrays = {
                "centroids": partition.centroids(Z, groups, K).numpy(),
                "count": moments.count_K.numpy(),
                "gram": moments.gram_Kdd.to(torch.float32).numpy(),
                "coding_rate": moments.coding_rate(self.distortion).numpy(),
            }
            save_file(arrays, out["groups"])
            return Counts(len(X), len(X))

        return work


@dataclass(frozen=True)
class Assign:
    """CODES -> ASSIGNMENTS: the nearest group of every image, and all that is known of the image but its vector."""

    version: ClassVar = 1
    products: ClassVar = (Product("assignments", rows="out"),)
    each: ClassVar = ("codes", "features")
    whole: ClassVar = ("groups",)

    def open(self, given: Given) -> Work:
        nearest = Nearest(load_file(given.whole["groups"][0])["centroids"], given.device == "cuda")

        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            codes = pq.read_table(files["codes"])
            found = nearest(tables.matrix(codes["code"]).astype(np.float32), given.batch)
            table = pa.table({"key": codes["key"], **{name: pa.array(column) for name, column in found._asdict().items()}})
            schema = pq.read_schema(files["features"])
            about = pq.read_table(files["features"], columns=[n for n in schema.names if n not in ("key", "embedding")])
            for name in about.column_names:
                table = table.append_column(about.schema.field(name), about[name])
            counts = Counts(pq.read_metadata(files["features"]).num_rows, len(table))
            tables.write(table, out["assignments"], counts)
            return counts

        return work


@dataclass(frozen=True)
class Vote:
    """FEATURES and ASSIGNMENTS -> the votes of a shard's images for words, by cluster."""

    version: ClassVar = 1
    products: ClassVar = (Product("votes"),)
    each: ClassVar = ("features", "assignments")
    whole: ClassVar = ("vocabulary",)
    top: int

    def open(self, given: Given) -> Work:
        vocabulary = read_vocabulary(given.whole["vocabulary"])

        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            X = torch.from_numpy(tables.matrix(pq.read_table(files["features"], columns=["embedding"])["embedding"]))
            cluster = pq.read_table(files["assignments"], columns=["cluster"])["cluster"].to_numpy()
            votes = label.vote(X, cluster, vocabulary, self.top, given.batch, given.device)
            counts = Counts(len(X), len(cluster))
            tables.write(pa.table({"cluster": votes.cluster, "word": votes.word, "vote": votes.vote}), out["votes"], counts)
            return counts

        return work


@dataclass(frozen=True)
class Label:
    """Votes of all shards -> `clusters.parquet`: sizes over the whole set, names with evidence, coding rates."""

    version: ClassVar = 1
    products: ClassVar = (Product("clusters"),)
    each: ClassVar = ()
    whole: ClassVar = ("assignments", "groups", "votes", "vocabulary")
    top: int

    def open(self, given: Given) -> Work:
        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            rates = load_file(given.whole["groups"][0])["coding_rate"]
            K = len(rates)
            size = np.zeros(K, np.int64)
            for batch in tables.batches(given.whole["assignments"], ["cluster"], given.prefetch):
                size += np.bincount(batch["cluster"].to_numpy(), minlength=K)
            words: tuple[str, ...] = ()
            votes = label.Votes.total([])
            if "vocabulary" in given.whole:
                words = read_vocabulary(given.whole["vocabulary"]).words
                for batch in tables.batches(given.whole["votes"], ["cluster", "word", "vote"], given.prefetch):
                    votes = label.Votes.total([votes, label.Votes(*(batch[n].to_numpy() for n in batch.schema.names))])
            names = label.names(votes, words, K, self.top)
            rows = [
                {
                    "cluster": k,
                    "size": int(size[k]),
                    "name": name.name,
                    "share": name.share,
                    "runner_up": name.runner_up,
                    "margin": name.margin,
                    "top": [dict(zip(("word", "votes", "share"), entry, strict=True)) for entry in name.top],
                    "coding_rate": float(rates[k]),
                }
                for k, name in enumerate(names)
            ]
            tables.write(pa.Table.from_pylist(rows, CLUSTERS), out["clusters"])
            return Counts(int(size.sum()), int(size.sum()))

        return work


CLUSTERS = pa.schema(
    [
        ("cluster", pa.int32()),
        ("size", pa.int64()),
        ("name", pa.string()),
        ("share", pa.float64()),
        ("runner_up", pa.string()),
        ("margin", pa.float64()),
        ("top", pa.list_(pa.struct([("word", pa.string()), ("votes", pa.float64()), ("share", pa.float64())]))),
        ("coding_rate", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Evaluate:
    """ASSIGNMENTS against a label column -> `scores.json`, with k-means on the raw features scored in the same run."""

    version: ClassVar = 1
    products: ClassVar = (Product("scores", ".json"),)
    each: ClassVar = ()
    whole: ClassVar = ("features", "assignments")
    evaluate: config.Evaluate
    n_clusters: int
    seed: int

    def open(self, given: Given) -> Work:
        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            features, column = given.whole["features"], self.evaluate.label
            for path in given.whole["assignments"]:
                if column not in (names := pq.read_schema(path).names):
                    raise ValueError(f"{path} has no column {column!r} (evaluate.label); it has {', '.join(names)}")
            rows = list(tables.batches(given.whole["assignments"], ["cluster", column], given.prefetch))
            found = pa.Table.from_batches(rows)
            known = pc.is_valid(found[column]).to_numpy(zero_copy_only=False)
            if not known.any():
                raise ValueError(f"the column {column!r} (evaluate.label) has no values: take the section evaluate out")
            classes = np.asarray(found[column].to_pylist())[known]
            K = self.n_clusters
            sample = tables.sample_rows(features, "embedding", self.evaluate.baseline_sample, self.seed, given.prefetch)
            kmeans = KMeans(K, n_init=10, random_state=self.seed).fit(sample.astype(np.float32))
            rows_by_batch = (tables.matrix(b["embedding"]) for b in tables.batches(features, ["embedding"], given.prefetch))
            baseline = np.concatenate([kmeans.predict(X.astype(np.float32)) for X in rows_by_batch])
            methods: dict[str, Any] = {
                "this run": found["cluster"].to_numpy(),
                "k-means on the raw features, 10 restarts": baseline,
            }
            scores = {
                "label": column,
                "rows": len(classes),
                "unlabelled": int((~known).sum()),
                "classes": len(set(classes.tolist())),
                "methods": [
                    {"method": name, "clusters": K, **metrics.scores(classes, clusters[known])._asdict()}
                    for name, clusters in methods.items()
                ],
            }
            out["scores"].write_text(json.dumps(scores, indent=2))
            return Counts(len(found), len(found))

        return work


@dataclass(frozen=True)
class Report:
    """Everything -> `report.html`. The event log gives the timings; it is no cause of the page."""

    version: ClassVar = 1
    products: ClassVar = (Product("report", ".html"),)
    each: ClassVar = ()
    whole: ClassVar = ("clusters", "assignments", "rejected", "loss", "scores", "events")
    title: str
    settings: str

    def open(self, given: Given) -> Work:
        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            clusters = pq.read_table(given.whole["clusters"][0]).to_pylist()
            members = report.members(given.whole["assignments"], given.prefetch, n_clusters=len(clusters))
            reasons = [b["reason"].to_pylist() for b in tables.batches(given.whole["rejected"], ["reason"], given.prefetch)]
            loss = pq.read_table(given.whole["loss"][0])
            page = report.Page(
                title=self.title,
                rejected=Counter(reason for batch in reasons for reason in batch),
                clusters=clusters,
                members=members,
                curves=[report.Curve(*curve) for curve in zip(
                    ("R", "R_c", "‖Π‖²"), ("nats", "nats", ""), (loss[c].to_pylist() for c in ("R", "R_c", "pi_norm2")), strict=True
                )],
                warmup_steps=sum(loss["warmup"].to_pylist()),
                seconds=seconds_by_step(Path(given.whole["events"][0])),
                settings=self.settings,
                versions=versions(),
                scores=json.loads(Path(given.whole["scores"][0]).read_text()) if "scores" in given.whole else None,
            )
            out["report"].write_text(report.render(page), encoding="utf-8")
            return Counts(page.images, page.images)

        return work


def read_vocabulary(folders: list[str]) -> label.Vocabulary:
    """One vocabulary from several folders; of equal words the first counts."""
    parts = [vectors.read_words(folder) for folder in folders]
    dims = {folder: X.shape[1] for folder, (_, X) in zip(folders, parts, strict=True)}
    if len(set(dims.values())) > 1:
        raise ValueError(f"the folders of label.vocabulary differ in dimension: {dims}; they must come from one text tower")
    return label.Vocabulary.of([w for words, _ in parts for w in words], np.concatenate([X for _, X in parts]))
