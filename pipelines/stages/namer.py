"""The stages of the namer: means of clusters, the questions to the model with its answers, and the check by CLIP.

They come before the votes. Accepted answers become words of the vocabulary, so that all that follows treats them like
the words that the user has given.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from cpp.clustering.layers import parents
from cpp.files import tables
from cpp.files.iterables import map_threads
from cpp.files.tables import Counts
from cpp.naming import caption_phrases, namer, reply_cache
from cpp.naming.chat import SHOWN, Chat, ChatError, Reply
from cpp.naming.vocabulary import Vocabulary
from cpp.naming.votes import ClusterSums
from cpp.report import thumbnails
from cpp.store.results import Product
from pipelines.config import sections
from pipelines.engine.stage import Context, Inputs, Outputs, Stage
from pipelines.stages import artifacts

AT_ONCE = 4  # requests at a time; a server with one GPU queues or batches them
CAPTION_WORDS = 5  # words of captions in a question
SIDE = 320  # pixels of the longer side of a picture that is sent
KEPT = "Answers so far are kept"
LOST = "Answers so far are not kept, because the run folder is in a bucket"
NEXT = "fix this and run the same command again, or add --set label.namer=null for names from the vocabulary alone"
FIRST = 3  # if none of the first answers has a name, no more are asked for


class ClusterMeans(Stage):
    """Count a shard's images and sum their vectors, by cluster of the main layer."""

    version = 1
    products = (Product("cluster_means"),)
    each = ("features", "assignments")
    embedding: str

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        X = tables.matrix(tables.read(files["features"], columns=[self.embedding])[self.embedding])
        cluster = tables.read(files["assignments"], columns=["cluster"])["cluster"].to_numpy()
        present, index = np.unique(cluster, return_inverse=True)
        sums = ClusterSums.zeros(len(present), X.shape[1])
        sums.add_(index, ClusterSums(np.ones(len(X), np.int64), X.astype(np.float64)))
        sum_kd = pa.FixedSizeListArray.from_arrays(pa.array(sums.sum_kd.astype(np.float32).ravel()), X.shape[1])
        counts = Counts(len(X), len(cluster))
        tables.write(pa.table({"cluster": present, "count": sums.count_k, "sum": sum_kd}), out["cluster_means"], counts)
        return counts


def _read_sums(context: Context, n_clusters: int, vocabulary: Vocabulary) -> ClusterSums:
    sums = ClusterSums.zeros(n_clusters, vocabulary.vectors.shape[1])
    for path in context.files("cluster_means"):
        part = tables.read(path)
        sum_kd = tables.matrix(part["sum"])
        vocabulary.check_dimension(sum_kd.shape[1])
        sums.add_(part["cluster"].to_numpy(), ClusterSums(part["count"].to_numpy(), sum_kd.astype(np.float64)))
    return sums


class _Question(NamedTuple):
    """What is asked about a cluster: the text, and the pictures that go with it. `guess` is its best word."""

    cluster: int
    guess: str
    text: str
    keys: Sequence[str]
    pictures: Sequence[bytes]


class Ask(Stage):
    """Ask the model for a name of each cluster of the main layer, the largest first, and keep every answer at once.

    A cluster beyond the budget has no answer. Answers that are kept from before are not asked for again.
    """

    version = 2
    products = (Product("asked"),)
    whole = ("tree", "cluster_means", "examples", "captions", "mined", *artifacts.WORDS)
    namer: sections.Namer

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        questions = _questions(context, self.namer.pictures, self.namer.budget)
        asked = questions[: self.namer.budget]
        replies = self._replies(asked, context.cache / "chat" if context.cache else None)
        rows = [
            {
                "cluster": question.cluster,
                "guess": question.guess,
                "question": question.text,
                "pictures": question.keys,
                **(reply._asdict() if reply else {}),
            }
            for question, reply in itertools.zip_longest(questions, replies)
        ]
        table = pa.Table.from_pylist(rows, namer.ASKED).sort_by("cluster")
        tables.write(table, out["asked"])
        if len(asked) < len(questions):
            print(
                f"ask: {len(questions) - len(asked):,} of {len(questions):,} clusters are beyond label.namer.budget, "
                f"{self.namer.budget}, and are named from the vocabulary; a larger budget asks about these alone",
                flush=True,
            )
        return Counts(len(questions), len(questions))

    def _replies(self, questions: Sequence[_Question], folder: Path | None) -> list[Reply]:
        """The replies to questions, kept or new. ChatError if the model does not answer, or not in the schema."""
        n = self.namer
        requests = [reply_cache.request_hash(n.url, n.model, namer.messages(q.text, q.pictures)) for q in questions]
        replies = {request: reply for request in requests if (reply := reply_cache.read(folder, request))}
        new = {request: q for request, q in zip(requests, questions, strict=True) if request not in replies}
        if new:
            pictures = sum(len(q.pictures) for q in new.values())
            print(
                f"ask: {len(new):,} questions with {pictures:,} pictures go to the model {n.model} at {n.url}; "
                f"{len(replies):,} answers are kept from before",
                flush=True,
            )
            try:
                replies |= self._ask(new, folder)
            except ChatError as error:
                raise ChatError(f"{error}. {KEPT if folder else LOST}: {NEXT}") from None
        return [replies[request] for request in requests]

    def _ask(self, new: Mapping[str, _Question], folder: Path | None) -> dict[str, Reply]:
        chat = Chat(self.namer.url, self.namer.model, self.namer.key, AT_ONCE)

        def ask(item: tuple[str, _Question]) -> tuple[str, Reply]:
            request, question = item
            reply = chat.ask(namer.messages(question.text, question.pictures), namer.SCHEMA)
            if namer.parse(reply.answer):  # others are asked for again in the next run
                reply_cache.write(folder, request, question.text, reply)
            return request, reply

        replies: dict[str, Reply] = {}
        for request, reply in map_threads(ask, new.items(), AT_ONCE, AT_ONCE):
            replies[request] = reply
            at_first = len(replies) == min(FIRST, len(new))
            if at_first and not any(namer.parse(other.answer) for other in replies.values()):
                shown = (reply.answer or "")[:SHOWN]
                error = reply.error or (
                    f"label.namer: the first answers of {self.namer.model} are not JSON with a name, such as {shown!r}"
                    ": use a model and a server that accept response_format json_schema"
                )
                raise ChatError(error)
        return replies


def _questions(context: Context, n_pictures: int, budget: int | None) -> list[_Question]:
    """The questions for the clusters of the main layer, the largest first; pictures for those within the budget."""
    tree, vocabulary = artifacts.read_tree(context), artifacts.read_vocabulary(context)
    sums = _read_sums(context, tree.main, vocabulary)
    best = [order for order, _ in namer.best_words(sums, vocabulary, namer.WORDS)]
    captions: list[list[tuple[str, float]]] = [[]] * tree.main
    if "captions" in context.whole:
        phrases, counts = artifacts.read_captions(context, tree.finest)
        into = parents(tree.clusters[tree.finest], tree.clusters[tree.main])
        captions = caption_phrases.distinctive(caption_phrases.merge(counts, into), phrases, CAPTION_WORDS)
    order = np.argsort(-sums.count_k, kind="stable")[: np.count_nonzero(sums.count_k)].tolist()
    pictures, nearest = _pictures(context, n_pictures, set(order[:budget])), namer.nearest(sums, namer.NEAREST)
    questions = []
    for k in order:
        words, shown = [vocabulary.words[w] for w in best[k]], pictures.get(k, {})
        evidence = namer.Evidence(
            size=int(sums.count_k[k]),
            words=words,
            captions=[word for word, _ in captions[k]],
            nearest=list(dict.fromkeys(vocabulary.words[best[other][0]] for other in nearest[k])),
        )
        text = namer.prompt(evidence, len(shown))
        questions.append(_Question(k, words[0], text, list(shown), list(shown.values())))
    return questions


def _pictures(context: Context, n: int, clusters: set[int]) -> dict[int, dict[str, bytes]]:
    """By cluster, the JPEG pictures of its `n` most typical images that can be read, by key."""
    rows = [row for row in tables.read(context.file("examples")).to_pylist() if row["cluster"] in clusters]
    typical = [row for row in rows if row["kind"] == "typical" and row["rank"] < n]
    places = {(row["image_shard"], row["key"]): row["cluster"] for row in typical}
    read = thumbnails.read({place: {"large": SIDE} for place in places}, context.threads)
    pictures: dict[int, dict[str, bytes]] = {}
    for (shard, key), cluster in places.items():
        if webp := read.get((shard, key), {}).get("large"):
            pictures.setdefault(cluster, {})[key] = _jpeg(webp)
    return pictures


def _jpeg(webp: bytes) -> bytes:
    """The picture as a JPEG file, which more servers can read."""
    out = io.BytesIO()
    Image.open(io.BytesIO(webp)).save(out, "JPEG", quality=85)
    return out.getvalue()


class Check(Stage):
    """Check the answers of the model against the members of their clusters; the accepted ones become words."""

    version = 2
    products = (Product("namer"), Product("namer_words"))
    whole = ("asked", "tree", "cluster_means", *artifacts.WORDS)
    gpu = True
    encoder: artifacts.Model | None
    templates: str | list[str]

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        import torch

        tree, vocabulary = artifacts.read_tree(context), artifacts.read_vocabulary(context)
        asked = tables.read(context.file("asked")).to_pylist()
        names = {row["cluster"]: name for row in asked if (name := namer.parse(row["answer"]))}
        new = list(dict.fromkeys(name for name in names.values() if vocabulary.find(name) is None))
        dim = vocabulary.vectors.shape[1]
        words = pa.table({"word": pa.array([], pa.string()), "embedding": tables.matrix_column(np.empty((0, dim)))})
        if new and self.encoder:
            words = self.encoder.word_table(new, self.templates, context.device, context)
        centred = vocabulary.centre(torch.from_numpy(tables.matrix(words["embedding"]).astype(np.float32)))
        vectors = dict(zip(words["word"].to_pylist(), centred, strict=True))
        sums, exclude = _read_sums(context, tree.main, vocabulary), context.whole.get("exclude", [])
        verdicts = namer.check(names, vectors, sums, vocabulary, exclude)
        rows = [_verdict(row, names.get(row["cluster"]), verdicts.get(row["cluster"])) for row in asked]
        accepted = pa.array([row["name"] for row in rows if row["accepted"]], pa.string())
        tables.write(pa.Table.from_pylist(rows, namer.VERDICTS), out["namer"])
        tables.write(words.filter(pc.is_in(words["word"], value_set=accepted)), out["namer_words"])
        answers, used = sum(row["answer"] is not None for row in asked), sum(row["accepted"] for row in rows)
        print(f"check: {used:,} of {answers:,} answers of the namer are accepted, see namer.parquet", flush=True)
        return Counts(len(rows), len(rows))


def _verdict(asked: Mapping[str, Any], name: str | None, verdict: namer.Verdict | None) -> dict[str, Any]:
    """A row of `namer.parquet`."""
    if verdict is None:
        beyond = "beyond label.namer.budget" if asked["answer"] is None else "the answer is not JSON with a name"
        verdict = namer.Verdict(False, asked["error"] or beyond)
    return {"cluster": asked["cluster"], "guess": asked["guess"], "name": name, **verdict._asdict()}
