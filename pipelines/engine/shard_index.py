"""Shards by the hundred thousand: names that all products share, eight bytes for each result, inputs as a table.

Knows no stages. Whatever says more of a shard (a file, a path, a task) is made when it is asked for.
"""

from __future__ import annotations

import hashlib
import operator
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cpp.files.iterables import batched
from cpp.store.results import File

Fingerprints = NDArray[np.uint64]  # fingerprints as numbers
BLOCK = 1000  # files that are Python's objects at a time


class ShardNames(Sequence[str]):
    """The names of shards in order, each once. As a sequence, and as a set that is asked by bisection."""

    def __init__(self, names: Iterable[str]) -> None:
        self._raw = np.array([name.encode() for name in names] or np.empty(0, "S1"))
        ordered = bool((self._raw[:-1] < self._raw[1:]).all())
        self._order = None if ordered else np.argsort(self._raw, kind="stable")
        if self._order is not None:
            in_order = self._raw[self._order]
            if len(twice := np.flatnonzero(in_order[1:] == in_order[:-1])):
                raise ValueError(f"two files would both be the shard {in_order[twice[0]].decode()}: rename one")

    def __len__(self) -> int:
        return len(self._raw)

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), BLOCK):
            yield from map(bytes.decode, self._raw[start : start + BLOCK].tolist())

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        found = self._raw[at]
        return [bytes(name).decode() for name in found] if isinstance(at, slice) else bytes(found).decode()

    def at(self, name: str) -> int:
        """The place of a name. KeyError where it is not there."""
        raw = np.bytes_(name.encode())
        place = int(np.searchsorted(self._raw, raw, sorter=self._order))
        if self._order is not None and place < len(self):
            place = int(self._order[place])
        if place == len(self) or self._raw[place] != raw:
            raise KeyError(name)
        return place

    def __contains__(self, name: object) -> bool:
        try:
            return isinstance(name, str) and self.at(name) >= 0
        except KeyError:
            return False

    def same(self, other: ShardNames) -> bool:
        """Whether the other has these names in this order."""
        return self is other or np.array_equal(self._raw, other._raw)

    def where(self, kept: NDArray[np.bool_]) -> ShardNames:
        """Those that are marked; these themselves where all are, so that products go on sharing them."""
        return self if kept.all() else ShardNames(self[int(i)] for i in np.flatnonzero(kept))


class ShardFiles(Mapping[str, File]):
    """The files of a product by shard: their keys, and from a shard and its key the path."""

    def __init__(self, names: ShardNames, keys: Fingerprints, path: Callable[[str, str], str]) -> None:
        self.names, self.numbers, self.path = names, keys, path

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __getitem__(self, shard: str) -> File:
        return self.file(self.names.at(shard))

    def file(self, place: int) -> File:
        """The file of the shard at a place."""
        key = fingerprint_text(self.numbers[place])
        return File(self.path(self.names[place], key), key)

    def paths(self) -> Iterator[Any]:
        """The paths of all in order."""
        return map(self.path, self.names, fingerprint_texts(self.numbers))


class InputFiles(ShardFiles):
    """Inputs by shard. Their paths, which are strings or dataclasses of plain values, are the rows of a table."""

    def __init__(self, files: Iterable[tuple[str, File]]) -> None:
        """Of name and file of each shard; fingerprints are those of `cpp.store.results.fingerprint`."""
        names, keys, tables = list[str](), array("Q"), list[pa.Table]()
        for some in batched(files, BLOCK):
            names += [name for name, _ in some]
            keys.extend(int(file.fingerprint, 16) for _, file in some)
            self._kind = type(some[0][1].path)
            rows = ({"path": f.path} if self._kind is str else vars(f.path) for _, f in some)
            tables.append(pa.Table.from_pylist(list(rows)))
        self._table = pa.concat_tables(tables, promote_options="default").combine_chunks()
        super().__init__(ShardNames(names), np.array(keys, np.uint64), self._of)

    def file(self, place: int) -> File:
        return File(self._path(place), fingerprint_text(self.numbers[place]))

    def paths(self) -> Iterator[Any]:
        for batch in self._table.to_batches(BLOCK):
            yield from (self._made(row) for row in batch.to_pylist())

    def _of(self, shard: str, _: str) -> Any:
        return self._path(self.names.at(shard))

    def _path(self, place: int) -> Any:
        return self._made(self._table.slice(place, 1).to_pylist()[0])

    def _made(self, row: dict[str, Any]) -> Any:
        return row["path"] if self._kind is str else self._kind(**row)


class FilePaths(Sequence[str]):
    """The paths of files in the order of their shards."""

    def __init__(self, files: Mapping[str, File]) -> None:
        self._files = files if isinstance(files, ShardFiles) else list(files.values())

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[Any]:
        files = self._files
        return files.paths() if isinstance(files, ShardFiles) else (file.path for file in files)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        files = self._files
        return (files.file(at) if isinstance(files, ShardFiles) else files[at]).path


def fingerprint_text(key: np.uint64 | int) -> str:
    """A key as it stands in the names of files."""
    return f"{key:016x}"


def fingerprint_texts(keys: Fingerprints) -> Iterator[str]:
    """The same of many."""
    for start in range(0, len(keys), BLOCK):
        yield from map(fingerprint_text, keys[start : start + BLOCK].tolist())


def fingerprints(files: Mapping[str, File]) -> Iterator[str]:
    """The fingerprints of files in the order of their shards."""
    if isinstance(files, ShardFiles):
        return fingerprint_texts(files.numbers)
    return (file.fingerprint for file in files.values())


def digest(files: Mapping[str, File]) -> str:
    """The fingerprints of all files as one."""
    found = hashlib.sha256()
    for mark in fingerprints(files):
        found.update(f"{mark}\n".encode())
    return found.hexdigest()


def common_shards(files: Sequence[Mapping[str, File]]) -> ShardNames:
    """The names of the shards that are in all of these, in the order of the first."""
    first = files[0]
    names = first.names if isinstance(first, ShardFiles) else ShardNames(first)
    rest = [other for other in files[1:] if not _same(other, names)]
    if not rest:
        return names
    return names.where(np.fromiter((all(name in other for other in rest) for name in names), bool, len(names)))


def aligned_fingerprints(files: Mapping[str, File], names: ShardNames) -> Iterator[str]:
    """The fingerprints of the files of these shards."""
    if _same(files, names):
        return fingerprints(files)
    return (files[name].fingerprint for name in names)


def _same(files: Mapping[str, File], names: ShardNames) -> bool:
    """Whether the files are of these shards, in this order."""
    if isinstance(files, ShardFiles):
        return files.names.same(names)
    return len(files) == len(names) and all(map(operator.eq, files, names))
