"""Write the images of a run with their classes, in the layouts that trainers read. Add a new export format here.

`write` writes one shard, `finish` the files that combine all shards. Image bytes are those of the source, unchanged.
Keys and names are untrusted: a file is named by the numbers of its shard and row, a folder by a sanitized class name.

Sources of the layouts: https://github.com/webdataset/webdataset, torchvision.datasets.ImageFolder, and
FiftyOneImageClassificationDataset in https://docs.voxel51.com; `cpp.export.huggingface` has that of Hugging Face.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cpp.encoding.images import extension
from cpp.export import huggingface, tables, webdataset
from cpp.export import rows as export_rows
from cpp.export.classes import Class
from cpp.export.format import Format
from cpp.export.rows import Filter, Layer, Shard
from cpp.export.target import FILES, Target, open_target
from cpp.files import tables as files_tables
from cpp.files.tables import Counts
from cpp.sources.shards import MAX_BYTES
from cpp.store.results import Product

VERSION = 3  # increased by every change of the code that changes the files
LISTS = Product("lists")
LEFT_OUT = "cpp.left_out"  # in the metadata of a shard's list: the number of images left out, by reason
IMAGEFOLDER = frozenset({"jpg", "png", "ppm", "bmp", "tif", "webp"})  # what torchvision's ImageFolder reads
INDEX = "images.parquet"


@dataclass(frozen=True)
class Export:
    """The settings of an export. With `links` an ImageFolder has symbolic links to the files of the source folder."""

    format: Format
    layer: Layer
    classes: tuple[Class, ...]
    filter: Filter
    links: bool = False
    max_bytes: int = MAX_BYTES

    def name(self, shard: str, number: int) -> str:
        """How a shard's files are named: a tar after its shard, images after the number of the shard."""
        return f"{number:05d}" if self.format.pictured and self.format is not Format.WEBDATASET else shard

    def target(self, address: str) -> Target:
        """The folder of the export at a path or an address."""
        return open_target(address, tars=self.format is Format.WEBDATASET)

    @property
    def combined(self) -> tuple[str, ...]:
        """The files that combine all shards."""
        more = {Format.HUGGINGFACE: ("metadata.parquet", "README.md"), Format.FIFTYONE: ("labels.json",)}
        return ("images.csv" if self.format is Format.CSV else INDEX, "classes.csv", *more.get(self.format, ()))


def write(
    export: Export, shard: Shard, name: str, target: Target, path: Path, chosen: NDArray[np.int64] | None = None
) -> int:
    """Write a shard's images to the target, then their list to `path`. Returns the number of images.

    `chosen` has the surest rows of each cluster, None without a limit per cluster.
    """
    _, kept, left_out = export_rows.decide(shard, export.layer, export.filter, export.classes)
    if chosen is not None:
        left_out[f"beyond the {export.filter.per_cluster} of its cluster"] += len(kept) - len(chosen)
        kept = chosen
    rows, files = export_rows.read(shard, export.layer, export.classes), dict[int, str]()
    n = len(rows)
    if export.format.pictured:
        files = _images(export, shard, name, target, rows, kept, left_out)
        kept = np.array(sorted(files), np.int64)
        rows = rows.add_column(0, "file", pa.array(map(files.get, range(n)), pa.string()))
    rows = rows.take(kept)
    metadata = {
        LEFT_OUT: json.dumps(+left_out),
        FILES: json.dumps([name, min(len(files), 1) if target.tars else len(files)]),
    }
    files_tables.write(rows, path, Counts(n, len(rows), n - len(rows)), metadata)
    return len(rows)


def _images(
    export: Export,
    shard: Shard,
    name: str,
    target: Target,
    rows: pa.Table,
    kept: NDArray[np.int64],
    left_out: Counter[str],
) -> dict[int, str]:
    """Write the images of the rows `kept`, count others in `left_out`, and return the path of each row's image."""

    def usable() -> Iterator[tuple[int, bytes, str]]:
        gone = len(kept)
        for row, image in export_rows.find(shard, rows["key"].to_pylist(), kept, export.max_bytes):
            gone -= 1
            kind = extension(image) if image is not None else None
            if image is None:
                left_out["whose image cannot be read"] += 1
            elif kind is None:
                left_out["whose bytes are no image"] += 1
            elif export.format is Format.IMAGEFOLDER and kind not in IMAGEFOLDER:
                left_out[f"in the format {kind}, which ImageFolder does not read"] += 1
            else:
                yield row, image, kind
        left_out["whose image is no longer in its shard"] += gone

    if export.format is Format.WEBDATASET:
        columns = export_rows.schema(export.layer, files=False).names
        return webdataset.write(target, name, usable(), rows.select(columns), export_rows.metadata(shard, export.layer))
    files: dict[int, str] = {}
    classes = rows["class"].to_pylist()

    def named() -> Iterator[tuple[str, bytes | Path]]:
        for row, image, kind in usable():
            inside = {Format.IMAGEFOLDER: export.classes[classes[row]].folder, Format.FIFTYONE: "data"}
            files[row] = f"{inside.get(export.format, 'images')}/{name}-{row:06d}.{kind}"
            source = Path(os.path.abspath(f"{shard.images}/{rows['key'][row].as_py()}"))
            yield files[row], source if export.links else image

    target.place(named())
    return files


def finish(export: Export, target: Target, lists: Sequence[str]) -> tuple[int, Mapping[str, int]]:
    """Write the files that combine all shards. Returns the number of images, and of those left out by reason."""
    left_out, images = Counter[str](), 0
    for footer in target.footers(lists):
        images += footer.num_rows
        left_out.update(json.loads(footer.metadata[LEFT_OUT.encode()]))
    schema = files_tables.read_schema(lists[0]).remove_metadata()  # metadata have the same columns in all shards
    with target.commit({name: f"{target.address}/{name}" for name in export.combined}) as out:
        for name, path in out.items():
            match name:
                case "images.parquet":
                    tables.write_parquet(path, lists, schema, {name: name for name in schema.names})
                case "images.csv":
                    tables.write_csv(path, lists, schema.names)
                case "metadata.parquet":
                    huggingface.write_metadata(path, lists, schema, [c.title for c in export.classes])
                case "README.md":
                    path.write_text(huggingface.CARD, encoding="utf-8")
                case "labels.json":
                    tables.write_fiftyone(path, lists, schema.names, [c.title for c in export.classes])
                case "classes.csv":
                    tables.write_classes(path, export.classes)
    return images, dict(left_out)
