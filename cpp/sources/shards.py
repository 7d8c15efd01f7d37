"""Image sources, cut into shards: WebDataset tars, folders, COCO, Parquet with bytes, and tables of addresses.

A shard is a frozen description that can be pickled: where its images are, and a fingerprint of the paths, sizes and
times of change (or etags) of its files. Paths are those of `cpp.sources.paths`. Knows no pixels and no models.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Literal, get_args

from cpp.files import filesystem
from cpp.sources.coco import CocoShard
from cpp.sources.folder import FolderShard
from cpp.sources.formats import TARS, tar_stem
from cpp.sources.ignored import NO_ROWS, FileCounts
from cpp.sources.listing import Listing, cut, list_folder
from cpp.sources.paths import HTTP, Entry, expand, siblings
from cpp.sources.samples import Sample, distinct_keys
from cpp.sources.table import TableShard
from cpp.sources.table_rows import EXTENSIONS, Kind, describe
from cpp.sources.tar import TarShard, is_tar
from cpp.store.results import WHOLE, fingerprint

Format = Literal["webdataset", "folder", "coco", "parquet", "table"]
ImageShard = TarShard | FolderShard | CocoShard | TableShard
MAX_BYTES = 1 << 26  # limit for one encoded image


@dataclass(frozen=True)
class Images:
    """The configured images. `path`: tars; one folder; Parquet files; or Parquet, CSV or TSV files of addresses.

    A shard has at most `shard_size` images, or is one tar. `column` holds bytes or addresses, and `key` the keys of
    images (parquet, table). `labels` makes the folder of a file its label (folder). `annotations` are JSON files
    (coco).
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


def iter_shards(images: Images, counts: FileCounts | None = None) -> Iterator[tuple[str, ImageShard]]:
    """The items of `shards`, one by one. `counts` receives the numbers of files."""
    counts = FileCounts() if counts is None else counts
    if images.shard_size < 1:
        raise ValueError(f"images.shard_size is {images.shard_size}, it must be at least 1")
    if not images.path:
        raise ValueError("images.path is empty: name the images")
    match images.format:
        case "webdataset":
            result: Iterator[tuple[str, ImageShard]] = _tars(images, counts)
        case "folder":
            result = _folder(images, counts)
        case "coco":
            result = _coco(images, counts)
        case "parquet" | "table":
            result = _tables(images, counts)
        case _:
            raise ValueError(f"images.format is {images.format!r}, it must be one of {', '.join(get_args(Format))}")
    for name, shard in result:
        yield f"{name}-images" if name == WHOLE else name, shard


def read_samples(shard: ImageShard, max_bytes: int = MAX_BYTES) -> Iterator[Sample]:
    """The samples of a shard in the order of the input; an image of more than `max_bytes` is a rejected row.

    Keys are distinct: the second sample with the key K of the input has the key `K#2`.

    ValueError, naming the file, if the shard is damaged, after the samples before the damage.
    """
    for sample, key in _distinct(shard.read(max_bytes)):
        yield sample if key == sample.key else replace(sample, key=key)


def read_images(shard: str | ImageShard, keys: Iterable[str]) -> dict[str, bytes]:
    """The image bytes of those keys that exist in a shard, which may be given by its `path`."""
    return dict(iter_images(shard, keys))


def iter_images(shard: str | ImageShard, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """The items of `read_images`, one by one in the order of the shard; stops at the last key."""
    remaining = set(keys)
    for sample in select_samples(shard, frozenset(remaining), MAX_BYTES) if remaining else ():
        if sample.key in remaining:
            remaining.remove(sample.key)
            if sample.image is not None:
                yield sample.key, sample.image
            if not remaining:
                return


def select_samples(shard: str | ImageShard, keys: frozenset[str], max_bytes: int) -> Iterator[Sample]:
    """The samples with one of the keys, in the order of the shard.

    A sample that repeats the key K is known as `K#2`, and as K too, as earlier versions called it.
    """
    for sample, key in _distinct(_candidates(shard, frozenset(_with_first_keys(keys)), max_bytes)):
        if key in keys:
            yield replace(sample, key=key)
        elif sample.key in keys:
            yield sample


def _distinct(samples: Iterable[Sample]) -> Iterator[tuple[Sample, str]]:
    """Samples as they are in the input, each with its distinct key."""
    one, other = itertools.tee(samples)
    return zip(one, distinct_keys(sample.key for sample in other), strict=True)


def _with_first_keys(keys: Iterable[str]) -> Iterator[str]:
    """The keys, and those in the input that samples with these keys may have: of `K#2#2` also `K#2` and `K`."""
    for key in keys:
        first = key
        yield first
        while number := re.search(r"(?<=.)#\d+$", first):
            first = first[: number.start()]
            yield first


def _candidates(shard: str | ImageShard, keys: frozenset[str], max_bytes: int) -> Iterator[Sample]:
    """A superset of the samples with these keys."""
    if isinstance(shard, str):
        shard = TableShard.from_path(shard) or _tar_or_folder(shard, keys)
    if isinstance(shard, TableShard | TarShard):
        return shard.pick(keys, max_bytes)
    if isinstance(shard, FolderShard):
        shard = replace(shard, names=tuple(name for name in shard.names if name in keys), texts=(), tables=())
    return shard.read(max_bytes)


def _tar_or_folder(path: str, keys: frozenset[str]) -> TarShard | FolderShard:
    """The shard at a path: a file is a tar, whatever its name. One that is gone is judged by its name."""
    fs, name = filesystem.connect(path)
    if path.startswith(HTTP) or (not fs.isdir(name) and (fs.exists(name) or path.lower().endswith(TARS))):
        return TarShard(path, "")
    return FolderShard(path, "", tuple(sorted(keys)))


def _tars(images: Images, counts: FileCounts) -> Iterator[tuple[str, ImageShard]]:
    files = expand(images.path, counts, TARS, is_tar)
    tables = siblings({path: f"{tar_stem(path)}.parquet" for path, _ in files})
    counts.files += len(tables)
    for name, (path, identity) in zip(_names(files), files, strict=True):
        table, table_identity = tables.get(path, (None, ""))
        yield name, TarShard(path, fingerprint(identity, table_identity), table)


def _folder(images: Images, counts: FileCounts) -> Iterator[tuple[str, ImageShard]]:
    path, listing = _listing(images, counts)
    for name, names, after, upto in _pieces(listing, images.shard_size):
        texts = {(image, text): f for image in names for text, f in listing.texts.get(image, {}).items()}
        tables = tuple(
            (t, f) for t, f in sorted(listing.tables.items()) if _overlaps(t.rpartition("/")[0], after, upto)
        )
        interval = (after, upto) if tables else ("", None)
        identities = [listing.pictures[image] for image in names]
        digest = fingerprint(identities, images.labels, list(texts.values()), tables, interval)
        yield name, FolderShard(path, digest, names, images.labels, tuple(texts), tables, *interval)


def _overlaps(folder: str, after: str, upto: str | None) -> bool:
    """Whether names of files in a folder may be in the interval (after, upto]."""
    return not folder or (after < f"{folder}0" and (upto is None or upto >= f"{folder}/"))  # 0 comes after the slash


def _coco(images: Images, counts: FileCounts) -> Iterator[tuple[str, ImageShard]]:
    if not images.annotations:
        raise ValueError("images.annotations is empty: name captions_*.json or instances_*.json, or use format: folder")
    annotations = tuple(expand(images.annotations, counts))
    path, listing = _listing(images, counts)
    # Which image a file name in an annotation file means depends on the names of all images, also in other shards.
    all_names = fingerprint(list(listing.pictures))
    for name, names, after, upto in _pieces(listing, images.shard_size):
        identities = [listing.pictures[image] for image in names]
        digest = fingerprint(identities, annotations, (after, upto), all_names)
        yield name, CocoShard(path, digest, names, after, upto, annotations, all_names)


def _tables(images: Images, counts: FileCounts) -> Iterator[tuple[str, ImageShard]]:
    inside = EXTENSIONS if images.format == "table" else (".parquet",)
    files, total_rows = expand(images.path, counts, inside), 0
    for name, (path, identity) in zip(_names(files), files, strict=True):
        columns, length = describe(path)
        if not length:
            counts.files -= 1  # `ignore` counts it again
            counts.ignore(NO_ROWS, path)
            continue
        column, addresses = _image_column(images, path, columns), images.format == "table"
        if images.key is not None and images.key not in columns:
            raise ValueError(f"{path} has no column {images.key!r} (images.key); it has {', '.join(columns)}")
        size = images.shard_size
        total_rows += length
        for i, start in enumerate(range(0, length, size)):
            stop = min(start + size, length)
            shard = TableShard(path, "", start, stop, column, addresses, images.key)
            digest = fingerprint(identity, shard.path)
            yield name if length <= size else f"{name}-{i:05d}", replace(shard, fingerprint=digest)
    if not total_rows:
        raise ValueError(f"the {len(files)} tables of images.path have no rows, the first is {files[0][0]}")


def _image_column(images: Images, path: str, columns: Mapping[str, Kind]) -> str:
    """The column of images: `images.column`, or else the only one with bytes. ValueError if there is no such column."""
    kind = Kind.TEXT if images.format == "table" else Kind.BYTES
    suitable = [name for name in columns if columns[name] is kind]
    if images.column is not None and (images.column in suitable or not columns):  # no line of JSON Lines can be read
        return images.column
    if images.column is None and len(suitable) == 1 and kind is Kind.BYTES:
        return suitable[0]
    wanted = "addresses (text)" if kind is Kind.TEXT else "bytes (binary, or struct{bytes, path})"
    raise ValueError(
        f"{path}: images.column is {images.column!r}, it must name a column of {wanted}; "
        f"there are {', '.join(suitable) or 'none'} among {', '.join(columns)}"
    )


def _listing(images: Images, counts: FileCounts) -> tuple[str, Listing]:
    """The one folder and what is in it."""
    if len(images.path) != 1:
        raise ValueError(f"images.path names {len(images.path)} folders, images.format {images.format} takes one")
    path = images.path[0].rstrip("/")
    listing = list_folder(path, counts)
    if not listing.pictures:
        raise ValueError(f"the folder {path} of images.path has no images")
    return path, listing


def _pieces(listing: Listing, size: int) -> Iterator[tuple[str, tuple[str, ...], str, str | None]]:
    """The shards of a folder: name, images, and the interval (after, upto] of names that it covers."""
    names = list(listing.pictures)
    for name, start, stop in cut(names, size):
        after, upto = names[start - 1] if start else "", names[stop - 1] if stop < len(names) else None
        yield name, tuple(names[start:stop]), after, upto


def _names(files: Sequence[Entry]) -> list[str]:
    """A name for each file: its stem, preceded by as many parent folders as make all names distinct.

    The whole file name takes the place of the stem if two files of one folder differ in their endings only.
    """
    for stem in (tar_stem, str):
        parts = [PurePosixPath(stem(path)).parts for path, _ in files]
        for depth in range(1, max(map(len, parts)) + 1):
            names = ["-".join(part.strip("/") for part in p[-depth:]) for p in parts]
            if max(Counter(names).values()) == 1:
                return names
    repeated = next(name for name, count in Counter(names).items() if count > 1)
    raise ValueError(f"two files of images.path would both be the shard {repeated}: rename one")
