"""One writer at a time on storage without locks: a numbered object that its holder rewrites every RENEW seconds.

The process that created the object with the highest number holds the lease. Creation is a conditional PUT, so one
of two contenders wins. An empty object is a free lease. A contender polls a held lease and takes over, with the next
number, when it is not renewed within PATIENCE seconds. Each process uses only its own clock.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

RENEW, PATIENCE = 10.0, 60.0  # seconds


class LockedError(RuntimeError):
    """Another run holds the lease or lock of the folder."""


class Lease:
    """The right to write to `address`, held through objects in the folder `folder` of the file system `fs`."""

    def __init__(self, fs: Any, folder: str, address: str) -> None:
        self._fs, self._folder, self._address = fs, folder, address
        self._process = f"process {os.getpid()} on {socket.gethostname()}"
        self._number, self._renewed, self._lost = 0, 0.0, ""
        self._end = threading.Event()

    def take(self, report: Callable[[str], None]) -> None:
        """Acquire the lease. LockedError, naming the holder, if it is held; `report` gets a line before a wait."""
        number, text = self._highest()
        if text:
            report(
                f"the lease of {self._address} is held by {_holder(text)}: "
                f"waiting up to {PATIENCE:.0f} s to see whether it is renewed"
            )
            if self._is_renewed(number, text):
                raise self._refused(text)
        self._number = number + 1
        self._renewed = time.monotonic()
        content = self._content()
        try:
            self._fs.pipe_file(self._path(self._number), content, mode="create")
        except FileExistsError:
            if self._fs.cat_file(self._path(self._number)) != content:  # equal if the answer to a first PUT was lost
                raise self._refused(self._highest()[1]) from None
        if (later := self._highest())[0] != self._number:
            raise self._refused(later[1])
        for path in self._objects():
            if path != self._path(self._number):
                self._fs.rm_file(path)

    def keep(self) -> None:
        """Renew the lease in a thread until `release`. If it is lost, the main thread gets a KeyboardInterrupt."""
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """LockedError if the lease is lost, or may be because it was not renewed for PATIENCE seconds."""
        if not self._lost and time.monotonic() - self._renewed > PATIENCE:
            self._lost = f"it could not be renewed for {PATIENCE:.0f} s"
        if self._lost:
            raise LockedError(
                f"this run is no longer the writer of {self._address} ({self._lost}): it stops. Finished results are "
                "kept; run the same command again once no other run is writing"
            )

    def release(self) -> None:
        """Free the lease."""
        self._end.set()
        self._thread.join()
        if not self._lost:
            self._fs.pipe_file(self._path(self._number), b"")

    def holder(self) -> str | None:
        """The process that holds the lease, or None; takes up to PATIENCE seconds after a run was killed."""
        number, text = self._highest()
        return _holder(text) if text and self._is_renewed(number, text) else None

    def _renew(self) -> None:
        while not self._end.wait(RENEW):
            with contextlib.suppress(Exception):  # the storage may answer again before the lease is lost
                self._renew_once()
            try:
                self.check()
            except LockedError:
                main = threading.main_thread().ident
                if main is not None:  # a signal to the process would not end a wait of the main thread
                    signal.pthread_kill(main, signal.SIGINT)
                return

    def _renew_once(self) -> None:
        number, text = self._highest()
        if number != self._number:
            self._lost = f"{_holder(text)} has taken over" if text else "another run has taken over and ended"
            return
        start = time.monotonic()
        self._fs.pipe_file(self._path(self._number), self._content())
        self._renewed = start

    def _is_renewed(self, number: int, text: bytes) -> bool:
        """Poll the object: whether its holder renews it within PATIENCE seconds; returns at the first change."""
        start, watched = time.monotonic(), 0.0
        while watched < PATIENCE:  # polls once more after that, in case this process was suspended
            watched = time.monotonic() - start
            time.sleep(RENEW / 4)
            if (current := self._highest()) != (number, text):
                return bool(current[1])
        return False

    def _highest(self) -> tuple[int, bytes]:
        """Number and content of the object with the highest number; 0 and nothing if there is none."""
        for _ in range(10):
            numbers = [int(path.rpartition("/")[2]) for path in self._objects()]
            if not numbers:
                return 0, b""
            try:
                return max(numbers), bytes(self._fs.cat_file(self._path(max(numbers))))
            except FileNotFoundError:  # another process took over after the listing
                continue
        raise LockedError(f"other runs keep taking over the lease of {self._address}: stop them")

    def _objects(self) -> list[str]:
        try:
            return [entry["name"] for entry in self._fs.ls(self._folder, detail=True) if entry["type"] == "file"]
        except FileNotFoundError:
            return []

    def _path(self, number: int) -> str:
        return f"{self._folder}/{number:09d}"

    def _content(self) -> bytes:
        return f"{self._process}\n{uuid.uuid4()}".encode()

    def _refused(self, text: bytes) -> LockedError:
        return LockedError(f"another run is writing to {self._address} ({_holder(text)}): wait for it, or stop it")


def _holder(text: bytes) -> str:
    return text.decode(errors="replace").partition("\n")[0] or "an unnamed process"
