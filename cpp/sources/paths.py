"""Finds the files that input paths name: globs, brace ranges and lists, local or at any URL of fsspec.

Folders are listed once instead of probing each file, except on http, which has no listings. Knows no formats.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from braceexpand import braceexpand

from cpp.files import credentials, filesystem
from cpp.files.iterables import map_threads
from cpp.store.results import fingerprint

VERSIONS = ("ETag", "etag", "mtime", "LastModified", "updated")  # in a listing's entry; the first present counts
PROBES = 32  # concurrent requests for files that must be probed

HTTP = ("http://", "https://")

Files = dict[str, str]  # path -> fingerprint of path, size and version
Entry = tuple[str, str]  # a file and its fingerprint


def expand(paths: Sequence[str]) -> list[Entry]:
    """The files that `paths` name, in their order; matches of a glob are sorted by name.

    A path may be a file, a glob, a brace range (`{00000..00412}.tar`), or a list: `@FILE`, or a name that ends in
    `.txt`, with one path on each line, relative to the list's folder. ValueError if a file does not exist.
    """
    patterns = [pattern for path in paths for line in _lines(path) for pattern in _braces(line)]
    existing = _existing([pattern for pattern in patterns if not filesystem.has_magic(pattern)])
    files, missing = Files(), list[str]()
    for pattern in patterns:
        matches = _glob(pattern) if filesystem.has_magic(pattern) else _select(existing, [pattern])
        files |= matches
        missing += [] if matches else [pattern]
    if missing:
        raise ValueError(
            f"{len(missing)} of the {len(patterns)} paths of images.path do not exist, the first is {missing[0]}: "
            "correct images.path, or remove them from it"
        )
    return list(files.items())


def siblings(files: Sequence[str], suffix: str) -> dict[str, Entry]:
    """For each file, the existing file of the same name with another suffix in the same folder."""
    others = [path.removesuffix(PurePosixPath(path).suffix) + suffix for path in files]
    existing = _existing(others)
    return {path: (other, existing[other]) for path, other in zip(files, others, strict=True) if other in existing}


def find_files(folder: str, accept: Callable[[str], bool]) -> Files:
    """The files below a folder that `accept` their path relative to it; sorted, by that path.

    Hidden files and folders are left out. ValueError if the folder does not exist.
    """
    fs, root = filesystem.connect(folder)
    root = root.rstrip("/")
    if not fs.isdir(root):
        raise ValueError(f"the folder {folder} does not exist: correct images.path")
    infos = {str(path)[len(root) + 1 :]: info for path, info in fs.find(root, detail=True).items()}
    names = (name for name in infos if not any(part.startswith(".") for part in name.split("/")) and accept(name))
    return {name: _fingerprint(name, infos[name]) for name in sorted(names)}


def identity(path: str, info: Mapping[str, Any]) -> tuple[str, int | None, str]:
    """Path, size in bytes and version (etag or time of change) of a file. ValueError for a path that is not UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        escaped = path.encode(errors="backslashreplace").decode()
        raise ValueError(f"the name of the file {escaped} is not UTF-8: rename it") from None
    return path, info.get("size"), next((str(info[key]) for key in VERSIONS if info.get(key) is not None), "")


def _fingerprint(path: str, info: Mapping[str, Any]) -> str:
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
            lines = io.TextIOWrapper(file, encoding="utf-8").read().splitlines()
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
    try:
        return list(braceexpand(path))
    except ValueError as error:
        raise ValueError(f"{path}: the braces in images.path do not match ({error})") from error


def _glob(pattern: str) -> Files:
    fs, root = filesystem.connect(pattern)
    folder, _, name = root.rpartition("/")
    if pattern.startswith(HTTP) or filesystem.has_magic(folder) or "**" in name:
        paths = [_url(fs, path, pattern) for path in sorted(fs.glob(root))]
        return _select(_existing(paths), paths)
    matches = re.compile(filesystem.glob_translate(root)).match
    entries = [i for i in _entries(_url(fs, folder, pattern)) if matches(i["name"]) and filesystem.is_file(i)]
    infos = {_url(fs, info["name"], pattern): info for info in sorted(entries, key=lambda info: str(info["name"]))}
    return {url: _fingerprint(url, info) for url, info in infos.items()}


def _select(files: Files, paths: Sequence[str]) -> Files:
    return {path: files[path] for path in paths if path in files}


def _existing(paths: Sequence[str]) -> Files:
    """The files that exist. Each of their folders is listed once; on http each file is probed."""
    files = Files()
    probed = [path for path in paths if path.startswith(HTTP)]
    for path, info in zip(probed, map_threads(_probe, probed, PROBES, 4 * PROBES), strict=True):
        files |= {path: _fingerprint(path, info)} if info is not None else {}
    folders = defaultdict[str, dict[str, str]](dict)
    for path in paths:
        if not path.startswith(HTTP):
            root = filesystem.connect(path)[1]
            folders[path.rpartition("/")[0] if filesystem.is_remote(path) else root.rpartition("/")[0]][root] = path
    for folder, paths_by_name in folders.items():
        for info in _entries(folder):
            if info["name"] in paths_by_name and filesystem.is_file(info):
                path = paths_by_name[info["name"]]
                files[path] = _fingerprint(path, info)
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
