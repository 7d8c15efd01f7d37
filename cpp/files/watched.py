"""Lines about operations on an object store that take long, so that a store that stalls is named within seconds.

Watches the methods of fsspec's file systems and the reads of the files that they open. Knows no protocol.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cpp.files import slow_servers
from cpp.files.slow_servers import Reports

METHODS = {
    "cat_file": 0, "cp_file": 0, "exists": 0, "find": 0, "get_file": 0, "glob": 0, "info": 0, "isdir": 0, "isfile": 0,
    "ls": 0, "pipe_file": 0, "put_file": 1, "rm_file": 0,
}  # fmt: skip  # with the position of the path in the store among the arguments


@dataclass
class _Operation:
    """An operation on an `address`, which began at `since`; a line is due when it has taken `due` seconds."""

    server: str
    address: str
    since: float
    due: float


class Operations:
    """The operations in progress. A thread prints a line about each that takes SILENCE seconds, and twice as many."""

    def __init__(self) -> None:
        self._reports, self._running = Reports(), dict[int, _Operation]()
        self._of_thread, self._starting = threading.local(), threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread if it is not running."""
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._print_lines, daemon=True)
                self._thread.start()

    @contextmanager
    def watch(self, server: str, address: str) -> Iterator[None]:
        """Watch an operation until the end of the block. One within another of the same thread is part of it."""
        if getattr(self._of_thread, "busy", False):
            yield
            return
        self._of_thread.busy = True
        operation = _Operation(server, address, time.monotonic(), slow_servers.SILENCE)
        self._running[id(operation)] = operation
        try:
            yield
        finally:
            del self._running[id(operation)]
            self._of_thread.busy = False

    def _print_lines(self) -> None:
        while True:
            time.sleep(slow_servers.SILENCE / 5)
            for operation in list(self._running.values()):
                seconds = time.monotonic() - operation.since
                if seconds >= operation.due:
                    text = f"{operation.address} has taken {seconds:.0f} s, still waiting"
                    self._reports.line(operation.server, text)
                    operation.due *= 2


_OPERATIONS = Operations()


def watch(fs: Any, server: str) -> Any:
    """The file system, with its methods watched. Lines begin with `server`."""
    if getattr(fs, "is_watched", False):  # fsspec has one instance for equal options
        return fs
    _OPERATIONS.start()
    for name, place in METHODS.items():
        setattr(fs, name, _watched(getattr(fs, name), fs, server, place))
    open_file = _watched(fs._open, fs, server, 0)

    def _open(path: str, *args: Any, **options: Any) -> Any:
        file = open_file(path, *args, **options)
        if file.blocksize:  # all reads go through its cache, which may read ahead in other threads
            file.cache.fetcher = _watched(file.cache.fetcher, fs, server, path)
        else:  # a stream
            file.read = _watched(file.read, fs, server, path)
        return file

    fs._open, fs.is_watched = _open, True
    return fs


def _watched(method: Callable[..., Any], fs: Any, server: str, path: int | str) -> Callable[..., Any]:
    """A method that is watched. `path` is what it waits for, or the position of this among the arguments."""

    @functools.wraps(method)
    def call(*args: Any, **options: Any) -> Any:
        name = path if isinstance(path, str) else next(iter([*args[path:], *options.values()]), "")
        with _OPERATIONS.watch(server, fs.unstrip_protocol(str(name))):
            return method(*args, **options)

    return call
