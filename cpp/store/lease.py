"""One writer at a time on storage without locks: a numbered object that its holder writes anew every few seconds.

The writer is who made the object of the highest number; an object is made only where none is (a conditional PUT), so
that one of two wins. It is free when it is empty. Who wants one that is not free watches it: has it not changed for
PATIENCE seconds on the watcher's own clock, its holder is gone and the next number is taken. No clocks are compared.
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
    """Another run is writing to the folder."""


class Lease:
    """The right to write to what lies at `where`, by objects in the folder `folder` of the file system `fs`."""

    def __init__(self, fs: Any, folder: str, where: str) -> None:
        self._fs, self._folder, self._where = fs, folder, where
        self._me = f"process {os.getpid()} on {socket.gethostname()}"
        self._number, self._renewed, self._lost = 0, 0.0, ""
        self._end = threading.Event()

    def take(self, tell: Callable[[str], None]) -> None:
        """Become the writer. LockedError, naming the other, where there is one; `tell` says what is waited for."""
        number, text = self._highest()
        if text:
            tell(f"looking up to {PATIENCE:.0f} s whether the run of {_name(text)} on {self._where} is still at work")
            if self._changes(number, text):
                raise self._refused(text)
        self._number = number + 1
        self._renewed = time.monotonic()
        mine = self._text()
        try:
            self._fs.pipe_file(self._path(self._number), mine, mode="create")
        except FileExistsError:
            if self._read(self._number) != mine:  # or an answer was lost, and the PUT tried again met itself
                raise self._refused(self._highest()[1]) from None
        if (later := self._highest())[0] != self._number:
            raise self._refused(later[1])
        for path in self._objects():
            if path != self._path(self._number):
                self._fs.rm_file(path)

    def keep(self) -> None:
        """Renew it in a thread until `release`. Where it is lost this process gets a Ctrl-C."""
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """LockedError where the lease is lost, or may be: it could not be renewed for too long."""
        if not self._lost and time.monotonic() - self._renewed > PATIENCE:
            self._lost = f"it could not be renewed for {PATIENCE:.0f} s"
        if self._lost:
            raise LockedError(
                f"this run is no longer the writer of {self._where} ({self._lost}): it stops. What is done stays; run "
                "the same command again once no other run is at work"
            )

    @property
    def lost(self) -> bool:
        return bool(self._lost)

    def release(self) -> None:
        """Let the next one write."""
        self._end.set()
        self._thread.join()
        if not self._lost:
            self._fs.pipe_file(self._path(self._number), b"")

    def holder(self) -> str | None:
        """Who is writing now, None where nobody is; takes up to PATIENCE seconds where a run was killed."""
        number, text = self._highest()
        return _name(text) if text and self._changes(number, text) else None

    def _renew(self) -> None:
        while not self._end.wait(RENEW):
            with contextlib.suppress(Exception):  # storage is away: it may come back before the lease is lost
                self._renew_once()
            try:
                self.check()
            except LockedError:
                main = threading.main_thread().ident
                if main is not None:  # to that thread: a signal to the process would not end its waiting
                    signal.pthread_kill(main, signal.SIGINT)
                return

    def _renew_once(self) -> None:
        number, text = self._highest()
        if number != self._number:
            self._lost = f"{_name(text)} has taken over" if text else "another run took over, and has ended"
            return
        begun = time.monotonic()
        self._fs.pipe_file(self._path(self._number), self._text())
        self._renewed = begun

    def _changes(self, number: int, text: bytes) -> bool:
        """Whether somebody writes to the object; returns as soon as it is seen, or after PATIENCE seconds."""
        start, watched = time.monotonic(), 0.0
        while watched < PATIENCE:  # the last look is later than that: this process may have been stopped before it
            watched = time.monotonic() - start
            time.sleep(RENEW / 4)
            if (now := self._highest()) != (number, text):
                return bool(now[1])
        return False

    def _highest(self) -> tuple[int, bytes]:
        """Number and content of the object that counts; 0 and nothing where there is none."""
        for _ in range(10):
            numbers = [int(path.rpartition("/")[2]) for path in self._objects()]
            if not numbers:
                return 0, b""
            try:
                return max(numbers), self._read(max(numbers))
            except FileNotFoundError:  # taken over between the listing and the reading
                continue
        raise LockedError(f"other runs keep taking {self._where} over: stop them")

    def _objects(self) -> list[str]:
        try:
            return [entry["name"] for entry in self._fs.ls(self._folder, detail=True) if entry["type"] == "file"]
        except FileNotFoundError:
            return []

    def _read(self, number: int) -> bytes:
        return bytes(self._fs.cat_file(self._path(number)))

    def _path(self, number: int) -> str:
        return f"{self._folder}/{number:09d}"

    def _text(self) -> bytes:
        return f"{self._me}\n{uuid.uuid4()}".encode()

    def _refused(self, text: bytes) -> LockedError:
        return LockedError(f"another run is writing to {self._where} ({_name(text)}): wait for it, or stop it")


def _name(text: bytes) -> str:
    return text.decode(errors="replace").partition("\n")[0] or "an unnamed process"
