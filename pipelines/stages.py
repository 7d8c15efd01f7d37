"""The stages of a run, from FEATURES to a page. Each reads and writes files and leaves the thinking to `cpp`."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from cpp import choice, label, metrics, quality, tables, vectors
from cpp.fit import StepRecord, fit
from cpp.head import Head
from cpp.store import Product
from cpp.tables import Counts
from pipelines import config
from pipelines.grouping import TreeFile, read_moments, read_tree
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
class Vote(Stage):
    """FEATURES and ASSIGNMENTS -> the votes of a shard's images for words, by cluster of the finest layer."""

    version = 2
    products = (Product("votes"),)
    each = ("features", "assignments")
    whole = ("tree", "vocabulary", "words")
    embedding: str
    top: int

    def open(self, given: Given) -> Work:
        vocabulary, tree = read_vocabulary(given), read_tree(given)
        finest = tree.column(tree.finest)

        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            features = pq.read_table(files["features"], columns=[self.embedding])
            X = torch.from_numpy(tables.matrix(features[self.embedding]))
            cluster = pq.read_table(files["assignments"], columns=[finest])[finest].to_numpy()
            votes = label.vote(X, cluster, vocabulary, self.top, given.batch, given.device)
            counts = Counts(len(X), len(cluster))
            tables.write(pa.table({f.name: getattr(votes, f.name) for f in fields(votes)}), out["votes"], counts)
            return counts

        return work


@dataclass(frozen=True)
class Label(Stage):
    """Votes and moments -> `clusters.parquet`: sizes over the whole set, names, quality, of every layer."""

    version = 2
    products = (Product("clusters"),)
    each = ()
    whole = ("assignments", "tree", "moments", "votes", "vocabulary", "words")
    top: int

    def open(self, given: Given) -> Work:
        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            tree = read_tree(given)
            sizes, small = self._counted(given, tree)
            words: tuple[str, ...] = ()
            votes = label.Votes.total([])
            if "votes" in given.whole:
                words = read_vocabulary(given).words
                for batch in tables.batches(given.whole["votes"], ["cluster", "word", "vote"], given.prefetch):
                    votes = label.Votes.total([votes, label.Votes(*(column.to_numpy() for column in batch.columns))])
            finest, parts = tree.clusters[tree.finest], []
            for coarser, K in zip([None, *tree.clusters], tree.clusters, strict=False):
                of = tree.clusters[K]
                found = label.names(votes.merge(choice.parents(finest, of)), words, K, self.top)
                measured = quality.measures(read_moments(given, of), tree.about["e"])
                above = choice.parents(of, tree.clusters[coarser]).tolist() if coarser else [None] * K
                share = small if tree.main == K else [None] * K
                parts.append(label.clusters(K, tree.main == K, sizes[K], found, measured, above, share))
            tables.write(pa.concat_tables(parts), out["clusters"])
            n = int(sizes[tree.main].sum())
            return Counts(n, n)

        return work

    def _counted(self, given: Given, tree: TreeFile) -> tuple[dict[int, NDArray[np.int64]], list[float]]:
        """Sizes in every layer, and of the main one the shares of members with a small margin."""
        columns = {K: tree.column(K) for K in tree.clusters}
        sizes = {K: np.zeros(K, np.int64) for K in columns}
        small = np.zeros(tree.main, np.int64)
        for batch in tables.batches(given.whole["assignments"], [*columns.values(), "margin"], given.prefetch):
            for K, column in columns.items():
                sizes[K] += np.bincount(batch[column].to_numpy(), minlength=K)
            near = batch["margin"].to_numpy() < quality.SMALL
            small += np.bincount(batch["cluster"].to_numpy()[near], minlength=tree.main)
        return sizes, (small / sizes[tree.main].clip(1)).tolist()


@dataclass(frozen=True)
class Evaluate(Stage):
    """ASSIGNMENTS against a label column -> `scores.json`, with k-means on the raw features scored in the same run."""

    version = 1
    products = (Product("scores", ".json"),)
    each = ()
    whole = ("features", "assignments", "tree")
    evaluate: config.Evaluate
    embeddings: list[str]
    seed: int

    def open(self, given: Given) -> Work:
        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            e, features, assignments = self.evaluate, given.whole["features"], given.whole["assignments"]
            n_clusters = read_tree(given).main
            rows = metrics.labelled(assignments, e.label, given.prefetch)
            sample = tables.sample_rows(features, self.embeddings, e.baseline_sample, self.seed, given.prefetch)
            batches = tables.batches(features, self.embeddings, given.prefetch)
            vectors = (tables.joined(batch, self.embeddings) for batch in batches)
            baseline = metrics.kmeans_baseline(sample, vectors, n_clusters, self.seed)
            methods = {"this run": rows.cluster, "k-means on the raw features, 10 restarts": baseline}
            found = {
                "label": e.label,
                "rows": int(rows.known.sum()),
                "unlabelled": int((~rows.known).sum()),
                "classes": len(np.unique(rows.label[rows.known])),
                "methods": [
                    {
                        "method": name,
                        "clusters": n_clusters,
                        **metrics.scores(rows.label[rows.known], cluster[rows.known])._asdict(),
                    }
                    for name, cluster in methods.items()
                ],
            }
            out["scores"].write_text(json.dumps(found, indent=2) + "\n")
            return Counts(len(rows.known), len(rows.known))

        return work


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
