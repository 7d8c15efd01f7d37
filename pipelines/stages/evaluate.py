"""The stages of evaluation: scores of clusters and names against known classes, which are used nowhere else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from cpp.clustering.layers import parents
from cpp.evaluation import accepted_names, metrics, name_scores
from cpp.evaluation.accepted_names import NO_LISTS, Accepted
from cpp.evaluation.name_judgement import is_unknown
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
    embeddings: tables.VectorColumns
    seed: int

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        features, assignments = context.whole["features"], context.whole["assignments"]
        n_clusters = read_tree(context).main
        rows = metrics.labelled(assignments, self.label, context.prefetch)
        sample = tables.sample_rows(features, self.embeddings, self.baseline_sample, self.seed, context.prefetch)
        batches = tables.batches(features, list(self.embeddings), context.prefetch)
        vectors = (tables.join_vectors(batch, self.embeddings) for batch in batches)
        print(
            f"evaluate: for comparison k-means runs ten times on {len(sample):,} rows, slow with many clusters; "
            "evaluate.baseline_sample sets the number of rows",
            flush=True,
        )
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
    """Score names and labels against a column of true class names."""

    version = 5
    products = (Product("name_scores", ".json"),)
    whole = ("assignments", "tree", "labels", "accepted", *VOTES)
    column: str
    method: names.Method
    sure: float

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        rows = metrics.labelled(context.whole["assignments"], self.column, context.prefetch)
        classes = rows._replace(cluster=rows.cluster[rows.known], label=rows.label[rows.known])
        kinds = np.unique(classes.label).tolist()
        accepted = self._accepted(context, kinds)
        clusters, own = self._clusters(context, classes, accepted)
        general = np.array([name.status == "general" for name in own])[classes.cluster]
        label = np.array([name.word for name in own], object)[classes.cluster]
        columns = ["confidence", "agrees"]
        labels = pa.Table.from_batches(list(tables.batches(context.whole["labels"], columns, context.prefetch)))
        confidence, agrees = (labels[column].to_numpy()[rows.known] for column in columns)
        scores = {
            "names": self.column,
            "classes": len(kinds),
            "classes_with_accepted_names": len(accepted),
            "unknown_classes": sum(is_unknown(kind, accepted) for kind in kinds),
            "clusters": clusters,
            "labels": name_scores.label_scores(label, confidence, classes.label, agrees, general, accepted),
        }
        out["name_scores"].write_text(json.dumps(scores, indent=2) + "\n")
        return Counts(len(rows.known), len(rows.known))

    def _accepted(self, context: Context, classes: Sequence[str]) -> Accepted:
        """The lists of `evaluate.accepted`. ValueError if one is for a class that no image has."""
        accepted = NO_LISTS
        for path in context.whole.get("accepted", ()):
            accepted = accepted_names.read_accepted(path)
            try:
                accepted_names.check_classes(accepted, classes)
            except ValueError as error:
                raise ValueError(f"evaluate.accepted: {path}, with evaluate.names {self.column!r}: {error}") from error
        return accepted

    def _clusters(
        self, context: Context, classes: metrics.Labelled, accepted: Accepted
    ) -> tuple[list[dict[str, Any]], list[names.Name]]:
        """Scores of the names of the main layer, with all words and without those of the true names; and the names."""
        tree = read_tree(context)
        vocabulary, votes, sums = read_votes(context, tree)
        into = parents(tree.clusters[tree.finest], tree.clusters[tree.main])
        merged, size_k = votes.merge(into), sums.merge(into, tree.main).count_k
        truth = name_scores.true_names(classes.label, classes.cluster, tree.main)
        known_k = np.bincount(classes.cluster, minlength=tree.main)
        excluded = vocabulary.meaning(name for name in truth if name)
        results, answers = [], []
        for words, exclude in (("all words", None), ("without the true names", excluded)):
            answers.append(names.names(merged, size_k, vocabulary, method=self.method, sure=self.sure, exclude=exclude))
            scores = name_scores.name_scores(answers[-1], truth, known_k, vocabulary, accepted)
            scores |= name_scores.semantic_accuracy(answers[-1], classes.cluster, classes.label)
            results.append({"names": words, **scores})
        return results, answers[0]
