"""Compact collections for very many shards: shared names, 8 bytes for each result's fingerprint, inputs as a table.

Files and paths are built on access. Knows no stages.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cpp.files.iterables import batched
from cpp.store.results import File

Fingerprints = NDArray[np.uint64]  # 16 hexadecimal digits as an integer, so exact
BLOCK = 1000  # input files that are Python objects at a time


class ShardNames:
    """The distinct names of shards in order, with exact membership tests by bisection."""

    def __init__(self, names: Iterable[str]) -> None:
        self.raw = np.array([name.encode() for name in names] or np.empty(0, "S1"))
        self._order = np.argsort(self.raw, kind="stable")
        sorted_raw = self.raw[self._order]
        if len(repeated := np.flatnonzero(sorted_raw[1:] == sorted_raw[:-1])):
            raise ValueError(f"two files would both be the shard {sorted_raw[repeated[0]].decode()}: rename one")

    def __len__(self) -> int:
        return len(self.raw)

    def __iter__(self) -> Iterator[str]:
        return map(bytes.decode, self.raw.tolist())

    def __getitem__(self, index: int) -> str:
        return bytes(self.raw[index]).decode()

    def positions(self, names: Iterable[str]) -> NDArray[np.intp]:
        """The indices of names. KeyError if one is unknown."""
        if names is self:
            return np.arange(len(self))
        raw = names.raw if isinstance(names, ShardNames) else np.array([name.encode() for name in names])
        ranks = np.searchsorted(self.raw, raw, sorter=self._order)
        positions = self._order[np.minimum(ranks, len(self) - 1)] if len(self) else ranks
        if len(raw) and (not len(self) or (self.raw[positions] != raw).any()):
            raise KeyError(", ".join(set(names) - set(self)))
        return positions

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
        return self.file(int(self.names.positions([shard])[0]))

    def file(self, index: int) -> File:
        """The file of the shard at an index."""
        fingerprint = fingerprint_text(self.numbers[index])
        return File(self.path(self.names[index], fingerprint), fingerprint)

    def paths(self) -> Iterator[Any]:
        """All paths in order."""
        return map(self.path, self.names, fingerprints(self))


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
        self.names, self.numbers = ShardNames(names), np.array(numbers, np.uint64)

    def file(self, index: int) -> File:
        (path,) = self._paths(self._table.slice(index, 1))
        return File(path, fingerprint_text(self.numbers[index]))

    def paths(self) -> Iterator[Any]:
        return self._paths(self._table)

    def _paths(self, table: pa.Table) -> Iterator[Any]:
        for batch in table.to_batches(BLOCK):
            for row in batch.to_pylist():
                yield row["path"] if self._kind is str else self._kind(**row)


class FilePaths(Sequence[str]):
    """The paths of files in the order of their shards."""

    def __init__(self, files: Mapping[str, File]) -> None:
        self._files = files if isinstance(files, ShardFiles) else [file.path for file in files.values()]

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[Any]:
        return self._files.paths() if isinstance(self._files, ShardFiles) else iter(self._files)

    def __getitem__(self, at: Any) -> Any:
        return self._files.file(at).path if isinstance(self._files, ShardFiles) else self._files[at]


def fingerprint_text(number: np.uint64 | int) -> str:
    """A fingerprint as in file names."""
    return f"{number:016x}"


def fingerprints(files: Mapping[str, File], names: ShardNames | None = None) -> Iterator[str]:
    """The fingerprints of the files of these shards, by default of all in order."""
    if isinstance(files, ShardFiles):
        numbers = files.numbers if names is None else files.numbers[files.names.positions(names)]
        return map(fingerprint_text, numbers.tolist())
    return (files[name].fingerprint for name in (files if names is None else names))


def digest(files: Mapping[str, File]) -> str:
    """SHA-256 of the fingerprints of all files."""
    result = hashlib.sha256()
    for fingerprint in fingerprints(files):
        result.update(f"{fingerprint}\n".encode())
    return result.hexdigest()


def common_shards(files: Iterable[Mapping[str, File]]) -> ShardNames:
    """The names of the shards that all mappings contain, in the order of the first."""
    names, *others = (each.names if isinstance(each, ShardFiles) else ShardNames(each) for each in files)
    for other in others:
        names = names if other is names else names.where(np.isin(names.raw, other.raw))
    return names
