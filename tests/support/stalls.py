"""A server that answers no request until a line about its silence is printed."""

from __future__ import annotations

import re
import threading

import pytest

from cpp.files import slow_servers, watched

PATIENCE = 600  # seconds, of a test that fails


class Stall:
    """`wait` keeps a server from answering until the first of the `lines` (server, text) is printed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lines, self._printed = list[tuple[str, str]](), threading.Event()
        monkeypatch.setattr(slow_servers, "SILENCE", 0.1)
        monkeypatch.setattr(watched._OPERATIONS._reports, "line", self._line)

    def _line(self, server: str, text: str) -> None:
        self.lines.append((server, re.sub(r"\d+ s", "N s", text)))
        self._printed.set()

    def wait(self) -> None:
        assert self._printed.wait(PATIENCE)
