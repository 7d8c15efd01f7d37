"""The target folder of an export in a bucket, where files can be neither renamed nor locked.

A file is finished on a local disk, an image in memory, before one request uploads it. The only writer holds a lease.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pyarrow.parquet as pq

from cpp.export.folder import MARK, Folder
from cpp.files import scratch, tables
from cpp.files.filesystem import REQUESTS
from cpp.files.iterables import map_threads
from cpp.store.bucket_folder import BucketObjects

LEASE = ".lease"


class BucketFolder(Folder):
    """A folder at an address in a bucket. It has no links."""

    def __init__(self, address: str, one_file: bool) -> None:
        super().__init__(address.rstrip("/"), one_file)
        self._objects = BucketObjects(self.address, "folder", "name with --to one in")

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=scratch.folder()) as folder:
            path = Path(folder) / name
            yield path
            with self._objects.explain_errors():
                self._objects.put(path, name)

    def place(self, shard: str, images: Iterable[tuple[str, bytes | Path]]) -> None:
        def put(image: tuple[str, bytes | Path]) -> None:
            with self._objects.explain_errors():
                self._objects.write(cast("bytes", image[1]), image[0])

        for _ in map_threads(put, images, REQUESTS, REQUESTS):
            pass

    def settle(self) -> None:
        """Do nothing: an object store keeps every object that it has accepted."""

    @contextmanager
    def claim(self, format: str) -> Iterator[None]:
        with self._objects.explain_errors():
            entries = self._objects.entries("").keys() - {LEASE}
            existing = self._format() if MARK in entries else None
        self._check(format, entries, existing)
        with self._objects.writing(LEASE, print):
            yield

    def footers(self, parts: Sequence[str]) -> Iterator[pq.FileMetaData]:
        return map_threads(tables.read_footer, map(self.path, parts), REQUESTS, REQUESTS)

    def _names(self) -> Iterator[str]:
        with self._objects.explain_errors():
            names = self._objects.below("")
        yield from names

    def _remove(self, names: Iterable[str]) -> None:
        with self._objects.explain_errors():
            self._objects.remove(names)
