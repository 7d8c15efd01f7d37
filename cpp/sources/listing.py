"""Lists a folder of pictures: every file in it is a picture, a text that belongs to one, or is ignored for a reason.

Links to folders are followed once. Reads nothing but the first bytes of files whose names do not tell what they are.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cpp.files import filesystem
from cpp.files.iterables import map_threads
from cpp.sources import ignored as reasons
from cpp.sources.formats import HEAD, extension, is_picture, is_picture_name
from cpp.sources.ignored import FileCounts, is_result
from cpp.sources.paths import PROBES, Files, file_fingerprint

TEXTS = ("txt", "caption", "json")  # extensions of the files beside a picture that hold its caption and metadata
TABLES = ("metadata.jsonl", "metadata.csv")  # names of files with metadata of the pictures of their folder

ListedFile = tuple[str, Mapping[str, Any]]  # a path relative to the folder, and what fsspec tells of the file


@dataclass(frozen=True)
class Listing:
    """The pictures of a folder, sorted by name; the texts of each; and the tables. Names are relative to the folder."""

    pictures: Files
    texts: Mapping[str, Files]
    tables: Files


def list_folder(folder: str, counts: FileCounts) -> Listing:
    """List a folder with its sub-folders. ValueError if it does not exist, OSError if a part cannot be listed."""
    fs, root = filesystem.connect(folder)
    root = root.rstrip("/") or "/"
    if not fs.isdir(root):
        raise ValueError(f"the folder {folder} does not exist: correct images.path")
    walk = _local if "file" in fs.protocol else _remote
    entries = sorted(walk(fs, root, counts), key=lambda entry: entry[0])
    pictures, others = Files(), dict[str, Mapping[str, Any]]()
    unclear = [name for name, info in entries if is_picture_name(name) is None and info["type"] == "file"]
    sizes = {name: info.get("size") for name, info in entries if info["type"] == "file"}

    def head(name: str) -> bytes:
        return bytes(fs.cat_file(f"{root}/{name}", start=0, end=HEAD)) if sizes[name] else b""

    heads = map_threads(head, unclear, PROBES, 4 * PROBES)
    sniffed = {name for name, head in zip(unclear, heads, strict=True) if is_picture(head)}
    for name, info in entries:
        if is_picture_name(name) or name in sniffed:
            pictures[name] = file_fingerprint(name, info)
        elif info["type"] != "file":
            counts.ignore(reasons.LINK if info["type"] == "link" else reasons.SPECIAL, name)
        else:
            others[name] = info
    return _with_texts(pictures, others, counts)


def _with_texts(pictures: Files, others: Mapping[str, Mapping[str, Any]], counts: FileCounts) -> Listing:
    """Give texts to the pictures of their name, with or without its extension."""
    by_stem = defaultdict[str, list[str]](list)
    for name in pictures:
        by_stem[name] = [name]
        by_stem[posixpath.splitext(name)[0]].append(name)
    texts, tables = defaultdict[str, Files](dict), Files()
    for name, info in sorted(others.items(), key=lambda other: extension(other[0]) == "json"):  # captions come first
        if posixpath.basename(name) in TABLES:
            tables[name] = file_fingerprint(name, info)
        elif extension(name) in TEXTS and (owners := by_stem.get(posixpath.splitext(name)[0])):
            for owner in owners:
                texts[owner][name] = file_fingerprint(name, info)
        else:
            counts.ignore(f"{reasons.NO_PICTURE} (.{extension(name)})" if extension(name) else reasons.NO_PICTURE, name)
    counts.files += len(pictures) + len(tables) + len({text for of_picture in texts.values() for text in of_picture})
    return Listing(pictures, texts, tables)


def cut(names: Sequence[str], size: int) -> Iterator[tuple[str, int, int]]:
    """Cut sorted names into shards of at most `size`: the name of each shard, and where it starts and stops.

    A shard ends where the hash of the next name is least among the second half of the names that it may have, and is
    named by its own first name. So a file that is added, removed or renamed changes its own shard, and seldom the next.
    """
    start = 0
    while start < len(names):
        stop = len(names)
        if stop - start > size:
            window = range(start + max(1, size // 2), start + size + 1)
            stop = min(window, key=lambda i: _digest(names[i]))
        yield "00000" if start == 0 else _digest(names[start]).hex(), start, stop
        start = stop


def _digest(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=6).digest()


def _local(fs: Any, root: str, counts: FileCounts) -> Iterator[ListedFile]:
    """The files below a local folder; folders come before links to them, so that names rarely lead through links."""
    folders, links, seen = deque([""]), deque[str](), set[tuple[int, int]]()
    while folders or links:
        inside = folders.popleft() if folders else links.popleft()
        stat = os.stat(f"{root}/{inside}")
        if (stat.st_dev, stat.st_ino) in seen:
            counts.ignore(reasons.LISTED, inside)
            continue
        seen.add((stat.st_dev, stat.st_ino))
        for info in sorted(filesystem.list_folder(f"{root}/{inside}"), key=lambda info: str(info["name"])):
            name = posixpath.join(inside, posixpath.basename(info["name"]))
            if reason := _left_out(root, name, info["type"] == "directory", os.path.exists):
                counts.ignore(reason, name)
            elif info["type"] == "directory":
                (links if os.path.islink(info["name"]) else folders).append(name)
            else:
                yield name, info


def _remote(fs: Any, root: str, counts: FileCounts) -> Iterator[ListedFile]:
    """The files below a folder of an object store."""
    infos = {str(path): info for path, info in fs.find(root, detail=True).items() if info["type"] == "file"}
    folders = {path.rpartition("/")[0] for path in infos}
    folders |= {folder[:i] for folder in folders for i, c in enumerate(folder) if c == "/"}
    paths, reason_of = {*infos, *folders}, dict[str, str | None]()
    prefix = str(fs.unstrip_protocol(root)).removesuffix(root)

    def exists(address: str) -> bool:
        return address.removeprefix(prefix) in paths

    def reason(path: str, is_folder: bool) -> str | None:
        if path not in reason_of:
            reason_of[path] = _left_out(prefix + root, path[len(root) + 1 :], is_folder, exists)
            if reason_of[path] and is_folder:
                counts.ignore(str(reason_of[path]), path[len(root) + 1 :])
        return reason_of[path]

    for path, info in infos.items():
        above = [path[:i] for i, c in enumerate(path) if c == "/" and i > len(root)]
        if any(reason(folder, True) for folder in above):
            continue
        name = path[len(root) + 1 :]
        if why := reason(path, False):
            counts.ignore(why, name)
        else:
            yield name, info


def _left_out(root: str, name: str, is_folder: bool, exists: Any) -> str | None:
    """Why a file or folder is left out, None if it is not."""
    last = posixpath.basename(name)
    if last.startswith("."):
        return reasons.HIDDEN
    if is_folder and last in reasons.SYSTEM_FOLDERS:
        return reasons.SYSTEM
    return reasons.RESULT if is_folder and is_result(f"{root}/{name}", exists) else None
