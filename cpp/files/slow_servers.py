"""Lines about servers that are slow or fail, so that a wait for one is never silent. Knows no protocol."""

from __future__ import annotations

import logging
import re
import time

SILENCE = 5.0  # seconds without a byte after which a line says so, and between two lines about one server


class Reports:
    """Prints lines about servers, at most one for a server in SILENCE seconds; none if `quiet`."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet, self._last = quiet, dict[str, float]()

    def line(self, server: str, text: str) -> None:
        """Print a line about a server."""
        now = time.monotonic()
        if not self._quiet and now - self._last.get(server, -SILENCE) >= SILENCE:
            self._last[server] = now
            print(f"{server}: {text}", flush=True)


class RetryHandler(logging.Handler):
    """Reports the retries of a client library that only logs them, at the level DEBUG."""

    def __init__(self, server: str, pattern: str, logger: str) -> None:
        """`pattern` finds, in messages of `logger`, what the line says of a retry."""
        super().__init__(logging.DEBUG)
        self._server, self._pattern, self._reports = server, re.compile(pattern), Reports()
        logging.getLogger(logger).addHandler(self)
        logging.getLogger(logger).setLevel(logging.DEBUG)

    def emit(self, record: logging.LogRecord) -> None:
        """Print a line if the message is about a retry."""
        if match := self._pattern.search(record.getMessage()):
            self._reports.line(self._server, f"a request failed and is repeated ({match[1]})")
