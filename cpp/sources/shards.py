"""What images are read from: WebDataset tars, folders, COCO, Parquet with bytes, tables of addresses; cut into shards.

A shard is a frozen description that can be pickled: where its images are, and a fingerprint of the names, sizes and
times of change (or etags) of what it is made of. Paths are as in `cpp.sources.paths`. Knows nothing of pixels or
models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Literal, get_args

from cpp.sources import table as rows
from cpp.sources.coco import CocoShard
from cpp.sources.folder import FolderShard, is_image
from cpp.sources.paths import Entry, expand, find_files, siblings
from cpp.sources.samples import Sample
from cpp.sources.table import TableShard
from cpp.sources.tar import TarShard
from cpp.store.results import WHOLE, fingerprint

Format = Literal["webdataset", "folder", "coco", "parquet", "table"]
ImageShard = TarShard | FolderShard | CocoShard | TableShard
MAX_BYTES = 1 << 26  # of one encoded image


@dataclass(frozen=True)
class Images:
    """What a person says of images. `path`: tars; one folder; Parquet files; or Parquet, CSV or TSV files of addresses.

    `shard_size` images are a shard, but a tar is one as it is. `column` holds bytes or addresses, `key` names an image
    (parquet, table). `labels` makes the folder of a file its label (folder). `annotations` are JSON files (coco).
    """

    format: Format
    path: tuple[str, ...]
    shard_size: int = 10_000
    column: str | None = None
    key: str | None = None
    labels: bool = False
    annotations: tuple[str, ...] = ()


def shards(images: Images) -> dict[str, ImageShard]:
    """The shards by name, in order. ValueError, naming the setting, where there is nothing or it does not fit."""
    return dict(iter_shards(images))


def iter_shards(images: Images) -> Iterator[tuple[str, ImageShard]]:
    """The same one by one."""
    if images.shard_size < 1:
        raise ValueError(f"images.shard_size is {images.shard_size}, it must be at least 1")
    if not images.path:
        raise ValueError("images.path is empty: name the images")
    match images.format:
        case "webdataset":
            found: Iterator[tuple[str, ImageShard]] = _tars(images)
        case "folder":
            found = _folder(images)
        case "coco":
            found = _coco(images)
        case "parquet" | "table":
            found = _tables(images)
        case _:
            raise ValueError(f"images.format is {images.format!r}, it must be one of {', '.join(get_args(Format))}")
    for name, shard in found:
        yield f"{name}-images" if name == WHOLE else name, shard


def read_samples(shard: ImageShard, max_bytes: int = MAX_BYTES) -> Iterator[Sample]:
    """The samples of a shard in the order of the input; an image of more than `max_bytes` is a row with a reason.

    ValueError, naming the file, where the shard is damaged: after the samples before the damage, never silently short.
    """
    return shard.read(max_bytes)


def read_images(shard: str | ImageShard, keys: Iterable[str]) -> dict[str, bytes]:
    """Bytes of the images of the given keys in a shard, or at its `path`, as far as they are there."""
    return dict(iter_images(shard, keys))


def iter_images(shard: str | ImageShard, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """The same one by one, in the order of the shard. Stops at the last."""
    wanted = set(keys)
    for sample in select_samples(shard, frozenset(wanted), MAX_BYTES) if wanted else ():
        if sample.key in wanted and sample.image is not None:
            wanted.remove(sample.key)
            yield sample.key, sample.image
            if not wanted:
                return


def select_samples(shard: str | ImageShard, keys: frozenset[str], max_bytes: int) -> Iterator[Sample]:
    """The samples of the given keys in the order of the shard, each as often as it is there."""
    return (sample for sample in _near(shard, keys, max_bytes) if sample.key in keys)


def _near(shard: str | ImageShard, keys: frozenset[str], max_bytes: int) -> Iterator[Sample]:
    """At least the samples of these keys."""
    if isinstance(shard, str) and shard.endswith(".tar"):
        shard = TarShard(shard, "")
    elif isinstance(shard, str):
        shard = TableShard.from_path(shard) or FolderShard(shard, "", tuple(sorted(keys)))
    if isinstance(shard, TableShard | TarShard):
        return shard.pick(keys, max_bytes)
    if isinstance(shard, FolderShard):
        shard = replace(shard, names=tuple(name for name in shard.names if name in keys))
    return read_samples(shard, max_bytes)


def _tars(images: Images) -> Iterator[tuple[str, ImageShard]]:
    files = expand(images.path)
    tables = siblings([path for path, _ in files], ".parquet")
    for name, (path, identity) in zip(_names(files), files, strict=True):
        table, about = tables.get(path, (None, ""))
        yield name, TarShard(path, fingerprint(identity, about), table)


def _folder(images: Images) -> Iterator[tuple[str, ImageShard]]:
    for i, (path, names, identities) in enumerate(_pieces(images)):
        yield f"{i:05d}", FolderShard(path, fingerprint(identities, images.labels), names, images.labels)


def _coco(images: Images) -> Iterator[tuple[str, ImageShard]]:
    if not images.annotations:
        raise ValueError("images.annotations is empty: name captions_*.json or instances_*.json, or use format: folder")
    annotations = tuple(expand(images.annotations))
    pieces = list(_pieces(images))
    lasts = [names[-1] for _, names, _ in pieces]
    bounds = zip(["", *lasts[:-1]], [*lasts[:-1], None], strict=True)
    for i, ((path, names, identities), bound) in enumerate(zip(pieces, bounds, strict=True)):
        about = fingerprint(identities, annotations, bound)
        yield f"{i:05d}", CocoShard(path, about, names, *bound, annotations)


def _tables(images: Images) -> Iterator[tuple[str, ImageShard]]:
    files, rows_of_all = expand(images.path), 0
    for name, (path, identity) in zip(_names(files), files, strict=True):
        addresses = images.format == "table"
        column = rows.image_column(path, images.column, addresses)
        if images.key is not None and images.key not in (names := rows.schema(path).names):
            raise ValueError(f"{path} has no column {images.key!r} (images.key); it has {', '.join(names)}")
        total, size = rows.length(path), images.shard_size
        rows_of_all += total
        for i, start in enumerate(range(0, total, size)):
            stop = min(start + size, total)
            shard = TableShard(path, "", start, stop, column, addresses, images.key)
            about = fingerprint(identity, shard.path)
            yield name if total <= size else f"{name}-{i:05d}", replace(shard, fingerprint=about)
    if not rows_of_all:
        raise ValueError(f"the {len(files)} tables of images.path have no rows")


def _pieces(images: Images) -> Iterator[tuple[str, tuple[str, ...], list[str]]]:
    """The images of one folder, `shard_size` at a time: the folder, their names, their fingerprints."""
    if len(images.path) != 1:
        raise ValueError(f"images.path names {len(images.path)} folders, images.format {images.format} takes one")
    path = images.path[0].rstrip("/")
    files = list(find_files(path, is_image).items())
    if not files:
        raise ValueError(f"the folder {path} of images.path has no images")
    for start in range(0, len(files), images.shard_size):
        piece = files[start : start + images.shard_size]
        yield path, tuple(name for name, _ in piece), [identity for _, identity in piece]


def _names(files: Sequence[Entry]) -> list[str]:
    """A name for each file: its own without the suffix; where names repeat, with the folders that tell them apart."""
    parts = [PurePosixPath(path).with_suffix("").parts for path, _ in files]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["-".join(part.strip("/") for part in p[-depth:]) for p in parts]
        if max(Counter(names).values()) == 1:
            return names
    repeated = next(name for name, count in Counter(names).items() if count > 1)
    raise ValueError(f"two files of images.path would both be the shard {repeated}: rename one")
