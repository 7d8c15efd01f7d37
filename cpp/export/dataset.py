"""Write the images of a run with their classes, in the layouts that trainers read. Add a new export format here.

`write` writes one shard, `finish` the files that combine all shards. Image bytes are those of the source, unchanged.
Keys and names are untrusted: a file is named by the numbers of its shard and row, a folder by a sanitized class name.

Sources of the layouts: https://github.com/webdataset/webdataset, torchvision.datasets.ImageFolder, the `imagefolder` of
https://huggingface.co/docs/datasets/image_dataset, and FiftyOneImageClassificationDataset in https://docs.voxel51.com.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cpp.encoding.images import extension
from cpp.export import rows as export_rows
from cpp.export import tables, webdataset
from cpp.export.bucket import BucketFolder
from cpp.export.classes import Class
from cpp.export.filters import Filter
from cpp.export.folder import Folder
from cpp.export.rows import Layer, Shard
from cpp.files import filesystem
from cpp.files import tables as files_tables
from cpp.files.tables import Counts
from cpp.sources.shards import MAX_BYTES
from cpp.store.results import fingerprint

VERSION = 1  # increased by every change of the code that changes the files
LEFT_OUT = "cpp.left_out"  # in the metadata of a shard's list: the number of images left out, by reason
UNREADABLE = "whose image cannot be read"
NO_IMAGE = "whose bytes are no image"
IMAGEFOLDER = frozenset({"jpg", "png", "ppm", "bmp", "tif", "webp"})  # what torchvision's ImageFolder reads
INDEX = "images.parquet"


def open_folder(address: str, one_file: bool) -> Folder:
    """The folder of an export at a path of a local disk, or at an address in a bucket."""
    return BucketFolder(address, one_file) if filesystem.is_remote(address) else Folder(address, one_file)


class Format(StrEnum):
    """The layout of an export."""

    WEBDATASET = "webdataset"
    IMAGEFOLDER = "imagefolder"
    CSV = "csv"
    PARQUET = "parquet"
    HUGGINGFACE = "huggingface"
    FIFTYONE = "fiftyone"

    @property
    def pictured(self) -> bool:
        """Whether the export holds images, not only a table."""
        return self not in (Format.CSV, Format.PARQUET)


@dataclass(frozen=True)
class Export:
    """The settings of an export. With `links` an ImageFolder has symbolic links to the files of the source folder."""

    format: Format
    layer: Layer
    classes: tuple[Class, ...]
    wanted: Filter
    links: bool = False
    max_bytes: int = MAX_BYTES

    def name(self, shard: str, number: int) -> str:
        """The name of a shard's files: a tar is named after its shard, images after the number of the shard."""
        return f"{number:05d}" if self.format.pictured and self.format is not Format.WEBDATASET else shard

    def key(self, number: int, made_from: object, chosen: NDArray[np.int64] | None) -> str:
        """The fingerprint of a shard of the export; `made_from` has the fingerprints of its input files."""
        rows = None if chosen is None else chosen.tolist()
        return fingerprint(self._what, self.name("", number), made_from, rows)

    @cached_property
    def _what(self) -> str:
        clusters = None if self.wanted.clusters is None else sorted(self.wanted.clusters)
        filters = [clusters, self.wanted.min_confidence, self.wanted.per_cluster]
        how = [VERSION, self.format, self.layer.column, self.layer.columns, self.links, self.max_bytes]
        return fingerprint(how, filters, self.classes)

    def folder(self, address: str) -> Folder:
        return open_folder(address, one_file=self.format is Format.WEBDATASET)

    @property
    def finals(self) -> tuple[str, ...]:
        """The files that combine all shards."""
        more = {Format.HUGGINGFACE: ("metadata.csv",), Format.FIFTYONE: ("labels.json",)}
        return ("images.csv" if self.format is Format.CSV else INDEX, "classes.csv", *more.get(self.format, ()))


def write(export: Export, shard: Shard, name: str, key: str, folder: Folder, chosen: NDArray[np.int64] | None) -> int:
    """Write a shard's images, then their list, which marks the shard as done. Returns the number of images.

    `chosen` has the surest rows of each cluster, None without a limit per cluster.
    """
    _, passed = export_rows.decide(shard, export.layer, export.wanted)
    keep, left_out = passed.keep.copy(), passed.left_out.copy()
    if chosen is not None:
        keep[:] = False
        keep[chosen] = True
        left_out[f"beyond the {export.wanted.per_cluster} of its cluster"] += int(passed.keep.sum() - keep.sum())
    rows = export_rows.read(shard, export.layer, export.classes)
    kept = np.flatnonzero(keep)
    if export.format.pictured:
        files = _images(export, shard, name, folder, rows, kept, left_out)
        kept = np.array(sorted(files), np.int64)
        rows = rows.take(kept).add_column(0, "file", pa.array([files[row] for row in kept.tolist()], pa.string()))
        folder.settle()  # the list must not reach the disk before the files on it
    else:
        rows = rows.take(kept)
    with folder.writing(folder.part(name, key)) as path:
        metadata = {LEFT_OUT: json.dumps(+left_out)}
        files_tables.write(rows, path, Counts(len(keep), len(rows), len(keep) - len(rows)), metadata)
    return len(rows)


def _images(
    export: Export,
    shard: Shard,
    name: str,
    folder: Folder,
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
                left_out[UNREADABLE] += 1
            elif kind is None:
                left_out[NO_IMAGE] += 1
            elif export.format is Format.IMAGEFOLDER and kind not in IMAGEFOLDER:
                left_out[f"in the format {kind}, which ImageFolder does not read"] += 1
            else:
                yield row, image, kind
        left_out[export_rows.GONE] += gone

    if export.format is Format.WEBDATASET:
        return webdataset.write(folder, name, usable(), rows, export_rows.metadata(shard, export.layer))
    files: dict[int, str] = {}
    classes = rows["class"].to_pylist()

    def named() -> Iterator[tuple[str, bytes | Path]]:
        for row, image, kind in usable():
            inside = {Format.IMAGEFOLDER: export.classes[classes[row]].folder, Format.FIFTYONE: "data"}
            files[row] = f"{inside.get(export.format, 'images')}/{name}-{row:06d}.{kind}"
            source = Path(os.path.abspath(f"{shard.images}/{rows['key'][row].as_py()}"))
            yield files[row], source if export.links else image

    folder.place(name, named())
    return files


def finish(export: Export, folder: Folder, parts: Sequence[str]) -> Mapping[str, Any]:
    """Write the files that combine all shards, whose lists are `parts`. Returns the images written and left out."""
    left_out, images = Counter[str](), 0
    for footer in folder.footers(parts):
        images += footer.num_rows
        left_out.update(json.loads(footer.metadata[LEFT_OUT.encode()]))
    paths = [folder.path(part) for part in parts]
    whole = export_rows.schema(export.layer, export.format.pictured)
    for final in export.finals:
        with folder.writing(final) as path:
            match final:
                case "images.parquet":
                    tables.write_parquet(path, paths, whole)
                case "images.csv":
                    tables.write_csv(path, paths, {name: name for name in whole.names})
                case "metadata.csv":
                    # neither keys, which a reader that guesses takes for numbers, nor labels, which may all be null
                    names = [n for n in whole.names if n not in ("file", "key", "class_name", "label", "image_shard")]
                    tables.write_csv(
                        path, paths, {"file_name": "file", "label": "class_name", **{name: name for name in names}}
                    )
                case "labels.json":
                    tables.write_fiftyone(path, paths, export.classes, export.layer)
                case "classes.csv":
                    tables.write_classes(path, export.classes)
                case _:
                    raise ValueError(f"no part of an export writes the file {final}: add a case to finish")
    return {"images": images, "left_out": dict(left_out)}
