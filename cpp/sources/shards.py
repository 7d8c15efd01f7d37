"""Image sources, cut into shards: WebDataset tars, folders, COCO, Parquet with bytes, and tables of addresses.

A shard is a frozen description that can be pickled: where its images are, and a fingerprint of the paths, sizes and
times of change (or etags) of its files. Paths are those of `cpp.sources.paths`. Knows no pixels and no models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Literal, get_args

from cpp.files.iterables import batched
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
MAX_BYTES = 1 << 26  # limit for one encoded image


@dataclass(frozen=True)
class Images:
    """The configured images. `path`: tars; one folder; Parquet files; or Parquet, CSV or TSV files of addresses.

    A shard has `shard_size` images, or is one tar. `column` holds bytes or addresses, and `key` the keys of images
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
    """The shards by name, in order. ValueError, naming the setting, if there are none or a setting does not fit."""
    return dict(iter_shards(images))


def iter_shards(images: Images) -> Iterator[tuple[str, ImageShard]]:
    """The items of `shards`, one by one."""
    if images.shard_size < 1:
        raise ValueError(f"images.shard_size is {images.shard_size}, it must be at least 1")
    if not images.path:
        raise ValueError("images.path is empty: name the images")
    match images.format:
        case "webdataset":
            result: Iterator[tuple[str, ImageShard]] = _tars(images)
        case "folder":
            result = _folder(images)
        case "coco":
            result = _coco(images)
        case "parquet" | "table":
            result = _tables(images)
        case _:
            raise ValueError(f"images.format is {images.format!r}, it must be one of {', '.join(get_args(Format))}")
    for name, shard in result:
        yield f"{name}-images" if name == WHOLE else name, shard


def read_samples(shard: ImageShard, max_bytes: int = MAX_BYTES) -> Iterator[Sample]:
    """The samples of a shard in the order of the input; an image of more than `max_bytes` is a rejected row.

    ValueError, naming the file, if the shard is damaged, after the samples before the damage.
    """
    return shard.read(max_bytes)


def read_images(shard: str | ImageShard, keys: Iterable[str]) -> dict[str, bytes]:
    """The image bytes of those keys that exist in a shard, which may be given by its `path`."""
    return dict(iter_images(shard, keys))


def iter_images(shard: str | ImageShard, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """The items of `read_images`, one by one in the order of the shard; stops at the last key."""
    remaining = set(keys)
    for sample in select_samples(shard, frozenset(remaining), MAX_BYTES) if remaining else ():
        if sample.key in remaining and sample.image is not None:
            remaining.remove(sample.key)
            yield sample.key, sample.image
            if not remaining:
                return


def select_samples(shard: str | ImageShard, keys: frozenset[str], max_bytes: int) -> Iterator[Sample]:
    """All samples with one of the keys, in the order of the shard, including repeated keys."""
    return (sample for sample in _candidates(shard, keys, max_bytes) if sample.key in keys)


def _candidates(shard: str | ImageShard, keys: frozenset[str], max_bytes: int) -> Iterator[Sample]:
    """A superset of the samples with these keys."""
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
        table, table_identity = tables.get(path, (None, ""))
        yield name, TarShard(path, fingerprint(identity, table_identity), table)


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
        digest = fingerprint(identities, annotations, bound)
        yield f"{i:05d}", CocoShard(path, digest, names, *bound, annotations)


def _tables(images: Images) -> Iterator[tuple[str, ImageShard]]:
    files, total_rows = expand(images.path), 0
    for name, (path, identity) in zip(_names(files), files, strict=True):
        addresses = images.format == "table"
        column = rows.image_column(path, images.column, addresses)
        if images.key is not None and images.key not in (names := rows.schema(path).names):
            raise ValueError(f"{path} has no column {images.key!r} (images.key); it has {', '.join(names)}")
        length, size = rows.length(path), images.shard_size
        total_rows += length
        for i, start in enumerate(range(0, length, size)):
            stop = min(start + size, length)
            shard = TableShard(path, "", start, stop, column, addresses, images.key)
            digest = fingerprint(identity, shard.path)
            yield name if length <= size else f"{name}-{i:05d}", replace(shard, fingerprint=digest)
    if not total_rows:
        raise ValueError(f"the {len(files)} tables of images.path have no rows")


def _pieces(images: Images) -> Iterator[tuple[str, tuple[str, ...], list[str]]]:
    """The folder, names and fingerprints of each `shard_size` images of the one folder."""
    if len(images.path) != 1:
        raise ValueError(f"images.path names {len(images.path)} folders, images.format {images.format} takes one")
    path = images.path[0].rstrip("/")
    files = list(find_files(path, is_image).items())
    if not files:
        raise ValueError(f"the folder {path} of images.path has no images")
    for piece in batched(files, images.shard_size):
        yield path, tuple(name for name, _ in piece), [identity for _, identity in piece]


def _names(files: Sequence[Entry]) -> list[str]:
    """A name for each file: its stem, preceded by as many parent folders as make all names distinct."""
    parts = [PurePosixPath(path).with_suffix("").parts for path, _ in files]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["-".join(part.strip("/") for part in p[-depth:]) for p in parts]
        if max(Counter(names).values()) == 1:
            return names
    repeated = next(name for name, count in Counter(names).items() if count > 1)
    raise ValueError(f"two files of images.path would both be the shard {repeated}: rename one")
