"""The stages that make words: phrases of captions, which of them set clusters apart, and words with text vectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import sparse

from cpp import phrases, tables, textcache, vectors, vocabulary, wordlists
from cpp.store import Product, fingerprint
from cpp.tables import Counts
from pipelines.encoding import Model
from pipelines.grouping import read_tree
from pipelines.stage import Given, Stage, Work


@dataclass(frozen=True)
class Phrases(Stage):
    """Captions of a shard of FEATURES -> how many of its images have each phrase."""

    version = 1
    products = (Product("phrases"),)
    each = ("features",)
    whole = ()
    column: str

    def open(self, given: Given) -> Work:
        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            rows = pq.read_metadata(files["features"]).num_rows
            counts = Counts(rows, rows)
            tables.write(phrases.count(captions_of(files["features"], self.column)), out["phrases"], counts)
            return counts

        return work


@dataclass(frozen=True)
class Mine(Stage):
    """Phrases of all shards -> those that are frequent and noun-like, the most frequent first."""

    version = 1
    products = (Product("mined"),)
    each = ()
    whole = ("phrases",)
    column: str

    def open(self, given: Given) -> Work:
        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            found = phrases.mine(phrases.total(map(tables.read, given.files("phrases"))))
            if not len(found):
                raise ValueError(
                    f"label.captions: the metadata column {self.column!r} has no phrase that {phrases.RARE} images "
                    "share: name the column that has captions, or null"
                )
            tables.write(found, out["mined"])
            print(f"mine: {len(found):,} phrases, such as {', '.join(found['phrase'].to_pylist()[:5])}", flush=True)
            return Counts(len(found), len(found))

        return work


@dataclass(frozen=True)
class Captions(Stage):
    """FEATURES and ASSIGNMENTS -> the images of a shard that have each mined phrase, by cluster of the finest layer."""

    version = 1
    products = (Product("captions"),)
    each = ("features", "assignments")
    whole = ("mined", "tree")
    column: str

    def open(self, given: Given) -> Work:
        mined, tree = tables.read(given.file("mined")), read_tree(given)
        finest = tree.column(tree.finest)

        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            cluster = tables.read(files["assignments"], columns=[finest])[finest].to_numpy()
            found = phrases.tally(captions_of(files["features"], self.column), cluster, mined, tree.finest).tocoo()
            counts = Counts(len(cluster), len(cluster))
            pairs = {"cluster": found.row.astype(np.int32), "phrase": found.col.astype(np.int32), "images": found.data}
            tables.write(pa.table(pairs), out["captions"], counts)
            return counts

        return work


def read_captions(given: Given, n_clusters: int) -> tuple[list[str], sparse.csr_array]:
    """The mined phrases and the images of all shards that have them, `[n_clusters, n_phrases]`, of the finest layer."""
    words = tables.read(given.file("mined"), columns=["phrase"])["phrase"].to_pylist()
    shape = (n_clusters, len(words))
    counts = sparse.csr_array(shape, dtype=np.int64)
    for batch in tables.batches(given.whole["captions"], ["cluster", "phrase", "images"], given.prefetch):
        row, column, images = (values.to_numpy() for values in batch.columns)
        counts += sparse.csr_array((images, (row, column)), shape)
    return words, counts


@dataclass(frozen=True)
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

    def open(self, given: Given) -> Work:
        from cpp import encoder

        model = self.encoder.open(given.device)
        texts = encoder.templates(self.templates)
        space = fingerprint(model.identity.model, model.identity.sha256, self.encoder.precision, encoder.said_by(texts))
        folder = given.cache / "text" / space if given.cache else None

        def work(files: Mapping[str, Any], out: Mapping[str, Path]) -> Counts:
            words = list(dict.fromkeys(word for raw in self._raw(given) if (word := vocabulary.clean(raw))))
            if not words:
                raise ValueError(f"label.vocabulary: there are no words in {', '.join(given.whole['wordlists'])}")
            X = textcache.encoded(words, lambda new: model.words(new, texts, given.image_batch), folder)
            tables.write(pa.table({"word": words, "embedding": tables.matrix_column(X)}), out["words"])
            return Counts(len(words), len(words))

        return work

    def _raw(self, given: Given) -> Iterator[str]:
        for path in given.whole.get("wordlists", []):
            yield from vectors.read_lines(path)
        for name in given.whole.get("named", []):
            yield from wordlists.words(name)
        for path in given.files("mined") if self.captions else ():
            yield from tables.read(path, columns=["phrase"])["phrase"].to_pylist()


def captions_of(path: str, column: str, setting: str = "label.captions") -> Iterator[list[str]]:
    """The captions of every image of a shard, none for images without. ValueError where the column is no text."""
    footer = pq.read_metadata(path)
    schema = footer.schema.to_arrow_schema()
    if column not in schema.names:  # a shard of which no image has captions has no such column
        yield from ([] for _ in range(footer.num_rows))
        return
    kind = schema.field(column).type
    if not _is_text(kind):
        raise ValueError(f"{setting}: the metadata column {column!r} holds {kind}, it must be text or lists of text")
    for batch in tables.batches([path], [column], 1):
        for value in batch[column].to_pylist():
            yield [value] if isinstance(value, str) else [text for text in value or () if text]


def _is_text(kind: pa.DataType) -> bool:
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind))
