"""The stages of naming: votes of images for words, names of clusters in every layer, a label for every image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from cpp.clustering import quality
from cpp.clustering.layers import parents
from cpp.files import tables
from cpp.files.tables import Counts
from cpp.files.top_rows import SmallestRows
from cpp.naming import caption_phrases, cluster_table
from cpp.naming import names as naming
from cpp.naming.decided import Decided
from cpp.naming.layer_titles import Layer, layer_titles
from cpp.naming.vocabulary import Vocabulary
from cpp.naming.votes import ClusterSums, Votes, vote
from cpp.store.results import Product
from pipelines.engine.stage import Context, Inputs, Outputs, Stage, Work
from pipelines.stages import artifacts

MEAN_SHARDS, MEAN_ROWS = 100, 100_000  # the mean of the images is that of at most as many shards and rows


class ImageMean(Stage):
    """Compute the mean vector of the images, which is subtracted before images and words are compared."""

    version = 1
    products = (Product("image_mean", ".safetensors"),)
    whole = ("features",)
    embedding: str
    seed: int

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        features = context.whole["features"]
        spread = [features[i] for i in np.unique(np.linspace(0, len(features) - 1, MEAN_SHARDS).astype(int))]
        rows = tables.sample_rows(spread, [self.embedding], MEAN_ROWS, self.seed, context.prefetch)
        save_file({"mean": rows.mean(0, dtype=np.float64).astype(np.float32)}, out["image_mean"])
        return Counts(len(rows), len(rows))


class Vote(Stage):
    """Sum the votes of a shard's images for words, and their vectors, by cluster of the finest layer.

    `matches` has the best word of every image. Sums of vectors are written as float32, which represents sums of a few
    float16 vectors exactly.
    """

    version = 6
    products = (Product("votes"), Product("likeness", ".safetensors"), Product("matches", rows="out"))
    each = ("features", "assignments")
    whole = ("tree", "image_mean", "namer_words", *artifacts.WORDS)
    gpu = True
    embedding: str
    top: int

    def open(self, context: Context) -> Work:
        import torch

        vocabulary, tree = artifacts.read_vocabulary(context), artifacts.read_tree(context)
        centred = "image_mean" in context.whole  # otherwise the published vote
        mean = torch.from_numpy(load_file(context.file("image_mean"))["mean"]) if centred else None
        finest = tree.column(tree.finest)

        def work(files: Inputs, out: Outputs) -> Counts:
            features = tables.read(files["features"], columns=["key", self.embedding])
            X = torch.from_numpy(tables.matrix(features[self.embedding]))
            cluster = tables.read(files["assignments"], columns=[finest])[finest].to_numpy()
            voted = vote(X, cluster, vocabulary, mean, self.top, context.batch, context.device)
            counts = Counts(len(X), len(cluster))
            tables.write(pa.table(voted.votes._asdict()), out["votes"], counts)
            sums = voted.sums._asdict() | {"sum_kd": voted.sums.sum_kd.astype(np.float32)}
            save_file({"present": voted.present, **sums}, out["likeness"])
            tables.write(pa.table({"key": features["key"], "word": voted.word}), out["matches"], counts)
            return counts

        return work


class Label(Stage):
    """Write `clusters.parquet`: sizes, names and quality of the clusters of every layer, from votes and moments."""

    version = 9
    products = (Product("clusters"),)
    whole = ("assignments", "tree", "moments", "captions", "mined", "decisions", *artifacts.VOTES)
    method: naming.Method = "centred"
    top: int = 5
    sure: float = 0.5

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        tree = artifacts.read_tree(context)
        size, small_margin, typical = _count(context, tree)
        votes = artifacts.read_votes(context, tree) if "votes" in context.whole else None
        captions = artifacts.read_captions(context, tree.finest) if "captions" in context.whole else None
        decisions = tables.read(context.file("decisions")).to_pylist() if "decisions" in context.whole else []
        decided = Decided.of(decisions)
        layers = self._layers(tree, size, votes, decided)
        tables_of_layers = []
        for (K, cluster), layer, titles in zip(tree.clusters.items(), layers, layer_titles(layers), strict=True):
            into = parents(tree.clusters[tree.finest], cluster)
            phrases, examples = None, dict[int, list[str]]()
            if captions:
                counts = caption_phrases.merge(captions[1], into)
                phrases = caption_phrases.distinctive(counts, captions[0], self.top)
            for row in typical:
                examples.setdefault(int(into[row["cluster"]]), []).append(row["key"])
            table = cluster_table.layer_table(
                main=tree.main == K,
                layer=layer,
                titles=titles,
                measures=quality.measures(artifacts.read_cluster_moments(context, cluster), tree.metadata["e"]),
                captions=phrases,
                examples={k: keys[: cluster_table.EXAMPLES] for k, keys in examples.items()},
                small_margin=small_margin if tree.main == K else [None] * K,
                decided=decided if tree.main == K else Decided.of([]),
            )
            tables_of_layers.append(table)
        tables.write(pa.concat_tables(tables_of_layers), out["clusters"])
        return Counts(int(size.sum()), int(size.sum()))

    def _layers(
        self,
        tree: artifacts.TreeFile,
        size: NDArray[np.int64],
        votes: tuple[Vocabulary, Votes, ClusterSums] | None,
        decided: Decided,
    ) -> list[Layer]:
        """The sizes, parents and names of the clusters of every layer, the coarsest first."""
        layers, coarser, fit = [], None, None
        if votes:
            main = parents(tree.clusters[tree.finest], tree.clusters[tree.main])
            fit = naming.vocabulary_fit(votes[1].merge(main), np.bincount(main, size, tree.main).astype(np.int64))
        for K, cluster in tree.clusters.items():
            into, names = parents(tree.clusters[tree.finest], cluster), None
            if votes:
                vocabulary, by_word, sums = votes
                size_k = sums.merge(into, K).count_k
                names = naming.names(by_word.merge(into), size_k, vocabulary, self.top, self.method, self.sure, fit=fit)
            shown = decided.rename(names, K) if tree.main == K else names
            parent = [None] * K if coarser is None else parents(cluster, coarser).tolist()
            layers.append(Layer(np.bincount(into, size, K).astype(np.int64), parent, shown))
            coarser = cluster
        return layers


def _count(context: Context, tree: artifacts.TreeFile) -> tuple[NDArray[np.int64], list[float], list[dict[str, Any]]]:
    """Sizes of the finest clusters, shares of the main clusters' members with a small margin, and typical members.

    The members are the rows of highest score of each finest cluster with their `cluster` and `key`, in order of score.
    """
    size, (small, total) = np.zeros(tree.finest, np.int64), np.zeros((2, tree.main), np.int64)
    typical, finest = SmallestRows(cluster_table.EXAMPLES), tree.column(tree.finest)
    columns = list(dict.fromkeys([finest, "cluster", "margin", "score", "key"]))
    for batch in tables.batches(context.whole["assignments"], columns, context.prefetch):
        size += np.bincount(batch[finest].to_numpy(), minlength=tree.finest)
        main = batch["cluster"].to_numpy()
        total += np.bincount(main, minlength=tree.main)
        small += np.bincount(main[batch["margin"].to_numpy() < quality.SMALL], minlength=tree.main)
        typical.add(-batch["score"].to_numpy(), pa.record_batch({"cluster": batch[finest], "key": batch["key"]}))
    rows = sorted(typical.rows(), key=lambda row: float(row["value"]))
    return size, (small / total.clip(1)).tolist(), rows


class Labels(Stage):
    """Label every image with the name of its cluster and the probability that this name is right for the image.

    An image that a decision excludes gets no label, and the confidence 0.
    """

    version = 3
    products = (Product("labels", rows="out"),)
    each = ("assignments", "matches")
    whole = ("clusters", "namer_words", *artifacts.WORDS)

    def open(self, context: Context) -> Work:
        vocabulary, rows = artifacts.read_vocabulary(context), artifacts.read_main_clusters(context)
        agreement = naming.Agreement(rows, vocabulary)
        confidence = np.array([row["confidence"] for row in rows])
        name = pa.array([row["name"] for row in rows], pa.string())

        def work(files: Inputs, out: Outputs) -> Counts:
            assignments = tables.with_exclusions(files["assignments"], ["key", "cluster"])
            excluded = tables.exclusions(assignments) != None  # noqa: E711 (elementwise)
            word = tables.read(files["matches"], columns=["word"])["word"].to_numpy()
            cluster = assignments["cluster"].to_numpy()
            agrees = agreement(cluster, word)
            labels = {
                "key": assignments["key"],
                "label": name.take(pa.array(cluster, mask=excluded)),
                "confidence": np.where(excluded, 0, cluster_table.confidence(confidence[cluster], agrees)),
                "word": pa.array(vocabulary.words).take(pa.array(word)),
                "agrees": agrees,
            }
            counts = Counts(len(assignments), len(cluster))
            tables.write(pa.table(labels, schema=cluster_table.LABELS), out["labels"], counts)
            return counts

        return work
