"""The stages of evaluation: scores of clusters and names against known classes, which are used nowhere else."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cpp.clustering import choose_k
from cpp.evaluation import metrics, name_scores
from cpp.files import tables
from cpp.files.tables import Counts
from cpp.naming import names
from cpp.store.results import Product
from pipelines.engine.stage import Context, Inputs, Outputs, Stage
from pipelines.stages.artifacts import VOTES, read_tree, read_votes


class Evaluate(Stage):
    """Score ASSIGNMENTS against a label column, beside k-means on the raw features."""

    version = 1
    products = (Product("scores", ".json"),)
    whole = ("features", "assignments", "tree")
    label: str
    baseline_sample: int
    embeddings: list[str]
    seed: int

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        features, assignments = context.whole["features"], context.whole["assignments"]
        n_clusters = read_tree(context).main
        rows = metrics.labelled(assignments, self.label, context.prefetch)
        sample = tables.sample_rows(features, self.embeddings, self.baseline_sample, self.seed, context.prefetch)
        batches = tables.batches(features, self.embeddings, context.prefetch)
        vectors = (tables.join_vectors(batch, self.embeddings) for batch in batches)
        baseline = metrics.kmeans_baseline(sample, vectors, n_clusters, self.seed)
        methods = {"this run": rows.cluster, "k-means on the raw features, 10 restarts": baseline}
        label = rows.label[rows.known]
        results = {name: metrics.scores(label, cluster[rows.known])._asdict() for name, cluster in methods.items()}
        scores = {
            "label": self.label,
            "rows": len(label),
            "unlabelled": int((~rows.known).sum()),
            "classes": len(np.unique(label)),
            "methods": [{"method": name, "clusters": n_clusters, **result} for name, result in results.items()],
        }
        out["scores"].write_text(json.dumps(scores, indent=2) + "\n")
        return Counts(len(rows.known), len(rows.known))


class EvaluateNames(Stage):
    """Score names and labels against a column of true class names, beside the published vote."""

    version = 1
    products = (Product("name_scores", ".json"),)
    whole = ("assignments", "tree", "labels", *VOTES)
    column: str
    method: names.Method
    sure: float

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        classes = metrics.labelled(context.whole["assignments"], self.column, context.prefetch)
        known, true = classes.known, classes.label[classes.known]
        columns = ["label", "confidence"]
        labels = pa.Table.from_batches(list(tables.batches(context.whole["labels"], columns, context.prefetch)))
        label, confidence = (labels[column].to_numpy()[known] for column in columns)
        scores = {
            "names": self.column,
            "clusters": self._clusters(context, classes.cluster[known], true),
            "labels": name_scores.label_scores(label, confidence, true),
        }
        out["name_scores"].write_text(json.dumps(scores, indent=2) + "\n")
        return Counts(len(known), len(known))

    def _clusters(self, context: Context, cluster_n: NDArray[np.int32], true_n: NDArray[Any]) -> list[dict[str, Any]]:
        """Scores of the names of the main layer and of the published vote, with and without the true names."""
        tree = read_tree(context)
        vocabulary, votes, sums = read_votes(context, tree)
        into = choose_k.parents(tree.clusters[tree.finest], tree.clusters[tree.main])
        merged = votes.merge(into), sums.merge(into, tree.main), vocabulary
        truth = name_scores.true_names(true_n, cluster_n, tree.main)
        size = np.bincount(cluster_n, minlength=tree.main)
        excluded = vocabulary.meaning(name for name in truth if name)
        results = []
        for suffix, exclude in (("", None), (", without the true names", excluded)):
            methods: dict[str, names.Method] = {"this run": self.method, "published vote": "paper"}
            for variant, method in methods.items():
                named = names.names(*merged, method=method, sure=self.sure, exclude=exclude)
                scores = name_scores.name_scores(named, truth, size, vocabulary)
                results.append({"names": f"{variant}{suffix}", **scores})
        return results
