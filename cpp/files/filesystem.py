"""Paths and addresses (`s3://`, `gs://`, `https://`) through fsspec, with retries and errors that name the file.

With `cpp.files.http` the only user of fsspec. Credentials come from the environment alone (AWS_*,
GOOGLE_APPLICATION_CREDENTIALS). Knows no formats and no run folder.
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

from cpp.files import watched
from cpp.files.slow_servers import RetryHandler

ATTEMPTS = 8  # of a request: about a minute of waiting in all, with exponential backoff and jitter
REQUESTS = 16  # concurrent requests to an object store
OPTIONS: dict[str, dict[str, Any]] = {
    # botocore repeats requests after 500, 502, 503, 504, throttling, timeouts and lost connections
    "s3": {
        "config_kwargs": {
            "retries": {"mode": "standard", "max_attempts": ATTEMPTS},
            "connect_timeout": 10,
            "read_timeout": 60,
            "max_pool_connections": 2 * REQUESTS,  # the default of 10 would make the lease and the logs wait
        },
        "use_listings_cache": False,  # other processes write too, so a listing must be fresh
    },
    "gs": {"use_listings_cache": False},  # gcsfs has six attempts, for about half a minute
}
RETRIES = {  # the server's name in a line, what its client logs of a retry, and the logger
    "s3": ("s3", r"retrying request after (delay of: [\d.]+)", "botocore.retries.standard"),
    "gs": ("gs", r"retrying after exception: (.*)", "gcsfs"),
}
HUB = "hf"
WEB = ("http", "https")
BLOCK = 8 << 20  # bytes of a request for a file that is read from beginning to end
AHEAD = {"block_size": BLOCK, "cache_type": "ahead", "cache_options": {"maxblocks": 4}}

_CLIENTS = ("aiobotocore", "aiohttp", "botocore", "gcsfs", "google", "requests")

has_magic, glob_translate = fsspec.core.has_magic, fsspec.utils.glob_translate


class _AheadCache(fsspec.caching.BackgroundBlockCache):  # type: ignore[misc]  # fsspec has no types
    """Requests the next block while one is read. Unlike fsspec's own cache it requests nothing behind the end."""

    name = "ahead"

    def _fetch_block(self, block_number: int, log_info: str = "sync") -> bytes:
        start = block_number * self.blocksize
        end = min(start + self.blocksize, self.size)
        return bytes(self.fetcher(start, end)) if start < end else b""


fsspec.caching.register_cache(_AheadCache, clobber=True)


@cache
def _connection(protocol: str, attempts: int = ATTEMPTS) -> Any:
    """One file system for the process: it takes 0.1 s to create, and any thread can use it."""
    if protocol not in WEB:
        if protocol in RETRIES:
            RetryHandler(*RETRIES[protocol])
        return watched.watch(fsspec.filesystem(protocol, **OPTIONS[protocol]), protocol)
    from cpp.files.http import Web  # not above: aiohttp takes 0.2 s to import

    return Web(attempts, quiet=attempts < ATTEMPTS)


def is_remote(path: str) -> bool:
    """Whether a path is an address with a protocol."""
    return "://" in path


def connect(path: str, attempts: int = ATTEMPTS) -> tuple[Any, str]:
    """The file system of a path or address, and the path in it; `attempts` for a request applies to http alone."""
    if not is_remote(path):  # a name may contain "::", which joins addresses
        fs = fsspec.filesystem("file")
        return fs, str(fs._strip_protocol(path))
    protocol = path.partition("://")[0]
    if (protocol in OPTIONS or protocol in WEB) and "::" not in path:
        fs = _connection(protocol, attempts)
        return fs, str(fs._strip_protocol(path))
    fs, name = fsspec.core.url_to_fs(path)
    return (watched.watch(fs, protocol) if protocol == HUB else fs), str(name)


def list_folder(folder: str) -> Iterator[Mapping[str, Any]]:
    """The entries of a folder as fsspec describes them, with symbolic links resolved; local ones are not all in memory.

    FileNotFoundError or NotADirectoryError if the folder does not exist.
    """
    if is_remote(folder):
        fs, root = connect(folder)
        yield from fs.ls(root, detail=True)
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                stat = entry.stat()
                kind = "directory" if entry.is_dir() else "file" if entry.is_file() else "special"
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ELOOP):
                    raise
                yield {"name": entry.path, "type": "link"}
                continue
            yield {"name": entry.path, "size": stat.st_size, "mtime": stat.st_mtime, "type": kind}


def is_file(entry: Mapping[str, Any]) -> bool:
    """Whether an entry of a folder is a file.

    ValueError for a broken link, whose rows would be lost, and for a pipe, which would block its reader.
    """
    if entry["type"] == "link":
        raise ValueError(f"{entry['name']} is a broken link: repair or remove it")
    if entry["type"] == "special":
        raise ValueError(f"{entry['name']} is a pipe or a device, not a file: remove it")
    return bool(entry["type"] == "file")


@contextmanager
def open_file(path: str, attempts: int = ATTEMPTS, *, ahead: bool = False) -> Iterator[Any]:
    """Open a file to read bytes. PermissionError and ConnectionError name it.

    With `ahead` the next block of a remote file is requested while its reader works on the present one.
    """
    fs, name = connect(path, attempts)
    try:
        with _named(path), fs.open(name, "rb", **(AHEAD if ahead and is_remote(path) else {})) as file:
            yield file
    except _interrupted() as error:
        raise ConnectionError(f"the answer of {path} broke off ({error}): run the same command again") from error


def _interrupted() -> type[Exception]:
    """The error of an answer over HTTP that breaks off."""
    from aiohttp import ClientPayloadError

    return ClientPayloadError


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Add the file to a PermissionError: s3fs keeps nothing but "Forbidden"."""
    try:
        yield
    except PermissionError as error:
        if error.filename is not None:
            raise
        raise PermissionError(errno.EACCES, str(error), path) from error


class _Handler(pafs.FSSpecHandler):  # type: ignore[misc]  # pyarrow has no types
    """Opens files without fsspec's read-ahead: Arrow requests exactly the byte ranges it needs, several at once."""

    def get_file_info(self, paths: Sequence[str]) -> list[pafs.FileInfo]:
        infos = []
        for path in paths:
            with _named(self.fs.unstrip_protocol(path)):
                infos += super().get_file_info([path])
        return infos

    def open_input_file(self, path: str) -> Any:
        with _named(self.fs.unstrip_protocol(path)):
            return pa.PythonFile(self.fs.open(path, mode="rb", cache_type="none"), mode="r")


def arrow_filesystem(paths: Sequence[str]) -> tuple[list[str], Any]:
    """Paths of one file system in pyarrow's form, and the pyarrow file system; None for the local one."""
    if not paths or not is_remote(paths[0]):
        return list(paths), None
    fs, _ = connect(paths[0])
    return [str(fs._strip_protocol(path)) for path in paths], pafs.PyFileSystem(_Handler(fs))


def is_storage_error(error: Exception) -> bool:
    """Whether the storage failed; a full local disk or a bug in a program does not count."""
    if isinstance(error, OSError):
        return error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return type(error).__module__.partition(".")[0] in _CLIENTS


def is_permanent(error: Exception) -> bool:
    """Whether another attempt would fail too: a missing bucket, missing permission or missing credentials."""
    return isinstance(error, PermissionError | FileNotFoundError) or "Credential" in type(error).__name__
