"""The stage `attention`: what the encoder attends to in the pictures of clusters that the page shows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cpp.encoding import images
from cpp.files import tables
from cpp.files.iterables import batched, map_threads
from cpp.files.tables import Counts
from cpp.report import heat_maps
from cpp.report.heat_maps import ABOUT, ATTENTION
from cpp.sources.samples import Rejected
from cpp.sources.shards import iter_images
from cpp.store.results import Product
from pipelines.engine.stage import Context, Inputs, Outputs, Stage, Work
from pipelines.stages.artifacts import Model

Picture = tuple[str, bytes, NDArray[np.uint8]]  # key, encoded bytes, pixels for the encoder


class Attention(Stage):
    """A shard of ASSIGNMENTS -> the attention of the encoder in its images that are shown; no rows if it has none."""

    version = 1
    products = (Product("attention"),)
    each = ("assignments",)
    whole = ("examples",)
    gpu = True
    encoder: Model
    max_bytes: int
    max_pixels: int
    max_aspect: float

    def open(self, context: Context) -> Work:
        from cpp.encoding import attention

        encoder = self.encoder.model_copy(update={"compile": False}).open(context.device)
        limits = images.Limits(self.max_bytes, self.max_pixels, self.max_aspect)
        shown: dict[str, list[str]] = {}
        for place in tables.read(context.file("examples"), columns=["image_shard", "key"]).to_pylist():
            shown.setdefault(place["image_shard"], []).append(place["key"])
        about = {"model": self.encoder.model}
        try:
            layout = attention.layout(encoder)
            about["query"] = layout.query
        except attention.NoAttentionError as reason:
            shown, about["reason"] = {}, str(reason)

        def prepare(image: tuple[str, bytes]) -> Picture | None:
            try:
                return *image, encoder.preprocess(images.decode(image[1], limits))
            except Rejected:  # the file has changed since it was encoded
                return None

        def rows(shard: str) -> Iterator[dict[str, Any]]:
            encoded = iter_images(shard, shown.get(shard, ()))
            prepared = map_threads(prepare, encoded, context.threads, context.threads + context.image_batch)
            for batch in batched((picture for picture in prepared if picture), context.image_batch):
                heads = attention.attention(encoder, layout, [pixels for *_, pixels in batch])
                for (key, data, _), heat in zip(batch, heads.mean(1), strict=True):
                    view = attention.view(encoder.preprocess, *images.open_image(data).size)
                    yield {"image_shard": shard, "key": key, **heat_maps.row(data, heat, view)}

        def work(files: Inputs, out: Outputs) -> Counts:
            of_file = tables.read(files["assignments"], columns=["image_shard"])["image_shard"]
            table = pa.Table.from_pylist(
                [row for shard in of_file.unique().to_pylist() for row in rows(shard)], ATTENTION
            )
            counts = Counts(len(of_file), len(of_file))
            tables.write(table, out["attention"], counts, {ABOUT.decode(): json.dumps(about)})
            return counts

        return work
