"""Compact collections for very many shards: shared names, 8 bytes for each result's fingerprint, inputs as a table.

Files and paths are built on access. Knows no stages.
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

Fingerprints = NDArray[np.uint64]  # 16 hexadecimal digits as an integer, so exact
BLOCK = 1000  # shards that are Python objects at a time


class ShardNames(Sequence[str]):
    """The distinct names of shards in order: a sequence with exact membership tests by bisection."""

    def __init__(self, names: Iterable[str]) -> None:
        self._raw = np.array([name.encode() for name in names] or np.empty(0, "S1"))
        ordered = bool((self._raw[:-1] < self._raw[1:]).all())
        self._order = None if ordered else np.argsort(self._raw, kind="stable")
        if self._order is not None:
            in_order = self._raw[self._order]
            if len(repeated := np.flatnonzero(in_order[1:] == in_order[:-1])):
                raise ValueError(f"two files would both be the shard {in_order[repeated[0]].decode()}: rename one")

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
        raw = self._raw[at]
        return [bytes(name).decode() for name in raw] if isinstance(at, slice) else bytes(raw).decode()

    def at(self, name: str) -> int:
        """The index of a name. KeyError if it is unknown."""
        raw = np.bytes_(name.encode())
        index = int(np.searchsorted(self._raw, raw, sorter=self._order))
        if self._order is not None and index < len(self):
            index = int(self._order[index])
        if index == len(self) or self._raw[index] != raw:
            raise KeyError(name)
        return index

    def __contains__(self, name: object) -> bool:
        try:
            return isinstance(name, str) and self.at(name) >= 0
        except KeyError:
            return False

    def same(self, other: ShardNames) -> bool:
        """Whether the other has the same names in the same order."""
        return self is other or np.array_equal(self._raw, other._raw)

    def where(self, mask: NDArray[np.bool_]) -> ShardNames:
        """The names that `mask` selects; `self` if it selects all, so that products share one object."""
        return self if mask.all() else ShardNames(self[int(i)] for i in np.flatnonzero(mask))


class ShardFiles(Mapping[str, File]):
    """The files of a product by shard, stored as fingerprints; `path` computes the path from shard and fingerprint."""

    def __init__(self, names: ShardNames, numbers: Fingerprints, path: Callable[[str, str], str]) -> None:
        self.names, self.numbers, self.path = names, numbers, path

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __getitem__(self, shard: str) -> File:
        return self.file(self.names.at(shard))

    def file(self, index: int) -> File:
        """The file of the shard at an index."""
        fingerprint = fingerprint_text(self.numbers[index])
        return File(self.path(self.names[index], fingerprint), fingerprint)

    def paths(self) -> Iterator[Any]:
        """All paths in order."""
        return map(self.path, self.names, fingerprint_texts(self.numbers))


class InputFiles(ShardFiles):
    """Input files by shard; their paths, strings or dataclasses of scalars, are stored as rows of an Arrow table."""

    def __init__(self, files: Iterable[tuple[str, File]]) -> None:
        """From the name and file of each shard; fingerprints have 16 hexadecimal digits."""
        names, numbers, tables = list[str](), array("Q"), list[pa.Table]()
        for batch in batched(files, BLOCK):
            names += [name for name, _ in batch]
            numbers.extend(int(file.fingerprint, 16) for _, file in batch)
            self._kind = type(batch[0][1].path)
            rows = ({"path": file.path} if self._kind is str else vars(file.path) for _, file in batch)
            tables.append(pa.Table.from_pylist(list(rows)))
        self._table = pa.concat_tables(tables, promote_options="default").combine_chunks()
        super().__init__(ShardNames(names), np.array(numbers, np.uint64), self._path_of)

    def file(self, index: int) -> File:
        return File(self._path(index), fingerprint_text(self.numbers[index]))

    def paths(self) -> Iterator[Any]:
        for batch in self._table.to_batches(BLOCK):
            yield from (self._from_row(row) for row in batch.to_pylist())

    def _path_of(self, shard: str, _: str) -> Any:
        return self._path(self.names.at(shard))

    def _path(self, index: int) -> Any:
        return self._from_row(self._table.slice(index, 1).to_pylist()[0])

    def _from_row(self, row: dict[str, Any]) -> Any:
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


def fingerprint_text(number: np.uint64 | int) -> str:
    """A fingerprint as in file names."""
    return f"{number:016x}"


def fingerprint_texts(numbers: Fingerprints) -> Iterator[str]:
    """Many fingerprints as in file names."""
    for start in range(0, len(numbers), BLOCK):
        yield from map(fingerprint_text, numbers[start : start + BLOCK].tolist())


def fingerprints(files: Mapping[str, File]) -> Iterator[str]:
    """The fingerprints of files in the order of their shards."""
    if isinstance(files, ShardFiles):
        return fingerprint_texts(files.numbers)
    return (file.fingerprint for file in files.values())


def digest(files: Mapping[str, File]) -> str:
    """SHA-256 of the fingerprints of all files."""
    result = hashlib.sha256()
    for fingerprint in fingerprints(files):
        result.update(f"{fingerprint}\n".encode())
    return result.hexdigest()


def common_shards(files: Sequence[Mapping[str, File]]) -> ShardNames:
    """The names of the shards that all mappings contain, in the order of the first."""
    first = files[0]
    names = first.names if isinstance(first, ShardFiles) else ShardNames(first)
    others = [other for other in files[1:] if not _has_shards(other, names)]
    if not others:
        return names
    return names.where(np.fromiter((all(name in other for other in others) for name in names), bool, len(names)))


def aligned_fingerprints(files: Mapping[str, File], names: ShardNames) -> Iterator[str]:
    """The fingerprints of the files of these shards."""
    if _has_shards(files, names):
        return fingerprints(files)
    return (files[name].fingerprint for name in names)


def _has_shards(files: Mapping[str, File], names: ShardNames) -> bool:
    """Whether the files belong to exactly these shards, in this order."""
    if isinstance(files, ShardFiles):
        return files.names.same(names)
    return len(files) == len(names) and all(map(operator.eq, files, names))
