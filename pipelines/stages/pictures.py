"""The stages of picture quality: measures and signatures of pictures, the quartiles of their sizes, and flags.

A run that encodes images and curates measures them in the same pass (`Stage.also`). The stage `pictures` reads those of
existing vectors, and those of a run that was encoded before, so that curation of a finished run encodes nothing again.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cpp.encoding import images, measures, quality
from cpp.export import rows as export_rows
from cpp.files import tables
from cpp.files.iterables import map_threads
from cpp.files.tables import Counts
from cpp.sources.samples import Rejected
from cpp.store.results import Product
from pipelines.config.curation import Quality
from pipelines.engine.stage import Context, Inputs, Outputs, Stage, Work


class Pictures(Stage):
    """Measure the pictures of a shard that `encode` has not measured: of existing vectors, or of an older run."""

    version = 2
    products = (Product("pictures"),)
    each = ("features", "rejected")
    max_bytes: int
    max_pixels: int
    max_aspect: float

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        table = tables.read(files["features"], columns=["key", "image_shard"])
        n, keys = len(table), table["key"].to_pylist()
        hashes, records = np.zeros(n, np.uint64), measures.unknown(n)
        if n and (place := table["image_shard"][0].as_py()) is not None:
            shard = export_rows.Shard(files["features"], rejected=files["rejected"], images=place)
            found = export_rows.find(shard, keys, np.arange(n))
            measure = partial(_measure, limits=images.Limits(self.max_bytes, self.max_pixels, self.max_aspect))
            for row, digest, record in map_threads(measure, found, context.threads, 4 * context.threads):
                hashes[row], records[row] = digest, record
            if unreadable := int(np.isnan(records["measures"][:, 0]).sum()):
                print(f"pictures: {unreadable:,} of {n:,} pictures of {place} cannot be read", flush=True)
        tables.write(measures.table(keys, hashes, records), out["pictures"], Counts(n, n))
        return Counts(n, n)


def _measure(found: tuple[int, bytes | None], limits: images.Limits) -> tuple[int, int, Any]:
    """The row of a picture, the hash of its bytes, and its record of measures."""
    row, data = found
    try:
        record = measures.measure(images.decode(data or b"", limits)).view(measures.RECORD)[0]
    except Rejected:
        record = measures.unknown(1)[0]
    return row, measures.bytes_hash(data), record


class PictureSizes(Stage):
    """The quartiles of the sizes of all pictures; a size is the square root of the number of pixels."""

    version = 1
    products = (Product("picture_sizes", ".json"),)
    whole = ("pictures",)

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        sizes = [np.empty(0, np.float32)]
        for batch in tables.batches(context.whole["pictures"], ["width", "height"], context.prefetch):
            width, height = (np.asarray(batch[name].to_numpy(zero_copy_only=False)) for name in ("width", "height"))
            sizes.append(np.sqrt(width * height).astype(np.float32))
        side = np.concatenate(sizes)
        known = side[~np.isnan(side)]
        quartiles = np.percentile(known, [25, 75]).tolist() if len(known) else [0.0, 0.0]
        out["picture_sizes"].write_text(json.dumps({"quartiles": quartiles, "pictures": len(known)}) + "\n")
        return Counts(len(side), len(side))


class Flag(Stage):
    """Write QUALITY of a shard: the measures of its pictures, and the flags by thresholds."""

    version = 1
    products = (Product("quality", rows="out"),)
    each = ("pictures",)
    whole = ("picture_sizes",)
    thresholds: Quality

    def open(self, context: Context) -> Work:
        low, high = json.loads(Path(context.file("picture_sizes")).read_text())["quartiles"]
        thresholds = quality.Thresholds(**self.thresholds.model_dump())

        def work(files: Inputs, out: Outputs) -> Counts:
            table = tables.read(files["pictures"], columns=["key", *measures.MEASURES])
            values = {name: np.asarray(table[name], np.float64) for name in measures.MEASURES}
            flagged: dict[str, Any] = dict(quality.flags(values, (low, high), thresholds))
            columns = {name: table[name].cast(quality.QUALITY.field(name).type) for name in table.column_names}
            counts = Counts(len(table), len(table))
            tables.write(pa.table(columns | flagged, quality.QUALITY), out["quality"], counts)
            return counts

        return work
