"""This process's own folder on a local disk, and copies in it of files that are on an object store.

It goes when the process ends; what a killed process left goes when the next one starts. It is where TMPDIR says.
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

_kept: dict[str, str] = {}  # address -> local copy


@cache
def folder() -> Path:
    """The folder of this process, made when first asked for."""
    parent = Path(tempfile.gettempdir()) / f"cpp-{os.getuid()}"
    parent.mkdir(mode=0o700, exist_ok=True)
    with (parent / "lock").open("a") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)  # nobody takes for abandoned what another process is making
        for other in parent.glob("*/alive"):
            # in use where it is locked; gone where its process ends at this moment
            with contextlib.suppress(BlockingIOError, FileNotFoundError), other.open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(other.parent, ignore_errors=True)
        mine = Path(tempfile.mkdtemp(dir=parent, prefix=f"{os.getpid()}-"))
        alive = os.open(mine / "alive", os.O_CREAT | os.O_RDWR)
        fcntl.flock(alive, fcntl.LOCK_EX)  # until the process ends, however it does
    atexit.register(shutil.rmtree, mine, ignore_errors=True)
    return mine


def download(address: str, into: Path) -> str:
    """A copy of a file in a folder, with its name."""
    fs, name = filesystem.connect(address)
    path = str(into / PurePosixPath(name).name)
    fs.get_file(name, path)
    return path


@contextmanager
def local_copy(path: str) -> Iterator[str]:
    """A local path of a file for the time of the block: itself, or a copy that is removed afterwards."""
    if not filesystem.is_remote(path):
        yield path
        return
    with tempfile.TemporaryDirectory(dir=folder()) as into:
        yield download(path, Path(into))


def cached_copy(path: str) -> str:
    """A local path of a file: itself, or a copy that is fetched once and stays until `forget`."""
    if not filesystem.is_remote(path):
        return path
    if path not in _kept:
        _kept[path] = download(path, Path(tempfile.mkdtemp(dir=folder())))
    return _kept[path]


def clear_copies() -> None:
    """Remove the copies that were kept."""
    while _kept:
        shutil.rmtree(Path(_kept.popitem()[1]).parent, ignore_errors=True)
