"""Paths as a person writes them -> files: globs, brace ranges, lists in a file; local or any URL of fsspec.

Folders are listed, files are not probed one by one (but on http, where nothing can be listed). Knows no formats.
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

CHANGED = ("ETag", "etag", "mtime", "LastModified", "updated")
PROBES = 32  # requests at a time where files must be probed

HTTP = ("http://", "https://")

Files = dict[str, str]  # fingerprints of names, sizes and times of change (or etags), by path
Entry = tuple[str, str]  # a file and its fingerprint


def expand(paths: Sequence[str]) -> list[Entry]:
    """The files that `paths` name, in the order in which they are named; a glob's are sorted by name.

    A path may be a file, a glob, a brace range (`{00000..00412}.tar`), or a list: `@FILE`, or a name that ends in
    `.txt`, with one path on each line, relative to the list's folder. ValueError where a file is not there.
    """
    patterns = [pattern for path in paths for line in _lines(path) for pattern in _braces(line)]
    named = _named([pattern for pattern in patterns if not filesystem.has_magic(pattern)])
    found, missing = dict[str, str](), list[str]()
    for pattern in patterns:
        matched = _glob(pattern) if filesystem.has_magic(pattern) else {p: named[p] for p in (pattern,) if p in named}
        found |= matched
        missing += [] if matched else [pattern]
    if missing:
        raise ValueError(
            f"{len(missing)} of the {len(patterns)} paths of images.path are not there, the first is {missing[0]}: "
            "correct images.path, or take them out"
        )
    return list(found.items())


def siblings(files: Sequence[str], suffix: str) -> dict[str, Entry]:
    """For each of the files that has one, the file of the same name with another suffix in the same folder."""
    there = _named([_beside(path, suffix) for path in files])
    return {path: (other, there[other]) for path in files if (other := _beside(path, suffix)) in there}


def find_files(folder: str, wanted: Callable[[str], bool]) -> dict[str, str]:
    """Files anywhere under a folder whose names are `wanted`: path relative to it -> fingerprint, sorted.

    Hidden files and folders are left out.
    """
    fs, root = filesystem.connect(folder)
    root = root.rstrip("/")
    if not fs.isdir(root):
        raise ValueError(f"the folder {folder} does not exist: correct images.path")
    inside = {str(path)[len(root) + 1 :]: info for path, info in fs.find(root, detail=True).items()}
    visible = sorted(
        name for name in inside if wanted(name) and not any(part.startswith(".") for part in name.split("/"))
    )
    return {name: identity(name, inside[name]) for name in visible}


def identity(path: str, info: Mapping[str, Any]) -> str:
    """Fingerprint of a file from what a listing says of it. ValueError for a name that no table can hold."""
    try:
        path.encode()
    except UnicodeEncodeError:
        said = path.encode(errors="backslashreplace").decode()
        raise ValueError(f"the name of the file {said} is not UTF-8: rename it") from None
    changed = next((str(info[key]) for key in CHANGED if info.get(key) is not None), "")
    return fingerprint(path, info.get("size"), changed)


def _lines(path: str) -> list[str]:
    if path.startswith("pipe:"):
        raise ValueError(f"{path}: images.path does not run commands; name files, or mount what the command reads")
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
    if wrong := [entry for entry in entries if entry.startswith(("pipe:", "@"))]:
        raise ValueError(f"the list {name} names {wrong[0]}: a list holds paths of files, one on a line")
    return [e if "://" in e or e.startswith("/") or not folder else f"{folder}/{e}" for e in entries]


def _braces(path: str) -> list[str]:
    try:
        return list(braceexpand(path))
    except ValueError as error:
        raise ValueError(f"{path}: the braces in images.path do not pair ({error})") from error


def _beside(path: str, suffix: str) -> str:
    return path.removesuffix(PurePosixPath(path).suffix) + suffix


def _glob(pattern: str) -> Files:
    fs, root = filesystem.connect(pattern)
    folder, _, name = root.rpartition("/")
    if pattern.startswith(HTTP) or filesystem.has_magic(folder) or "**" in name:
        paths = [_url(fs, path, pattern) for path in sorted(fs.glob(root))]
        there = _named(paths)
        return {path: there[path] for path in paths if path in there}
    fits = re.compile(filesystem.glob_translate(root)).match
    matched = {i["name"]: i for i in _entries(_url(fs, folder, pattern)) if fits(i["name"]) and filesystem.is_file(i)}
    urls = {_url(fs, path, pattern): matched[path] for path in sorted(matched)}
    return {url: identity(url, info) for url, info in urls.items()}


def _named(paths: Sequence[str]) -> Files:
    """Those of the files that are there. Each of their folders is listed once, but on http."""
    found = dict[str, str]()
    probed = [path for path in paths if path.startswith(HTTP)]
    for path, info in zip(probed, map_threads(_probe, probed, PROBES, 4 * PROBES), strict=True):
        found |= {path: identity(path, info)} if info is not None else {}
    folders = defaultdict[str, dict[str, str]](dict)
    for path in paths:
        if not path.startswith(HTTP):
            root = filesystem.connect(path)[1]
            folders[path.rpartition("/")[0] if filesystem.is_remote(path) else root.rpartition("/")[0]][root] = path
    for folder, wanted in folders.items():
        for info in _entries(folder):
            if info["name"] in wanted and filesystem.is_file(info):
                path = wanted[info["name"]]
                found[path] = identity(path, info)
    return found


def _probe(path: str) -> Mapping[str, Any] | None:
    fs, root = filesystem.connect(path)
    try:
        info: Mapping[str, Any] = fs.info(root)
    except FileNotFoundError:
        return None
    return info


def _entries(folder: str) -> Iterator[Mapping[str, Any]]:
    """What is in a folder; nothing where there is no such folder."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        yield from filesystem.list_folder(folder)


def _url(fs: Any, path: str, pattern: str) -> str:
    return str(fs.unstrip_protocol(path)) if "://" in pattern else path
