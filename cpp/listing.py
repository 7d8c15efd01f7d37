"""Paths as a person writes them -> files: globs, brace ranges, lists in a file; local or any URL of fsspec.

Folders are listed, files are not probed one by one (but on http, where nothing can be listed). Knows no formats.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from braceexpand import braceexpand

from cpp import remote
from cpp.ahead import ahead
from cpp.store import fingerprint

CHANGED = ("ETag", "etag", "mtime", "LastModified", "updated")
PROBES = 32  # requests at a time where files must be probed

HTTP = ("http://", "https://")

Infos = dict[str, Mapping[str, Any]]  # what fsspec says of files, by path
Listings = dict[str, Infos]  # folders that have been listed
Entry = tuple[str, str]
"""A file and the fingerprint of its name, size and time of change (or etag)."""


def expand(paths: Sequence[str]) -> list[Entry]:
    """The files that `paths` name, in the order in which they are named; a glob's are sorted by name.

    A path may be a file, a glob, a brace range (`{00000..00412}.tar`), or a list: `@FILE`, or a name that ends in
    `.txt`, with one path on each line, relative to the list's folder. ValueError where a file is not there.
    """
    patterns = [pattern for path in paths for line in _lines(path) for pattern in _braces(line)]
    threads = PROBES if any(pattern.startswith(HTTP) for pattern in patterns) else 1
    found, missing = dict[str, str](), list[str]()
    for pattern, matched in zip(patterns, ahead(partial(_match, {}), patterns, threads, 4 * threads), strict=True):
        found |= {path: identity(path, info) for path, info in matched.items()}
        missing += [] if matched else [pattern]
    if missing:
        raise ValueError(
            f"{len(missing)} of the {len(patterns)} paths of images.path are not there, the first is {missing[0]}: "
            "correct images.path, or take them out"
        )
    return list(found.items())


def beside(files: Sequence[str], suffix: str) -> dict[str, Entry]:
    """For each of the files that has one, the file of the same name with another suffix in the same folder."""
    others = [path.removesuffix(PurePosixPath(path).suffix) + suffix for path in files]
    threads = PROBES if any(path.startswith(HTTP) for path in files) else 1
    matches = ahead(partial(_one, {}), others, threads, 4 * threads)
    pairs = zip(files, matches, strict=True)
    return {path: (other, identity(other, info)) for path, match in pairs for other, info in match.items()}


def below(folder: str) -> dict[str, str]:
    """Files anywhere under a folder: path relative to it -> fingerprint, sorted; hidden files and folders left out."""
    fs, root = remote.connect(folder)
    root = root.rstrip("/")
    if not fs.isdir(root):
        raise ValueError(f"the folder {folder} does not exist: correct images.path")
    inside = {str(path)[len(root) + 1 :]: info for path, info in fs.find(root, detail=True).items()}
    visible = sorted(name for name in inside if not any(part.startswith(".") for part in name.split("/")))
    return {name: identity(name, inside[name]) for name in visible}


def identity(path: str, info: Mapping[str, Any]) -> str:
    """Fingerprint of a file from what a listing says of it."""
    changed = next((str(info[key]) for key in CHANGED if info.get(key) is not None), "")
    return fingerprint(path, info.get("size"), changed)


def _lines(path: str) -> list[str]:
    if path.startswith("pipe:"):
        raise ValueError(f"{path}: images.path does not run commands; name files, or mount what the command reads")
    name = path.removeprefix("@")
    remote.check_address(name)
    if name == path and not path.endswith(".txt"):
        return [path]
    try:
        with remote.opened(name) as file:
            lines = io.TextIOWrapper(file, encoding="utf-8").read().splitlines()
    except FileNotFoundError:
        raise ValueError(f"the list {name} of images.path does not exist") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"the list {name} of images.path is not UTF-8 text: {error}") from error
    folder = name.rpartition("/")[0]
    for line in lines:
        remote.check_address(line)
    entries = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if wrong := [entry for entry in entries if entry.startswith(("pipe:", "@"))]:
        raise ValueError(f"the list {name} names {wrong[0]}: a list holds paths of files, one on a line")
    return [e if "://" in e or e.startswith("/") or not folder else f"{folder}/{e}" for e in entries]


def _braces(path: str) -> list[str]:
    try:
        return list(braceexpand(path))
    except ValueError as error:
        raise ValueError(f"{path}: the braces in images.path do not pair ({error})") from error


def _glob(pattern: str) -> Infos:
    fs, root = remote.connect(pattern)
    matched = fs.glob(root, detail=True)
    return {_url(fs, path, pattern): matched[path] for path in sorted(matched) if matched[path]["type"] == "file"}


def _match(listings: Listings, pattern: str) -> Infos:
    return _glob(pattern) if remote.has_magic(pattern) else _one(listings, pattern)


def _one(listings: Listings, path: str) -> Infos:
    fs, root = remote.connect(path)
    folder = root.rpartition("/")[0]
    if path.startswith(HTTP):
        try:
            return {path: fs.info(root)}
        except FileNotFoundError:
            return {}
    if folder not in listings:
        try:
            listings[folder] = {entry["name"]: entry for entry in fs.ls(folder, detail=True)}
        except (FileNotFoundError, NotADirectoryError):
            listings[folder] = {}
    info = listings[folder].get(root)
    return {path: info} if info is not None and info["type"] == "file" else {}


def _url(fs: Any, path: str, pattern: str) -> str:
    return str(fs.unstrip_protocol(path)) if "://" in pattern else path
