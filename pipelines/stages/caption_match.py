"""The stage `caption_match`: how well the caption of every image fits it, from a column or by the text tower."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import Field

from cpp.files import tables
from cpp.files.tables import Counts
from cpp.store.results import Product
from pipelines.engine.stage import Context, Inputs, Outputs, Stage, Work
from pipelines.stages.artifacts import Model, iter_captions, numbers

if TYPE_CHECKING:
    from cpp.encoding.encoder import Encoder


class TextTower(Model):
    """An encoder of words, and the column with its image vectors."""

    column: str = Field(  # left out of the fingerprints of results that are older than the key
        tables.EMBEDDING, exclude_if=lambda column: column == tables.EMBEDDING
    )


class CaptionMatch(Stage):
    """Write the similarity of every image and its first caption; null where there is none."""

    version = 1
    products = (Product("caption_match"),)
    each = ("features", "assignments")
    gpu = True
    similarity: str | None
    captions: str | None
    tower: TextTower | None  # if captions are encoded

    def open(self, context: Context) -> Work:
        model = self.tower.open(context.device) if self.tower else None

        def work(files: Inputs, out: Outputs) -> Counts:
            key = tables.read(files["assignments"], columns=["key"])["key"]
            match = pa.array(self._similarity(files, model, context.image_batch), pa.float32(), from_pandas=True)
            counts = Counts(len(key), len(key))
            tables.write(pa.table({"key": key, "caption": match}), out["caption_match"], counts)
            return counts

        return work

    def _similarity(self, files: Inputs, model: Encoder | None, batch: int) -> NDArray[np.floating]:
        """Cosine of each image and its first caption, `[n]`, encoded or from a column; NaN where it is unknown."""
        path = files["assignments"]  # its schema is that of all shards
        footer = pq.read_metadata(path)
        similarity = np.full(footer.num_rows, np.nan)
        if model is None or self.tower is None or self.captions is None:
            if self.similarity is None or self.similarity not in footer.schema.to_arrow_schema().names:
                return similarity
            return numbers(tables.read(path, [self.similarity]), self.similarity, "curate.similarity")
        captions = iter_captions(path, self.captions, "curate.captions")
        first = {row: texts[0] for row, texts in enumerate(captions) if texts}
        if first:
            column = self.tower.column
            X = tables.matrix(tables.read(files["features"], [column])[column]).astype(np.float32)
            texts = model.words(list(first.values()), ["{}"], batch).astype(np.float32)
            similarity[list(first)] = np.einsum("nd,nd->n", X[list(first)], texts)
        return similarity
