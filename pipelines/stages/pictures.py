"""The stages that read every picture once more for curation: signatures, sizes and quality flags.

They are apart from encoding, so that curation of a finished run encodes nothing again.
"""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cpp.encoding import images, quality, signature
from cpp.export import rows as export_rows
from cpp.files import tables
from cpp.files.iterables import map_threads
from cpp.files.tables import Counts
from cpp.sources.samples import Rejected
from cpp.store.results import Product
from pipelines.engine.stage import Context, Inputs, Outputs, Stage, Work

MEASURES = ("width", "height", *quality.Quality._fields)
PICTURES = pa.schema(
    {
        "key": "string",
        "bytes_hash": "uint64",  # 0 if the picture is not in its source
        **dict.fromkeys(MEASURES, "float32"),  # null if it cannot be decoded
        "signature": pa.list_(pa.uint64(), signature.SIZE),  # zeros if it cannot be decoded
    }
)


class Pictures(Stage):
    """Measure the pictures of a shard: a hash of the bytes, the size, the quality and the signature of each."""

    version = 1
    products = (Product("pictures"),)
    each = ("assignments", "rejected")
    max_bytes: int
    max_pixels: int
    max_aspect: float

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        table = tables.read(files["assignments"], columns=["key", "image_shard"])
        n = len(table)
        bytes_hash, words = np.zeros(n, np.uint64), np.zeros((n, signature.SIZE), np.uint64)
        measures = np.full((n, len(MEASURES)), np.nan, np.float32)
        if n and (place := table["image_shard"][0].as_py()) is not None:
            shard = export_rows.Shard(files["assignments"], rejected=files["rejected"], images=place)
            found = export_rows.find(shard, table["key"].to_pylist(), np.arange(n))
            measure = partial(_measure, limits=images.Limits(self.max_bytes, self.max_pixels, self.max_aspect))
            for row, digest, values, hashes in map_threads(measure, found, context.threads, 4 * context.threads):
                bytes_hash[row] = digest
                if hashes is not None:
                    measures[row], words[row] = values, hashes
            if unreadable := int(np.isnan(measures[:, 0]).sum()):
                print(f"pictures: {unreadable:,} of {n:,} pictures of {place} cannot be read", flush=True)
        columns = {"key": table["key"], "bytes_hash": bytes_hash}
        columns |= {name: pa.array(measures[:, i], from_pandas=True) for i, name in enumerate(MEASURES)}
        columns["signature"] = pa.FixedSizeListArray.from_arrays(pa.array(words.reshape(-1)), signature.SIZE)
        tables.write(pa.table(columns, PICTURES), out["pictures"], Counts(n, n))
        return Counts(n, n)


def _measure(
    found: tuple[int, bytes | None], limits: images.Limits
) -> tuple[int, int, tuple[float, ...], signature.Signatures | None]:
    """The row of a picture, the hash of its bytes, its measures and its signature, None if it cannot be decoded."""
    row, data = found
    if data is None:
        return row, 0, (), None
    digest = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest()) or 1
    size = images.size(data)
    try:
        image = images.decode(data, limits, quality.SIDE)
        return row, digest, (*(size or image.size), *quality.quality(image)), signature.signature(image)
    except (Rejected, ValueError):  # Pillow cannot convert every mode
        return row, digest, (), None


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
    dark: float | None
    bright: float | None
    blurred: float | None
    constant: float | None
    aspect: float | None
    size: float | None

    def open(self, context: Context) -> Work:
        low, high = json.loads(Path(context.file("picture_sizes")).read_text())["quartiles"]
        thresholds = quality.Thresholds(**self.settings())

        def work(files: Inputs, out: Outputs) -> Counts:
            table = tables.read(files["pictures"], columns=["key", *MEASURES])
            measures = {name: np.asarray(table[name], np.float64) for name in MEASURES}
            flagged: dict[str, Any] = dict(quality.flags(measures, (low, high), thresholds))
            columns = {name: table[name].cast(quality.QUALITY.field(name).type) for name in table.column_names}
            counts = Counts(len(table), len(table))
            tables.write(pa.table(columns | flagged, quality.QUALITY), out["quality"], counts)
            return counts

        return work
