"""Stable names on a local disk: hard links to finished files, copies where there are none.

Many shards take few bytes: of a file only a hash of its name and its number, which two names of one file have in
common, are kept. Hashes of 64 bits tell a billion names apart but for a chance of one in forty.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cpp.files.iterables import batched
from cpp.store.results import WHOLE, shard_of

UNKNOWN = 0xFFFFFFFF  # what a listing of FUSE says of files whose numbers it does not know
BLOCK = 1000  # names at a time


def hashes(names: Iterable[str]) -> NDArray[np.int64]:
    """A number for each name, the same in this process alone."""
    return np.fromiter(map(hash, names), np.int64)


def names_of(folder: Path) -> Iterator[str]:
    """The names in a folder, none where there is none: one look, however many there are."""
    try:
        with os.scandir(folder) as entries:
            yield from (entry.name for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return


def show_files(folder: Path, suffix: str, cache: Path, paths: Iterable[tuple[str, str]]) -> None:
    """Make the files of `folder` links to exactly these (shard, path), which lie in `cache`.

    What is there of a shard that has no file in `cache` is somebody's own, and stays.
    """
    made, shown, wanted = _Numbers(cache), _Numbers(folder), [hashes(())]
    for some in batched(paths, BLOCK):
        folder.mkdir(exist_ok=True)
        wanted.append(hashes(f"{shard}{suffix}" for shard, _ in some))
        there = shown.of(wanted[-1])
        right = (there != 0) & (there == made.of(hashes(os.path.basename(path) for _, path in some)))
        for i in np.flatnonzero(~right):
            shard, path = some[i]
            link(path, folder / f"{shard}{suffix}")
    if np.isin(shown.names, np.concatenate(wanted), invert=True).any():
        keep = set(np.concatenate(wanted).tolist())
        others = [name for name in names_of(folder) if hash(name) not in keep]
        ours = np.isin(hashes(others), hashes(f"{shard_of(name)}{suffix}" for name in names_of(cache)))
        for i in np.flatnonzero(ours):
            (folder / others[i]).unlink()


def show_file(shown: Path, cache: Path, path: str | None) -> None:
    """Make `shown` a link to the file at `path`, which lies in `cache`, or nothing; somebody's own stays."""
    if path is None:
        if shown.exists() and any(shard_of(name) == WHOLE for name in names_of(cache)):
            shown.unlink()
    elif not (shown.exists() and shown.samefile(path)):
        link(path, shown)


def show_folder(shown: Path, cache: Path, path: str | None) -> None:
    """Make `shown` a folder of links to the files of the one at `path`, which lies in `cache`, or of none of such."""
    ours = {name for made in names_of(cache) for name in _within(cache / made)}
    files, there = _within(Path(path)) if path else {}, _within(shown)
    for name in (there.keys() & ours) - files.keys():
        there[name].unlink()
    for name, file in files.items():
        if name not in there or not file.samefile(there[name]):
            (shown / name).parent.mkdir(parents=True, exist_ok=True)
            link(str(file), shown / name)
    for folder in sorted((shown, *shown.rglob("*")), reverse=True):  # what is in a folder comes before it
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def link(path: str, name: Path) -> None:
    """Make `name` the file at `path`, in one step."""
    scratch = name.with_name(f".{name.name}.new")
    scratch.unlink(missing_ok=True)
    try:
        os.link(path, scratch)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, scratch)
    os.replace(scratch, name)


def files_of(path: Path) -> list[Path]:
    """A file, or the files of a folder and of those in it."""
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _within(folder: Path) -> dict[str, Path]:
    """The files of a folder by their paths in it; none where there is no folder."""
    return {str(file.relative_to(folder)): file for file in files_of(folder)} if folder.is_dir() else {}


class _Numbers:
    """The numbers of the files of a folder by the hashes of their names."""

    def __init__(self, folder: Path) -> None:
        found: list[NDArray[np.void]] = [np.empty(0, "i8,u8")]
        try:
            with os.scandir(folder) as entries:
                found.append(np.fromiter(((hash(entry.name), _number(entry)) for entry in entries), "i8,u8"))
        except FileNotFoundError:
            pass
        listed = np.sort(found[-1], order="f0")
        self.names, self._numbers = listed["f0"], listed["f1"]

    def of(self, names: NDArray[np.int64]) -> NDArray[np.uint64]:
        """The number of each, 0 where there is none."""
        if not len(self.names):
            return np.zeros(len(names), np.uint64)
        at = np.minimum(np.searchsorted(self.names, names), len(self.names) - 1)
        found: NDArray[np.uint64] = np.where(self.names[at] == names, self._numbers[at], np.uint64(0))
        return found


def _number(entry: os.DirEntry[str]) -> int:
    number = entry.inode()
    return entry.stat(follow_symlinks=False).st_ino if number == UNKNOWN else number
