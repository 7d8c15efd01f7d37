"""The stage that scores: a run against known classes and names, which are used here and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cpp import choice, metrics, namescore, naming, tables
from cpp.store import Product
from cpp.tables import Counts
from pipelines import config
from pipelines.grouping import read_tree
from pipelines.naming import read_said
from pipelines.stage import Given, Stage, Work


@dataclass(frozen=True)
class Evaluate(Stage):
    """ASSIGNMENTS against a label column -> `scores.json`, with k-means on the raw features scored in the same run."""

    version = 2
    products = (Product("scores", ".json"),)
    each = ()
    whole = ("features", "assignments", "tree", "labels", "votes", "likeness", "vocabulary", "words")
    evaluate: config.Evaluate
    embeddings: list[str]
    seed: int
    method: naming.Method = "lift"
    sure: float = 0.5

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
            if e.names and "votes" in given.whole:
                found["names"] = self._names(given, rows.cluster)
            out["scores"].write_text(json.dumps(found, indent=2) + "\n")
            return Counts(len(rows.known), len(rows.known))

        return work

    def _names(self, given: Given, cluster_n: NDArray[np.int32]) -> dict[str, Any]:
        """Scores of the names of the main layer, beside the published vote; with and without the true names."""
        classes = metrics.labelled(given.whole["assignments"], str(self.evaluate.names), given.prefetch)
        tree = read_tree(given)
        vocabulary, votes, likeness = read_said(given, tree)
        into = choice.parents(tree.clusters[tree.finest], tree.clusters[tree.main])
        sums = votes.merge(into), likeness.merge(into, tree.main), vocabulary
        truth = namescore.true_names(classes.label[classes.known], cluster_n[classes.known], tree.main)
        size = np.bincount(cluster_n[classes.known], minlength=tree.main)
        barred = np.logical_or.reduce([vocabulary.synonyms_of(name) for name in set(truth) if name])
        ways: list[tuple[str, naming.Method, NDArray[np.bool_] | None]] = [
            ("this run", self.method, None),
            ("published vote", "paper", None),
            ("this run, without the true names", self.method, barred),
            ("published vote, without the true names", "paper", barred),
        ]
        found = [
            {"names": way, **namescore.name_scores(named, truth, size, vocabulary)}
            for way, method, without in ways
            for named in [naming.names(*sums, method=method, sure=self.sure, exclude=without)]
        ]
        columns = ["label", "confidence"]
        labels = pa.Table.from_batches(list(tables.batches(given.whole["labels"], columns, given.prefetch)))
        label, sure = labels["label"].to_numpy()[classes.known], labels["confidence"].to_numpy()[classes.known]
        return {"clusters": found, "labels": namescore.label_scores(label, sure, classes.label[classes.known])}
