"""The folder of an export: whose it is, what in it is done, and how files appear in it whole.

For every shard there is a hidden Parquet file, named by the shard and the fingerprint of all that its images and labels
are made from. It is written last and lists what belongs to the shard: a shard is done when that file is there and so is
what it lists. The rest of what an earlier or broken export has written is taken away. Knows nothing of formats.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from cpp.store import LockedError

MARK = "export.json"
IMAGE = re.compile(r"(\d{5,})-\d{6,}\.[a-z0-9]+")  # names of images: nothing in them is untrusted
_PART = re.compile(r"\.(.+)\.([0-9a-f]{16})\.parquet")
_NEW, _LOCK = ".new-", ".lock"


@dataclass(frozen=True)
class Folder:
    """A place on a local disk. `one_file` says that a shard is one tar at the top, not one file for each image."""

    path: Path
    one_file: bool

    def part(self, shard: str, key: str) -> Path:
        """The file that says that a shard is done."""
        return self.path / f".{shard}.{key}.parquet"

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A path to write to; the file appears as `name` when the block has ended well, and not otherwise."""
        new = self.path / f"{_NEW}{name}"
        try:
            yield new
            with new.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(new, self.path / name)
        finally:
            new.unlink(missing_ok=True)

    def place(self, new: Path, name: str) -> None:
        """Make a finished scratch file appear as `name`."""
        target = self.path / name
        target.parent.mkdir(exist_ok=True)
        os.replace(new, target)

    def scratch(self, shard: str) -> Path:
        """Where a shard writes one file at a time before it is placed; nothing is there."""
        path = self.path / f"{_NEW}{shard}"
        path.unlink(missing_ok=True)  # of a worker that died: it may be a link, through which the source is written
        return path

    @contextmanager
    def claim(self, format: str) -> Iterator[None]:
        """Be the only export into the folder until the end of the block; it is made where it is not there.

        PermissionError where it cannot be written or holds something else, or an export in another format; LockedError
        where another export is at work.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            entries = set(os.listdir(self.path)) - {_LOCK}
            there = self._format() if MARK in entries else None
            if entries and there != format:
                what = f"an export in the format {there}" if there else "files and is not an export"
                raise PermissionError(f"{self.path} holds {what}: name a folder that is new or empty")
            lock = (self.path / _LOCK).open("a")
        except OSError as error:
            if error.errno is None:
                raise
            raise PermissionError(
                f"cannot write to the folder {self.path} ({error.strerror}): name one that can be written"
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LockedError(f"another export is writing to {self.path}: wait for it, or stop it") from None
            yield

    def say(self, about: Mapping[str, Any]) -> None:
        """Write what the folder says of itself."""
        with self.writing(MARK) as path:
            path.write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def clean(self, keys: Mapping[str, str], finals: tuple[str, ...]) -> set[str]:
        """Take away all that belongs to no finished shard of `keys` (shard -> fingerprint), and return those.

        Where one is missing, the files `finals`, which are made of all shards, go too.
        """
        entries = os.listdir(self.path)
        parts = {name: match for name in entries if (match := _PART.fullmatch(name))}
        stale = {name for name, (shard, key) in ((n, m.groups()) for n, m in parts.items()) if keys.get(shard) != key}
        for name in stale | {name for name in entries if name.startswith(_NEW)}:
            (self.path / name).unlink()
        there = Counter(shard for shard, _ in self._files())
        done = {m[1] for name, m in parts.items() if name not in stale and self._listed(name) == there[m[1]]}
        if set(there) <= done >= set(keys):
            return done
        for name in finals:
            (self.path / name).unlink(missing_ok=True)
        for name, match in parts.items():
            if match[1] not in done:
                (self.path / name).unlink(missing_ok=True)
        for shard, path in self._files():
            if shard not in done:
                os.unlink(path)
        for entry in list(os.scandir(self.path)):
            if entry.is_dir(follow_symlinks=False) and not any(os.scandir(entry)):
                os.rmdir(entry)
        return done

    def _format(self) -> str | None:
        """The format of the export that is there, None where the mark is not ours."""
        try:
            said = json.loads((self.path / MARK).read_text(encoding="utf-8"))
        except ValueError:
            return None
        return str(said["format"]) if isinstance(said, dict) and "format" in said else None

    def _files(self) -> Iterator[tuple[str, str]]:
        """Files of shards, as far as names tell: the shard and the path."""
        for folder, folders, names in os.walk(self.path):
            top = Path(folder) == self.path
            if not top:
                folders.clear()
            for name in names:
                if self.one_file:
                    shard = name.removesuffix(".tar") if top and name.endswith(".tar") else None
                else:
                    shard = match[1] if not top and (match := IMAGE.fullmatch(name)) else None
                if shard is not None and not name.startswith("."):
                    yield shard, os.path.join(folder, name)

    def _listed(self, part: str) -> int:
        """How many files a shard has by its list, which has a column `file` where there are any."""
        footer = pq.read_metadata(self.path / part)
        if "file" not in footer.schema.to_arrow_schema().names:
            return 0
        return min(footer.num_rows, 1) if self.one_file else int(footer.num_rows)
