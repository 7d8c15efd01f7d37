"""The stages of words: phrases mined from captions, their counts by cluster, and text vectors of words."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cpp.files import tables
from cpp.files.tables import Counts
from cpp.naming import caption_phrases, vocabulary, word_lists
from cpp.sources import vectors
from cpp.store.results import Product
from pipelines.engine.stage import Context, Inputs, Outputs, Stage, Work
from pipelines.stages.artifacts import Model, iter_captions, read_tree


class Phrases(Stage):
    """Count, for each phrase, the images of a shard whose captions contain it."""

    version = 2
    products = (Product("phrases"),)
    each = ("assignments",)
    column: str

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        rows = pq.read_metadata(files["assignments"]).num_rows
        counts = Counts(rows, rows)
        tables.write(caption_phrases.count(iter_captions(files["assignments"], self.column)), out["phrases"], counts)
        return counts


class Mine(Stage):
    """Keep the phrases of all shards that are frequent and noun-like, the most frequent first."""

    version = 1
    products = (Product("mined"),)
    whole = ("phrases",)
    column: str

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        mined = caption_phrases.mine(caption_phrases.total(map(tables.read, context.files("phrases"))))
        if not len(mined):
            raise ValueError(
                f"label.captions: no phrase of the metadata column {self.column!r} occurs with "
                f"{caption_phrases.RARE} images: name the column that has captions, or set label.captions to null"
            )
        tables.write(mined, out["mined"])
        print(f"mine: {len(mined):,} phrases, such as {', '.join(mined['phrase'].to_pylist()[:5])}", flush=True)
        return Counts(len(mined), len(mined))


class Captions(Stage):
    """Count the images of a shard with each mined phrase, by cluster of the finest layer."""

    version = 2
    products = (Product("captions"),)
    each = ("assignments",)
    whole = ("mined", "tree")
    column: str

    def open(self, context: Context) -> Work:
        mined, tree = tables.read(context.file("mined")), read_tree(context)
        finest = tree.column(tree.finest)

        def work(files: Inputs, out: Outputs) -> Counts:
            cluster = tables.read(files["assignments"], columns=[finest])[finest].to_numpy()
            captions = iter_captions(files["assignments"], self.column)
            images = caption_phrases.tally(captions, cluster, mined, tree.finest).tocoo()
            counts = Counts(len(cluster), len(cluster))
            index = {"cluster": images.row.astype(np.int32), "phrase": images.col.astype(np.int32)}
            tables.write(pa.table(index | {"images": images.data}), out["captions"], counts)
            return counts

        return work


class Words(Stage):
    """Encode the words that have no vectors yet, with the encoder whose image vectors they are compared with.

    The words come from files, from lists in packages, and from captions, in this order.
    """

    version = 3
    products = (Product("words"),)
    whole = ("wordlists", "named", "mined")
    gpu = True
    encoder: Model
    templates: str | list[str]
    captions: bool  # whether mined phrases are words of the vocabulary

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        words = list(dict.fromkeys(word for raw in self._words(context) if (word := vocabulary.clean(raw))))
        if not words:
            raise ValueError(f"label.vocabulary: {', '.join(context.whole['wordlists'])} hold no words: add some")
        tables.write(self.encoder.word_table(words, self.templates, context.device, context), out["words"])
        return Counts(len(words), len(words))

    def _words(self, context: Context) -> Iterator[str]:
        for path in context.whole.get("wordlists", []):
            yield from vectors.read_lines(path)
        for name in context.whole.get("named", []):
            yield from word_lists.words(name)
        for path in context.files("mined") if self.captions else ():
            yield from tables.read(path, columns=["phrase"])["phrase"].to_pylist()
