"""Stable names on a local disk: hard links to the results in the cache, or copies if the disk has no hard links.

A folder is listed once, however many shards it has: a listing gives the inode number of each file, and two names of one
file have the same number. Does not know which step writes a file.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from cpp.store.results import WHOLE, shard_of

UNKNOWN_INODE = 0xFFFFFFFF  # FUSE lists files with this number if it does not know theirs


def list_names(folder: Path) -> Iterator[str]:
    """The names in a folder; none if it does not exist."""
    try:
        with os.scandir(folder) as entries:
            yield from (entry.name for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return


def show_files(folder: Path, suffix: str, cache: Path, paths: Iterable[tuple[str, str]]) -> None:
    """Make the files of `folder` links to exactly these results (shard, path) in `cache`.

    A file of the user's own, named after no shard in `cache`, stays.
    """
    results, shown = _inodes(cache), _inodes(folder)
    for shard, path in paths:
        name = f"{shard}{suffix}"
        inode = shown.pop(name, None)
        if inode is None or inode != results.get(os.path.basename(path)):
            folder.mkdir(exist_ok=True)
            link(path, folder / name)
    if shown:
        for name in shown.keys() & {f"{shard_of(result)}{suffix}" for result in results}:
            (folder / name).unlink()


def show_file(shown: Path, cache: Path, path: str | None) -> None:
    """Make `shown` a link to the result at `path` in `cache`, or remove it; a file of the user's own stays."""
    if path is None:
        if shown.exists() and any(shard_of(name) == WHOLE for name in list_names(cache)):
            shown.unlink()
    elif not (shown.exists() and shown.samefile(path)):
        link(path, shown)


def show_folder(shown: Path, cache: Path, path: str | None) -> None:
    """Make `shown` a folder of links to the files of the folder at `path` in `cache`, or remove the links."""
    ours = {name for result in list_names(cache) for name in _files_by_path(cache / result)}
    files, existing = _files_by_path(Path(path)) if path else {}, _files_by_path(shown)
    for name in (existing.keys() & ours) - files.keys():
        existing[name].unlink()
    for name, file in files.items():
        if name not in existing or not file.samefile(existing[name]):
            (shown / name).parent.mkdir(parents=True, exist_ok=True)
            link(str(file), shown / name)
    for folder in sorted((shown, *shown.rglob("*")), reverse=True):  # subfolders before their parents
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def link(path: str, name: Path) -> None:
    """Make `name` a link to the file at `path`, atomically."""
    scratch = name.with_name(f".{name.name}.new")
    scratch.unlink(missing_ok=True)
    try:
        os.link(path, scratch)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, scratch)
    os.replace(scratch, name)


def files_of(path: Path) -> list[Path]:
    """The file itself, or all files below a folder."""
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _files_by_path(folder: Path) -> dict[str, Path]:
    """The files below a folder by relative path; none if it does not exist."""
    return {str(file.relative_to(folder)): file for file in files_of(folder)} if folder.is_dir() else {}


def _inodes(folder: Path) -> dict[str, int]:
    """The inode numbers of the entries of a folder by name; none if it does not exist."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: _inode(entry) for entry in entries}
    except FileNotFoundError:
        return {}


def _inode(entry: os.DirEntry[str]) -> int:
    number = entry.inode()
    return entry.stat(follow_symlinks=False).st_ino if number == UNKNOWN_INODE else number
