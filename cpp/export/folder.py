"""The target folder of an export on a local disk: its owner, its finished shards, and atomic writes.

Every finished shard has a hidden Parquet file, its list, named by the shard and the fingerprint of its inputs. The list
is written last and names the files of the shard: a shard is done if its list and all files on it exist. Other files of
an earlier or interrupted export are removed. `cpp.export.bucket` does the same in a bucket. Does not know the formats.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from cpp.files import filesystem, tables
from cpp.store.lease import LockedError

MARK = "export.json"
IMAGE = re.compile(r"[^/]+/(\d{5,})-\d{6,}\.[a-z0-9]+")  # names of images, which hold no untrusted text
TAR = re.compile(r"([^/.][^/]*)\.tar")
_PART = re.compile(r"\.([^/]+)\.([0-9a-f]{16})\.parquet")
_NEW, _LOCK = ".new-", ".lock"


class Folder:
    """The folder `address` on a local disk. With `one_file` a shard is one tar, else one file for each image."""

    def __init__(self, address: str, one_file: bool) -> None:
        self.address, self.one_file = address, one_file

    def path(self, name: str) -> str:
        return f"{self.address}/{name}"

    def part(self, shard: str, key: str) -> str:
        """The name of the list of a finished shard."""
        return f".{shard}.{key}.parquet"

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A path to write to; the file appears as `name` only if the block ends without an error."""
        new = Path(self.path(f"{_NEW}{name}"))
        try:
            yield new
            with new.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(new, self.path(name))
        finally:
            new.unlink(missing_ok=True)

    def place(self, shard: str, images: Iterable[tuple[str, bytes | Path]]) -> None:
        """Write the images of a shard under their names, each atomically; for a path, write a link to it."""
        new = Path(self.path(f"{_NEW}{shard}"))
        new.unlink(missing_ok=True)  # left by a dead worker; writing to a link would change the source
        for name, image in images:
            if isinstance(image, Path):
                new.symlink_to(image)
            else:
                new.write_bytes(image)
            target = Path(self.path(name))
            target.parent.mkdir(exist_ok=True)
            os.replace(new, target)

    def settle(self) -> None:
        """Flush all files to the disk, so that they survive a crash of the machine."""
        os.sync()

    @contextmanager
    def claim(self, format: str) -> Iterator[None]:
        """Create the folder if needed, and be its only writer until the end of the block.

        Raises PermissionError if it cannot be written, holds other files or an export in another format, LockedError if
        another export is writing to it.
        """
        try:
            Path(self.address).mkdir(parents=True, exist_ok=True)
            entries = set(os.listdir(self.address)) - {_LOCK}
            self._check(format, entries, self._format() if MARK in entries else None)
            lock = (Path(self.address) / _LOCK).open("a")
        except OSError as error:
            if error.errno is None:
                raise
            raise PermissionError(
                f"cannot write to the folder {self.address} ({error.strerror}): name one that can be written"
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LockedError(f"another export is writing to {self.address}: wait for it, or stop it") from None
            yield

    def write_mark(self, description: Mapping[str, Any]) -> None:
        """Write `export.json`, which describes the export."""
        with self.writing(MARK) as path:
            path.write_text(json.dumps(description, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def clean(self, keys: Mapping[str, str], finals: tuple[str, ...]) -> set[str]:
        """Remove all files but those of the finished shards in `keys` (shard -> fingerprint), and return these shards.

        If a shard is not finished, the files `finals`, which combine all shards, are removed too.
        """
        n_files, parts, stale = Counter[str](), dict[str, str](), list[str]()
        for name in self._names():
            if match := _PART.fullmatch(name):
                parts |= {name: match[1]} if keys.get(match[1]) == match[2] else {}
                stale += [] if name in parts else [name]
            elif name.startswith(_NEW):
                stale.append(name)
            elif shard := self._shard(name):
                n_files[shard] += 1
        self._remove(stale)
        listed = zip(parts.values(), self.footers([*parts]), strict=True)
        done = {shard for shard, footer in listed if self._listed(footer) == n_files[shard]}
        if not set(n_files) <= done >= set(keys):
            obsolete = {name for name, shard in parts.items() if shard not in done} | set(finals)
            self._remove(n for n in self._names() if n in obsolete or (self._shard(n) or "") not in {"", *done})
        return done

    def footers(self, parts: Sequence[str]) -> Iterator[pq.FileMetaData]:
        """The footers of the lists of finished shards, in order."""
        return map(tables.read_footer, map(self.path, parts))

    def _check(self, format: str, entries: set[str], existing: str | None) -> None:
        """Raise PermissionError if the folder has `entries` and the format of the `existing` export is another."""
        if entries and existing != format:
            content = f"an export in the format {existing}" if existing else "files and is not an export"
            raise PermissionError(f"{self.address} holds {content}: name a folder that is new or empty")

    def _format(self) -> str | None:
        """The format of the existing export, None if `export.json` was not written by an export."""
        try:
            with filesystem.open_file(self.path(MARK)) as file:
                mark = json.loads(file.read())
        except ValueError:
            return None
        return str(mark["format"]) if isinstance(mark, dict) and "format" in mark else None

    def _names(self) -> Iterator[str]:
        """The relative paths of the files in the folder and in its direct subfolders."""
        for folder, folders, names in os.walk(self.address):
            inside = os.path.relpath(folder, self.address)
            if inside != ".":
                folders.clear()
            yield from (name if inside == "." else f"{inside}/{name}" for name in names)

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            os.unlink(self.path(name))
        for entry in list(os.scandir(self.address)):
            if entry.is_dir(follow_symlinks=False) and not any(os.scandir(entry)):
                os.rmdir(entry)

    def _shard(self, name: str) -> str | None:
        """The shard of an image or tar by its name; None for other files."""
        match = (TAR if self.one_file else IMAGE).fullmatch(name)
        return match and match[1]

    def _listed(self, footer: pq.FileMetaData) -> int:
        """The number of files on a shard's list, which has a column `file` if it has images."""
        if "file" not in footer.schema.to_arrow_schema().names:
            return 0
        return min(footer.num_rows, 1) if self.one_file else int(footer.num_rows)
