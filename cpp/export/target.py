"""The folder that an export fills, on a local disk or in a bucket, as a store of results.

The result of a shard is its list, a hidden Parquet file that is written after the files of the shard, tar or images. It
counts as finished while all of them exist. Does not know the formats.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pyarrow.parquet as pq

from cpp.files import filesystem, tables
from cpp.files.filesystem import REQUESTS
from cpp.files.iterables import map_threads
from cpp.store.local import Store
from cpp.store.object_store import Bucket
from cpp.store.results import Product

MARK = "export.json"
FILES = "cpp.files"  # in the metadata of a list: how the names of the shard's files begin, and their number
_IMAGE = re.compile(r"[^/]+/(\d{5,})-\d{6,}\.[a-z0-9]+")  # names of images, which hold no untrusted text
_TAR = re.compile(r"([^/.][^/]*)\.tar")
_LIST = re.compile(r"\.[^/]+[-.][0-9a-f]{16}\.parquet")
_WORKING = (".lock", ".lease/", ".tmp/")


class Target(Store):
    """A folder on a local disk. With `tars` a shard is one tar, else one file for each image."""

    PRIVATE, KIND, REMEDY = ".", "folder", "name with --to"
    READ_ONLY = False

    def __init__(self, address: str, tars: bool) -> None:
        super().__init__(address)
        self.tars = tars

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.address, self.tars)

    def path(self, product: Product, shard: str, fingerprint: str) -> str:
        """Where a list is: not in a subfolder, because ImageFolder takes every one for a class."""
        return f"{self.address}/.{shard}-{fingerprint}{product.suffix}"

    def listing(self, product: Product) -> set[str]:
        """The names of the lists all of whose files exist."""
        names = self._names()
        existing, lists = Counter(map(self._shard, names)), [name for name in names if _LIST.fullmatch(name)]
        finished = set()
        for name, footer in zip(lists, self.footers([f"{self.address}/{name}" for name in lists]), strict=True):
            shard, n_files = json.loads((footer.metadata or {}).get(FILES.encode(), b'["", 1]'))
            finished |= {name} if existing[shard] == n_files else set()
        return finished

    def footers(self, lists: Sequence[str]) -> Iterator[pq.FileMetaData]:
        """The footers of lists, in order."""
        return map_threads(tables.read_footer, lists, REQUESTS, REQUESTS)

    def clean(self, shards: Collection[str], lists: Collection[str], combined: Collection[str] = ()) -> None:
        """Remove the files of all but these shards, all but these lists, and the files `combined`."""
        obsolete = [
            name
            for name in self._names()
            if name in combined
            or (_LIST.fullmatch(name) and name not in lists)
            or self._shard(name) not in {None, *shards}
        ]
        with self._access():
            self._hide(obsolete)

    def check(self, format: str) -> None:
        """PermissionError if the folder holds other files, or an export in another format."""
        names, existing = self._names(), None
        if MARK in names:
            with filesystem.open_file(f"{self.address}/{MARK}") as file, suppress(ValueError, TypeError, KeyError):
                existing = json.loads(file.read())["format"]  # if an export wrote it
        if names and existing != format:
            content = f"an export in the format {existing}" if existing else "files and is not an export"
            raise PermissionError(f"{self.address} holds {content}: name a folder that is new or empty")

    def write_mark(self, description: Mapping[str, Any]) -> None:
        """Write `export.json`, which describes the export."""
        with self.commit({"mark": f"{self.address}/{MARK}"}) as out:
            out["mark"].write_text(json.dumps(description, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def place(self, images: Iterable[tuple[str, bytes | Path]]) -> None:
        """Write images under their names; for a path, write a link to it. They survive a crash of the machine."""
        for name, image in images:
            path = self.root / name
            path.parent.mkdir(exist_ok=True)
            path.unlink(missing_ok=True)  # left by a dead worker; writing to a link would change the source
            if isinstance(image, Path):
                path.symlink_to(image)
            else:
                path.write_bytes(image)
        os.sync()

    def _names(self) -> list[str]:
        """The paths of all files but those that only a running export has."""
        with self._access():
            return sorted(name for name in self._files("") if name and not name.startswith(_WORKING))

    def _shard(self, name: str) -> str | None:
        """How the names of a shard's files begin, by the name of one; None for other files."""
        match = (_TAR if self.tars else _IMAGE).fullmatch(name)
        return match and match[1]


class BucketTarget(Target, Bucket):
    """A folder at an address in a bucket. It has no links."""

    @contextmanager
    def lock(self, report: Callable[[str], None] = print) -> Iterator[None]:
        with self._objects.writing(".lease", report):
            yield

    def place(self, images: Iterable[tuple[str, bytes | Path]]) -> None:
        def put(image: tuple[str, bytes | Path]) -> None:
            with self._objects.explain_errors():
                self._objects.write(cast("bytes", image[1]), image[0])

        for _ in map_threads(put, images, REQUESTS, REQUESTS):
            pass


def open_target(address: str, tars: bool) -> Target:
    """The folder at a path of a local disk, or at an address in a bucket."""
    return (BucketTarget if filesystem.is_remote(address) else Target)(address, tars)
