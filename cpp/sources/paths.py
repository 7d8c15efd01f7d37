"""Finds the files that input paths name: globs, brace ranges, lists and folders, local or at any URL of fsspec.

Folders are listed once instead of probing each file, except on http, which has no listings. Knows no formats.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from braceexpand import braceexpand

from cpp.files import credentials, filesystem
from cpp.files.iterables import map_threads
from cpp.sources.ignored import FOLDER, HIDDEN, REPEATED, RESULT, SUB_FOLDER, FileCounts, is_result
from cpp.store.results import fingerprint

VERSIONS = (
    "ETag",
    "etag",
    "mtime",
    "LastModified",
    "updated",
    "blob_id",
)  # in a listing's entry; the first present counts
PROBES = 32  # concurrent requests for files that must be probed

HTTP = ("http://", "https://")

Files = dict[str, str]  # path -> fingerprint of path, size and version
Entry = tuple[str, str]  # a file and its fingerprint


def expand(
    paths: Sequence[str],
    counts: FileCounts | None = None,
    inside: Sequence[str] = (),
    by_content: Callable[[str], bool] | None = None,
) -> list[Entry]:
    """The files that `paths` name, in their order; matches of a glob are sorted by name.

    A path may be a file, a glob, a brace range (`{00000..00412}.tar`), or a list: `@FILE`, or a name that ends in
    `.txt`, with one path on each line, relative to the list's folder. A path that exists is taken literally. A folder
    stands for its files with a suffix of `inside`, and for those without any suffix that `by_content` accepts. Matches
    that are hidden or results of a run are left out and counted, and so are further paths of one file, such as links
    to it. ValueError if a file does not exist.
    """
    counts = FileCounts() if counts is None else counts
    patterns = [pattern for path in paths for line in _lines(path) for pattern in _braces(line)]
    globs = {pattern for pattern in patterns if filesystem.has_magic(pattern) and not _exists(pattern)}
    existing = _existing([pattern for pattern in patterns if pattern not in globs])
    files, missing = Files(), list[str]()
    for pattern in patterns:
        matches = _glob(pattern, counts) if pattern in globs else _select(existing, [pattern])
        matches = matches or _inside(pattern, inside, by_content, counts)
        files |= matches
        missing += [] if matches else [pattern]
    if missing:
        raise ValueError(
            f"{len(missing)} of the {len(patterns)} paths of images.path do not exist, the first is {missing[0]}: "
            "correct images.path, or remove them from it"
        )
    files = _without_repeated(files, counts)
    counts.files += len(files)
    return list(files.items())


def siblings(files: Mapping[str, str]) -> dict[str, Entry]:
    """For each file, the one that `files` names for it, if it exists."""
    existing = _existing(list(files.values()))
    return {path: (other, existing[other]) for path, other in files.items() if other in existing}


def identity(path: str, info: Mapping[str, Any]) -> tuple[str, int | None, str]:
    """Path, size in bytes and version (etag or time of change) of a file. ValueError for a path that is not UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        escaped = path.encode(errors="backslashreplace").decode()
        raise ValueError(f"the name of the file {escaped} is not UTF-8: rename it") from None
    return path, info.get("size"), next((str(info[key]) for key in VERSIONS if info.get(key) is not None), "")


def file_fingerprint(path: str, info: Mapping[str, Any]) -> str:
    """The fingerprint of `identity`."""
    return fingerprint(*identity(path, info))


def _lines(path: str) -> list[str]:
    if path.startswith("pipe:"):
        raise ValueError(
            f"{path}: images.path does not run commands; name files, or mount the storage that the command reads"
        )
    name = path.removeprefix("@")
    credentials.check_address(name)
    if name == path and not path.endswith(".txt"):
        return [path]
    try:
        with filesystem.open_file(name) as file:
            lines = io.TextIOWrapper(file, encoding="utf-8-sig").read().splitlines()
    except FileNotFoundError:
        raise ValueError(f"the list {name} of images.path does not exist") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"the list {name} of images.path is not UTF-8 text: {error}") from error
    folder = name.rpartition("/")[0]
    for line in lines:
        credentials.check_address(line)
    entries = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if invalid := [entry for entry in entries if entry.startswith(("pipe:", "@"))]:
        raise ValueError(f"the list {name} contains {invalid[0]}: a list holds paths of files, one on each line")
    return [e if "://" in e or e.startswith("/") or not folder else f"{folder}/{e}" for e in entries]


def _braces(path: str) -> list[str]:
    if "{" in path and _exists(path):
        return [path]
    try:
        return list(braceexpand(path))
    except ValueError as error:
        raise ValueError(f"{path}: the braces in images.path do not match ({error})") from error


def _exists(path: str) -> bool:
    """Whether the path names a file or folder as it is; not asked of web servers, which have no files with brackets."""
    fs, root = filesystem.connect(path)
    return not path.startswith(HTTP) and bool(fs.exists(root))


def _inside(
    folder: str, suffixes: Sequence[str], by_content: Callable[[str], bool] | None, counts: FileCounts
) -> Files:
    """The files of a folder as `expand` selects them; none if it is no folder. Its sub-folders are ignored."""
    if not suffixes or folder.startswith(HTTP):
        return Files()
    infos = {_url(filesystem.connect(folder)[0], str(i["name"]), folder): i for i in _entries(folder.rstrip("/"))}
    plain = {n for n, i in infos.items() if "." not in n.rpartition("/")[2] and filesystem.is_file(i)}
    told = {name for name in plain if by_content and by_content(name)}
    names = sorted(name for name in infos if name in told or name.lower().endswith(tuple(suffixes)))
    for name in sorted(infos.keys() - names):
        if infos[name]["type"] == "directory" and not name.rpartition("/")[2].startswith("."):
            counts.ignore(SUB_FOLDER, name)
    return {name: file_fingerprint(name, infos[name]) for name in names if _accepted(infos[name], name, "", counts)}


def _glob(pattern: str, counts: FileCounts) -> Files:
    fs, root = filesystem.connect(pattern)
    folder, _, name = root.rpartition("/")
    if pattern.startswith(HTTP) or filesystem.has_magic(folder) or "**" in name:
        paths = [_url(fs, path, pattern) for path in sorted(fs.glob(root))]
        existing = _existing(paths)
        left_out = _LeftOut(pattern)
        kept = [path for path in paths if path in existing and not left_out.reason(path, counts)]
        return _select(existing, kept)
    matches = re.compile(filesystem.glob_translate(root)).match
    entries = [i for i in _entries(_url(fs, folder, pattern)) if matches(i["name"])]
    infos = {_url(fs, info["name"], pattern): info for info in sorted(entries, key=lambda info: str(info["name"]))}
    return {url: file_fingerprint(url, info) for url, info in infos.items() if _accepted(info, url, name, counts)}


def _accepted(info: Mapping[str, Any], path: str, pattern: str, counts: FileCounts) -> bool:
    """Whether an entry of a folder is a file, and not hidden unless the pattern begins with a dot."""
    is_hidden = path.rpartition("/")[2].startswith(".") and not pattern.startswith(".")
    if is_hidden or not filesystem.is_file(info):
        counts.ignore(HIDDEN if is_hidden else FOLDER, path)
        return False
    return True


class _LeftOut:
    """The matches of a glob with a magic folder that are hidden, or in a folder that a run or an export wrote."""

    def __init__(self, pattern: str) -> None:
        parts = pattern.split("/")
        fixed = next((i for i, part in enumerate(parts) if filesystem.has_magic(part)), len(parts))
        self._base = len("/".join(parts[:fixed])) + 1
        self._fs, self._results = filesystem.connect(pattern)[0], dict[str, bool]()
        self._http, self._dotted = pattern.startswith(HTTP), "/." in pattern

    def reason(self, path: str, counts: FileCounts) -> str | None:
        """Why a match is left out, which is counted; None if it is not."""
        folders = [path[:i] for i, c in enumerate(path) if c == "/" and i > self._base]
        reason = None
        if not self._dotted and "/." in f"/{path[self._base :]}":
            reason = HIDDEN
        elif not self._http and any(self._is_result(folder) for folder in folders):
            reason = RESULT
        if reason:
            counts.ignore(reason, path)
        return reason

    def _is_result(self, folder: str) -> bool:
        if folder not in self._results:
            self._results[folder] = is_result(folder, lambda path: bool(self._fs.exists(path)))
        return self._results[folder]


def _without_repeated(files: Files, counts: FileCounts) -> Files:
    """The files without further paths of one file, such as links to it; the file itself goes before links to it."""
    real_folder = functools.cache(os.path.realpath)  # once for the files of a folder

    def real_path(path: str) -> str:
        folder, name = os.path.split(path)
        if filesystem.is_remote(path):
            return path
        return os.path.realpath(path) if os.path.islink(path) else os.path.join(real_folder(folder), name)

    real = {path: real_path(path) for path in files}
    kept = {real[path]: path for path in reversed(files)} | {path: path for path in files if real[path] == path}
    for path in files:
        if kept[real[path]] != path:
            counts.ignore(REPEATED, path)
    return {path: mark for path, mark in files.items() if kept[real[path]] == path}


def _select(files: Files, paths: Sequence[str]) -> Files:
    return {path: files[path] for path in paths if path in files}


def _existing(paths: Sequence[str]) -> Files:
    """The files that exist. Each of their folders is listed once; on http each file is probed."""
    files = Files()
    probed = [path for path in paths if path.startswith(HTTP)]
    for path, info in zip(probed, map_threads(_probe, probed, PROBES, 4 * PROBES), strict=True):
        files |= {path: file_fingerprint(path, info)} if info is not None else {}
    folders = defaultdict[str, dict[str, str]](dict)
    for path in paths:
        if not path.startswith(HTTP):
            root = filesystem.connect(path)[1]
            folders[path.rpartition("/")[0] if filesystem.is_remote(path) else root.rpartition("/")[0]][root] = path
    for folder, paths_by_name in folders.items():
        for info in _entries(folder):
            if info["name"] in paths_by_name and filesystem.is_file(info):
                path = paths_by_name[info["name"]]
                files[path] = file_fingerprint(path, info)
    return files


def _probe(path: str) -> Mapping[str, Any] | None:
    fs, root = filesystem.connect(path)
    try:
        info: Mapping[str, Any] = fs.info(root)
    except FileNotFoundError:
        return None
    return info


def _entries(folder: str) -> Iterator[Mapping[str, Any]]:
    """The entries of a folder; none if it does not exist."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        yield from filesystem.list_folder(folder)


def _url(fs: Any, path: str, pattern: str) -> str:
    return str(fs.unstrip_protocol(path)) if "://" in pattern else path
