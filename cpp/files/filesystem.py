"""Addresses (`s3://`, `gs://`, `https://`) and paths through fsspec: connections with retries, secrets kept out.

With `cpp.files.http` the door to fsspec. Credentials come from the environment alone (AWS_*,
GOOGLE_APPLICATION_CREDENTIALS):
an address that carries some is refused, and `redacted` takes them out of what errors say. Knows no formats and no run
folder.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.fs as pafs

from cpp.files.http import Web

ATTEMPTS = 8  # of a request: about a minute of waiting in all, at random and longer each time
REQUESTS = 16  # at a time to an object store
OPTIONS: dict[str, dict[str, Any]] = {
    # botocore waits and tries again after 500, 502, 503, 504, throttling, timeouts and lost connections
    "s3": {
        "config_kwargs": {
            "retries": {"mode": "standard", "max_attempts": ATTEMPTS},
            "connect_timeout": 10,
            "read_timeout": 60,
            "max_pool_connections": 2 * REQUESTS,  # else 10: the lease and the logs do not wait for the others
        },
        "use_listings_cache": False,  # others write too: a listing is what is there now
    },
    "gs": {"use_listings_cache": False},  # gcsfs tries six times, for about half a minute
}
WEB = ("http", "https")

_CLIENTS = ("aiobotocore", "aiohttp", "botocore", "gcsfs", "google", "requests")

has_magic, glob_translate = fsspec.core.has_magic, fsspec.utils.glob_translate


@cache
def _connection(protocol: str, attempts: int = ATTEMPTS) -> Any:
    """One for the process: a connection takes a tenth of a second to make, and any thread can use it."""
    return Web(attempts) if protocol in WEB else fsspec.filesystem(protocol, **OPTIONS[protocol])


def disconnect() -> None:
    """Forget the connections: what the environment and OPTIONS say counts anew."""
    _connection.cache_clear()
    fsspec.core.get_filesystem_class("s3").clear_instance_cache()


def is_remote(path: str) -> bool:
    return "://" in path


def connect(path: str, attempts: int = ATTEMPTS) -> tuple[Any, str]:
    """The file system of a path or address, and what it calls it; `attempts` of a request are for the web alone."""
    protocol = path.partition("://")[0]
    if (protocol in OPTIONS or protocol in WEB) and "::" not in path:
        fs = _connection(protocol, attempts)
        return fs, str(fs._strip_protocol(path))
    fs, name = fsspec.core.url_to_fs(path)
    return fs, str(name)


def list_folder(folder: str) -> Iterator[Mapping[str, Any]]:
    """What is in a folder, as fsspec describes it: on this machine one by one, and a link is what it leads to, if any.

    FileNotFoundError or NotADirectoryError where there is no such folder.
    """
    if is_remote(folder):
        fs, root = connect(folder)
        yield from fs.ls(root, detail=True)
        return
    with os.scandir(folder) as found:
        for entry in found:
            try:
                stat = entry.stat()
                kind = "directory" if entry.is_dir() else "file" if entry.is_file() else "special"
            except FileNotFoundError:
                yield {"name": entry.path, "type": "link"}
                continue
            yield {"name": entry.path, "size": stat.st_size, "mtime": stat.st_mtime, "type": kind}


def is_file(entry: Mapping[str, Any]) -> bool:
    """Whether an entry of a folder is a file.

    ValueError for a link to nothing: passed over, its rows would be lost; and for a pipe, which would be waited for.
    """
    if entry["type"] == "link":
        raise ValueError(f"{entry['name']} is a link to nothing: mend it, or take it away")
    if entry["type"] == "special":
        raise ValueError(f"{entry['name']} is a pipe or a device, not a file: take it away")
    return bool(entry["type"] == "file")


@contextmanager
def open_file(path: str, attempts: int = ATTEMPTS) -> Iterator[Any]:
    """A file to read bytes from."""
    fs, name = connect(path, attempts)
    with _named(path), fs.open(name, "rb") as file:
        yield file


@contextmanager
def _named(path: str) -> Iterator[None]:
    """A refusal names the file: of what S3 says, s3fs keeps "Forbidden" alone."""
    try:
        yield
    except PermissionError as error:
        if error.filename is not None:
            raise
        raise PermissionError(errno.EACCES, str(error), path) from error


class _Handler(pafs.FSSpecHandler):  # type: ignore[misc]  # pyarrow has no types
    """Arrow asks for the byte ranges that it needs, several at once: reading ahead would fetch what it leaves out."""

    def get_file_info(self, paths: Sequence[str]) -> list[pafs.FileInfo]:
        found = []
        for path in paths:
            with _named(self.fs.unstrip_protocol(path)):
                found += super().get_file_info([path])
        return found

    def open_input_file(self, path: str) -> Any:
        with _named(self.fs.unstrip_protocol(path)):
            return pa.PythonFile(self.fs.open(path, mode="rb", cache_type="none"), mode="r")


def arrow_filesystem(paths: Sequence[str]) -> tuple[list[str], Any]:
    """Paths as pyarrow takes them, with the file system that they are on; None for this machine's."""
    if not paths or not is_remote(paths[0]):
        return list(paths), None
    fs, _ = connect(paths[0])
    return [str(fs._strip_protocol(path)) for path in paths], pafs.PyFileSystem(_Handler(fs))


def is_storage_error(error: Exception) -> bool:
    """Whether it is an error of the storage; a full disk on this machine, or a fault in a program, is none."""
    if isinstance(error, OSError):
        return error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return type(error).__module__.partition(".")[0] in _CLIENTS


def is_permanent(error: Exception) -> bool:
    """Whether the storage would say the same again: no bucket, no right, no credentials."""
    return isinstance(error, PermissionError | FileNotFoundError) or "Credential" in type(error).__name__
