"""A folder in a bucket: listings, concurrent requests, one writer, and errors that name the address and the fix.

Knows neither the layout of a run folder nor that of an export.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cpp.files import credentials, filesystem
from cpp.files.filesystem import REQUESTS
from cpp.store.lease import Lease

SCHEMES = ("s3", "gs", "memory")  # memory:// is the memory of the process, for tests

Entries = dict[str, Mapping[str, Any]]  # name or path of an object -> its entry in a listing

T = TypeVar("T")


@dataclass(frozen=True)
class BucketObjects:
    """The objects below `address`. Errors call it `kind`, and `remedy` begins the sentence on how to name another."""

    address: str
    kind: str
    remedy: str

    @property
    def fs(self) -> Any:
        return filesystem.connect(self.address)[0]

    def name(self, path: str) -> str:
        """The path in the file system of an address, or of a path relative to the folder."""
        return filesystem.connect(path if filesystem.is_remote(path) else f"{self.address}/{path}")[1]

    def put(self, path: Path, target: str) -> None:
        """Upload a finished local file; the object appears whole or not at all."""
        self.fs.put_file(str(path), self.name(target))

    def write(self, data: bytes, target: str) -> None:
        """Upload bytes."""
        self.fs.pipe_file(self.name(target), data)

    def entries(self, folder: str) -> Entries:
        """The objects and folders directly in a folder by name, from one listing."""
        path = self.name(folder).rstrip("/")
        try:
            entries = {entry["name"].rstrip("/"): entry for entry in self.fs.ls(path, detail=True)}
        except FileNotFoundError:
            return {}
        return {name.rpartition("/")[2]: entry for name, entry in entries.items() if name != path}

    def below(self, folder: str) -> Entries:
        """All objects below a folder by their path from there."""
        path = self.name(folder).rstrip("/")
        return {name[len(path) + 1 :]: entry for name, entry in self.fs.find(path, detail=True).items()}

    def each(self, work: Callable[[T], None], names: Iterable[T]) -> None:
        """Call `work` for each name, concurrently."""
        with ThreadPoolExecutor(REQUESTS) as pool:
            list(pool.map(work, names))

    def remove(self, names: Iterable[str]) -> None:
        """Delete objects."""
        self.each(lambda name: self.fs.rm_file(self.name(name)), names)

    def lease(self, folder: str) -> Lease:
        """The lease that objects in the folder represent."""
        return Lease(self.fs, self.name(folder), self.address)

    @contextmanager
    def writing(self, folder: str, report: Callable[[str], None]) -> Iterator[Lease]:
        """Hold the lease until the end of the block. LockedError if another process holds it or takes it over."""
        lease = self.lease(folder)
        with self.explain_errors():
            lease.take(report)
        lease.keep()
        try:
            yield lease
        except KeyboardInterrupt:
            lease.check()  # the lease interrupts the main thread when it is lost
            raise
        finally:
            with self.explain_errors():
                lease.release()

    @contextmanager
    def explain_errors(self) -> Iterator[None]:
        """Turn errors of the store into a PermissionError or ConnectionError with the address and the fix."""
        try:
            yield
        except Exception as error:
            if not filesystem.is_storage_error(error):
                raise
            message = credentials.redacted(f"{type(error).__name__}: {error}")
            if filesystem.is_permanent(error):
                raise PermissionError(
                    f"cannot use the {self.kind} {self.address} ({message}): {self.remedy} an existing bucket, with "
                    "credentials that may list, read, write and delete in it (AWS_*, GOOGLE_APPLICATION_CREDENTIALS)"
                ) from error
            raise ConnectionError(
                f"the {self.kind} {self.address} did not answer after {filesystem.ATTEMPTS} attempts ({message}): "
                "finished results are kept; run the same command again to continue"
            ) from error


def check_writable(path: str) -> str:
    """The path. ValueError if it is an address but not that of a folder in a bucket."""
    scheme, separator, folder = path.partition("://")
    if separator and (scheme not in SCHEMES or not folder.strip("/")):
        raise ValueError(f"{path} cannot be written to: name a folder, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER")
    return path
