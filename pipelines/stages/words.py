"""The stages that make words: phrases of captions, which of them set clusters apart, and words with text vectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cpp.encoding import text_cache
from cpp.files import tables
from cpp.files.tables import Counts
from cpp.naming import caption_phrases, vocabulary, word_lists
from cpp.sources import vectors
from cpp.store.results import Product, fingerprint
from pipelines.engine.stage import Context, Stage, Work
from pipelines.stages.artifacts import Model, iter_captions, read_tree


@dataclass(frozen=True, kw_only=True)
class Phrases(Stage):
    """Captions of a shard of FEATURES -> how many of its images have each phrase."""

    version = 1
    products = (Product("phrases"),)
    each = ("features",)
    whole = ()
    column: str

    def open(self, context: Context) -> Work:
        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            rows = pq.read_metadata(files["features"]).num_rows
            counts = Counts(rows, rows)
            tables.write(caption_phrases.count(iter_captions(files["features"], self.column)), out["phrases"], counts)
            return counts

        return work


@dataclass(frozen=True, kw_only=True)
class Mine(Stage):
    """Phrases of all shards -> those that are frequent and noun-like, the most frequent first."""

    version = 1
    products = (Product("mined"),)
    each = ()
    whole = ("phrases",)
    column: str

    def open(self, context: Context) -> Work:
        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            found = caption_phrases.mine(caption_phrases.total(map(tables.read, context.files("phrases"))))
            if not len(found):
                raise ValueError(
                    f"label.captions: the metadata column {self.column!r} has no phrase that "
                    f"{caption_phrases.RARE} images "
                    "share: name the column that has captions, or null"
                )
            tables.write(found, out["mined"])
            print(f"mine: {len(found):,} phrases, such as {', '.join(found['phrase'].to_pylist()[:5])}", flush=True)
            return Counts(len(found), len(found))

        return work


@dataclass(frozen=True, kw_only=True)
class Captions(Stage):
    """FEATURES and ASSIGNMENTS -> the images of a shard that have each mined phrase, by cluster of the finest layer."""

    version = 1
    products = (Product("captions"),)
    each = ("features", "assignments")
    whole = ("mined", "tree")
    column: str

    def open(self, context: Context) -> Work:
        mined, tree = tables.read(context.file("mined")), read_tree(context)
        finest = tree.column(tree.finest)

        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            cluster = tables.read(files["assignments"], columns=[finest])[finest].to_numpy()
            found = caption_phrases.tally(
                iter_captions(files["features"], self.column), cluster, mined, tree.finest
            ).tocoo()
            counts = Counts(len(cluster), len(cluster))
            pairs = {"cluster": found.row.astype(np.int32), "phrase": found.col.astype(np.int32), "images": found.data}
            tables.write(pa.table(pairs), out["captions"], counts)
            return counts

        return work


@dataclass(frozen=True, kw_only=True)
class Words(Stage):
    """Words without vectors -> their text vectors, by the encoder whose image vectors they are matched with.

    They come from files, from lists of the packages, and from captions, in this order.
    """

    version = 3
    products = (Product("words"),)
    each = ()
    whole = ("wordlists", "named", "mined")
    gpu = True
    encoder: Model
    templates: str | list[str]
    captions: bool  # whether mined phrases are words of the vocabulary

    def open(self, context: Context) -> Work:
        from cpp.encoding import encoder

        model = self.encoder.open(context.device)
        texts = encoder.templates(self.templates)
        space = fingerprint(model.identity.model, model.identity.sha256, self.encoder.precision, encoder.said_by(texts))
        folder = context.cache / "text" / space if context.cache else None

        def work(files: Mapping[str, Any], out: Mapping[str, Path]) -> Counts:
            words = list(dict.fromkeys(word for raw in self._raw(context) if (word := vocabulary.clean(raw))))
            if not words:
                raise ValueError(f"label.vocabulary: there are no words in {', '.join(context.whole['wordlists'])}")
            X = text_cache.encoded(words, lambda new: model.words(new, texts, context.image_batch), folder)
            tables.write(pa.table({"word": words, "embedding": tables.matrix_column(X)}), out["words"])
            return Counts(len(words), len(words))

        return work

    def _raw(self, context: Context) -> Iterator[str]:
        for path in context.whole.get("wordlists", []):
            yield from vectors.read_lines(path)
        for name in context.whole.get("named", []):
            yield from word_lists.words(name)
        for path in context.files("mined") if self.captions else ():
            yield from tables.read(path, columns=["phrase"])["phrase"].to_pylist()
