"""A scratch folder for this process below TMPDIR, and local copies of remote files in it.

The folder is removed when the process ends; that of a killed process is removed when the next process starts.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePosixPath

from cpp.files import filesystem

_copies: dict[str, str] = {}  # address -> local copy


@cache
def folder() -> Path:
    """The folder of this process, created by the first call."""
    parent = Path(tempfile.gettempdir()) / f"cpp-{os.getuid()}"
    parent.mkdir(mode=0o700, exist_ok=True)
    with (parent / "lock").open("a") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)  # no process removes a folder that another is creating
        for other in parent.glob("*/alive"):
            # locked while its process lives; it may vanish when the process ends now
            with contextlib.suppress(BlockingIOError, FileNotFoundError), other.open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(other.parent, ignore_errors=True)
        own = Path(tempfile.mkdtemp(dir=parent, prefix=f"{os.getpid()}-"))
        alive = os.open(own / "alive", os.O_CREAT | os.O_RDWR)
        fcntl.flock(alive, fcntl.LOCK_EX)  # the kernel releases it when the process ends
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    return own


def download(address: str, into: Path) -> str:
    """Download a file to a folder under its own name; the local path."""
    fs, name = filesystem.connect(address)
    path = str(into / PurePosixPath(name).name)
    fs.get_file(name, path)
    return path


@contextmanager
def local_copy(path: str) -> Iterator[str]:
    """A local path of a file for the block: a copy, removed afterwards, if the file is remote."""
    if not filesystem.is_remote(path):
        yield path
        return
    with tempfile.TemporaryDirectory(dir=folder()) as into:
        yield download(path, Path(into))


def cached_copy(path: str) -> str:
    """A local path of a file: a copy, downloaded once and kept until `clear_copies`, if the file is remote."""
    if not filesystem.is_remote(path):
        return path
    if path not in _copies:
        _copies[path] = download(path, Path(tempfile.mkdtemp(dir=folder())))
    return _copies[path]


def clear_copies() -> None:
    """Remove the copies of `cached_copy`."""
    while _copies:
        shutil.rmtree(Path(_copies.popitem()[1]).parent, ignore_errors=True)
