"""The folder of an export: whose it is, what in it is done, and how files appear in it whole.

For every shard there is a hidden Parquet file, named by the shard and the fingerprint of all that its images and labels
are made from. It is written last and lists what belongs to the shard: a shard is done when that file is there and so is
what it lists. The rest of what an earlier or broken export has written is taken away. `cpp.export.bucket` is the same
on an object store. Knows nothing of formats.
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
IMAGE = re.compile(r"[^/]+/(\d{5,})-\d{6,}\.[a-z0-9]+")  # names of images: nothing in them is untrusted
TAR = re.compile(r"([^/.][^/]*)\.tar")
_PART = re.compile(r"\.([^/]+)\.([0-9a-f]{16})\.parquet")
_NEW, _LOCK = ".new-", ".lock"


class Folder:
    """The folder `address` on a local disk. `one_file` says that a shard is one tar at the top, not a file an image."""

    def __init__(self, address: str, one_file: bool) -> None:
        self.address, self.one_file = address, one_file

    def path(self, name: str) -> str:
        return f"{self.address}/{name}"

    def part(self, shard: str, key: str) -> str:
        """The name of the file that says that a shard is done."""
        return f".{shard}.{key}.parquet"

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A path to write to; the file appears as `name` when the block has ended well, and not otherwise."""
        new = Path(self.path(f"{_NEW}{name}"))
        try:
            yield new
            with new.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(new, self.path(name))
        finally:
            new.unlink(missing_ok=True)

    def place(self, shard: str, images: Iterable[tuple[str, bytes | Path]]) -> None:
        """Make the images of a shard appear by their names, each whole; a path stands for a link to it."""
        new = Path(self.path(f"{_NEW}{shard}"))
        new.unlink(missing_ok=True)  # of a worker that died: it may be a link, through which the source is written
        for name, image in images:
            if isinstance(image, Path):
                new.symlink_to(image)
            else:
                new.write_bytes(image)
            target = Path(self.path(name))
            target.parent.mkdir(exist_ok=True)
            os.replace(new, target)

    def settle(self) -> None:
        """See to it that what has appeared stays, whatever happens to the machine."""
        os.sync()

    @contextmanager
    def claim(self, format: str) -> Iterator[None]:
        """Be the only export into the folder until the end of the block; it is made where it is not there.

        PermissionError where it cannot be written or holds something else, or an export in another format; LockedError
        where another export is at work.
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
        """Write what the folder says of itself."""
        with self.writing(MARK) as path:
            path.write_text(json.dumps(description, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def clean(self, keys: Mapping[str, str], finals: tuple[str, ...]) -> set[str]:
        """Take away all that belongs to no finished shard of `keys` (shard -> fingerprint), and return those.

        Where one is missing, the files `finals`, which are made of all shards, go too.
        """
        there, parts, stale = Counter[str](), dict[str, str](), list[str]()
        for name in self._names():
            if match := _PART.fullmatch(name):
                parts |= {name: match[1]} if keys.get(match[1]) == match[2] else {}
                stale += [] if name in parts else [name]
            elif name.startswith(_NEW):
                stale.append(name)
            elif shard := self._shard(name):
                there[shard] += 1
        self._remove(stale)
        listed = zip(parts.values(), self.footers([*parts]), strict=True)
        done = {shard for shard, footer in listed if self._listed(footer) == there[shard]}
        if not set(there) <= done >= set(keys):
            lost = {name for name, shard in parts.items() if shard not in done} | set(finals)
            self._remove(n for n in self._names() if n in lost or (self._shard(n) or "") not in {"", *done})
        return done

    def footers(self, parts: Sequence[str]) -> Iterator[pq.FileMetaData]:
        """What the files of finished shards say of themselves."""
        return map(tables.read_footer, map(self.path, parts))

    def _check(self, format: str, entries: set[str], there: str | None) -> None:
        """PermissionError where the folder holds these `entries` and is no export, or `there` is another format."""
        if entries and there != format:
            what = f"an export in the format {there}" if there else "files and is not an export"
            raise PermissionError(f"{self.address} holds {what}: name a folder that is new or empty")

    def _format(self) -> str | None:
        """The format of the export that is there, None where the mark is not ours."""
        try:
            with filesystem.open_file(self.path(MARK)) as file:
                said = json.loads(file.read())
        except ValueError:
            return None
        return str(said["format"]) if isinstance(said, dict) and "format" in said else None

    def _names(self) -> Iterator[str]:
        """The files in the folder and in those in it, by their paths from here."""
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
        """Whose image or tar a file is, as far as its name tells."""
        match = (TAR if self.one_file else IMAGE).fullmatch(name)
        return match and match[1]

    def _listed(self, footer: pq.FileMetaData) -> int:
        """How many files a shard has by its list, which has a column `file` where there are any."""
        if "file" not in footer.schema.to_arrow_schema().names:
            return 0
        return min(footer.num_rows, 1) if self.one_file else int(footer.num_rows)
