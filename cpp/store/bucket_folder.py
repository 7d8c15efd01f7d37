"""A folder on an object store: names, listings, many requests at a time, one writer, errors with the remedy.

Knows neither the layout of a run nor that of an export.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpp.files import credentials, filesystem
from cpp.files.filesystem import REQUESTS
from cpp.store.lease import Lease

SCHEMES = ("s3", "gs", "memory")  # the last is this process's memory, for tests

Infos = dict[str, Mapping[str, Any]]  # objects of a folder by name


@dataclass(frozen=True)
class BucketObjects:
    """What lies below `address`, which errors call `what`; `remedy` is how a person names another."""

    address: str
    what: str
    remedy: str

    @property
    def fs(self) -> Any:
        return filesystem.connect(self.address)[0]

    def name(self, path: str) -> str:
        """What the file system calls an address, or a path relative to the folder."""
        return filesystem.connect(path if filesystem.is_remote(path) else f"{self.address}/{path}")[1]

    def put(self, path: Path, target: str) -> None:
        """A finished file of this machine, there whole or not at all."""
        self.fs.put_file(str(path), self.name(target))

    def write(self, data: bytes, target: str) -> None:
        self.fs.pipe_file(self.name(target), data)

    def copy(self, source: str, target: str) -> None:
        """On the side of the store."""
        self.fs.cp_file(self.name(source), self.name(target))

    def fetch(self, name: str, path: Path) -> None:
        self.fs.get_file(self.name(name), str(path))

    def entries(self, folder: str) -> list[Mapping[str, Any]]:
        """What is in a folder, without what is in those below it: one listing."""
        name = self.name(folder).rstrip("/")
        try:
            return [entry for entry in self.fs.ls(name, detail=True) if entry["name"].rstrip("/") != name]
        except FileNotFoundError:
            return []

    def infos(self, folder: str) -> Infos:
        """The objects among them, by their names."""
        return {basename(entry["name"]): entry for entry in self.entries(folder) if entry["type"] == "file"}

    def below(self, folder: str) -> Infos:
        """All objects below a folder, by their path from this one."""
        start = len(self.name(""))
        return {path[start:].lstrip("/"): e for path, e in self.fs.find(self.name(folder), detail=True).items()}

    def each(self, work: Callable[[str], None], names: Iterable[str]) -> None:
        with ThreadPoolExecutor(REQUESTS) as pool:
            list(pool.map(work, names))

    def remove(self, names: Iterable[str]) -> None:
        self.each(lambda name: self.fs.rm_file(self.name(name)), names)

    def lease(self, folder: str) -> Lease:
        """The right to write here, by objects in the folder."""
        return Lease(self.fs, self.name(folder), self.address)

    @contextmanager
    def writing(self, folder: str, tell: Callable[[str], None]) -> Iterator[Lease]:
        """Be the one who holds the lease until the end of the block. LockedError where another is, or takes it over."""
        lease = self.lease(folder)
        with self.explain_errors():
            lease.take(tell)
        lease.keep()
        try:
            yield lease
        except KeyboardInterrupt:
            lease.check()  # it was the lease that interrupted
            raise
        finally:
            with self.explain_errors():
                lease.release()

    @contextmanager
    def explain_errors(self) -> Iterator[None]:
        """Errors of the store with the address and what to do."""
        try:
            yield
        except Exception as error:
            if not filesystem.is_storage_error(error):
                raise
            said = credentials.redacted(f"{type(error).__name__}: {error}")
            if filesystem.is_permanent(error):
                raise PermissionError(
                    f"cannot use the {self.what} {self.address} ({said}): {self.remedy} a bucket that is there, and "
                    "credentials that may list, read, write and delete in it (AWS_*, GOOGLE_APPLICATION_CREDENTIALS)"
                ) from error
            raise ConnectionError(
                f"the {self.what} {self.address} did not answer after {filesystem.ATTEMPTS} attempts ({said}): what is "
                "done stays; run the same command again to go on"
            ) from error


def check_writable(path: str) -> None:
    """ValueError for an address that is of no folder in a bucket; paths pass."""
    scheme, address, rest = path.partition("://")
    if address and (scheme not in SCHEMES or not rest.strip("/")):
        raise ValueError(f"{path} cannot be written to: name a folder, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER")


def basename(path: str) -> str:
    return path.rpartition("/")[2]
