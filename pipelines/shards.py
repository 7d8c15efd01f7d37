"""Shards by the hundred thousand: their names, which all products share, and eight bytes for each result.

Knows no stages. Whatever says more of a shard (a path, a task) is made when it is asked for.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from cpp.store import File

Keys = NDArray[np.uint64]  # fingerprints as numbers


class Names(Sequence[str]):
    """The names of shards in order, each once. As a sequence, and as a set that is asked by bisection."""

    def __init__(self, names: Iterable[str]) -> None:
        self._raw = np.array([name.encode() for name in names] or np.empty(0, "S1"))
        ordered = bool((self._raw[:-1] < self._raw[1:]).all())
        self._order = None if ordered else np.argsort(self._raw, kind="stable")

    def __len__(self) -> int:
        return len(self._raw)

    def __iter__(self) -> Iterator[str]:
        return map(bytes.decode, self._raw.tolist())

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

    def where(self, kept: NDArray[np.bool_]) -> Names:
        """Those that are marked; these themselves where all are, so that products go on sharing them."""
        return self if kept.all() else Names(self[int(i)] for i in np.flatnonzero(kept))


class Made(Mapping[str, File]):
    """The files of a product by shard: their keys, and from a shard and its key the path."""

    def __init__(self, names: Names, keys: Keys, path: Callable[[str, str], str]) -> None:
        self.names, self.numbers, self.path = names, keys, path

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __getitem__(self, shard: str) -> File:
        return self.file(self.names.at(shard))

    def file(self, place: int) -> File:
        """The file of the shard at a place."""
        key = text(self.numbers[place])
        return File(self.path(self.names[place], key), key)


class Paths(Sequence[str]):
    """The paths of files in the order of their shards."""

    def __init__(self, files: Mapping[str, File]) -> None:
        self._files = files if isinstance(files, Made) else list(files.values())

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[Any]:
        files = self._files
        if isinstance(files, Made):
            return map(files.path, files.names, map(text, files.numbers.tolist()))
        return (file.path for file in files)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        files = self._files
        return (files.file(at) if isinstance(files, Made) else files[at]).path


def text(key: np.uint64 | int) -> str:
    """A key as it stands in the names of files."""
    return f"{key:016x}"


def fingerprints(files: Mapping[str, File]) -> Iterator[str]:
    """The fingerprints of files in the order of their shards."""
    if isinstance(files, Made):
        return map(text, files.numbers.tolist())
    return (file.fingerprint for file in files.values())


def common(files: Sequence[Mapping[str, File]]) -> Names:
    """The names of the shards that are in all of these, in the order of the first."""
    first = files[0]
    names = first.names if isinstance(first, Made) else Names(first)
    rest = [other for other in files[1:] if not (isinstance(other, Made) and other.names is names)]
    if not rest:
        return names
    return names.where(np.fromiter((all(name in other for other in rest) for name in names), bool, len(names)))


def aligned(files: Mapping[str, File], names: Names) -> Iterator[str]:
    """The fingerprints of the files of these shards."""
    shared = isinstance(files, Made) and files.names is names
    if shared or (len(files) == len(names) and all(map(operator.eq, files, names))):
        return fingerprints(files)
    return (files[name].fingerprint for name in names)
