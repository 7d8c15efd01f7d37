"""Files on the web (`https://`): fsspec's HTTP file system over a session that repeats failed requests.

fsspec 2026.9.0 sends each request once and reports every failure of `info` as a missing file; aiohttp-retry 2.9.1 does
not repeat an answer that breaks off. What is left to do here is one aiohttp middleware. Knows no other protocol.
"""

from __future__ import annotations

import asyncio
import io
import random
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from fsspec.implementations.http import HTTPFile, HTTPFileSystem

from cpp.files import slow_servers
from cpp.files.slow_servers import Reports

WAIT, MAX_WAIT = 1.0, 20.0  # seconds before the second attempt; doubled before each later one, up to the maximum
MAX_RETRY_AFTER = 60.0  # seconds that a server's Retry-After header can ask for
ATTEMPT_TIMEOUT = 300.0  # seconds for one attempt, without the body of an answer that is read as a stream
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
TRANSIENT = frozenset({408, 416, 425, 429})  # and 500 and above; ranges lie inside the file, so 416 is a fault too


class NoAnswerError(aiohttp.ClientError, ConnectionError):
    """All attempts of a request failed. A ClientError, because aiohttp replaces any other OSError."""


class Web(HTTPFileSystem):  # type: ignore[misc]  # fsspec has no types
    """HTTP where a request has up to `attempts` attempts; NoAnswerError, naming the address, when all of them fail.

    A file is read in ranges of bytes. Without ranges or a size it is a stream, and fails when its answer breaks off.
    """

    def __init__(self, attempts: int, quiet: bool = False, **options: Any) -> None:
        """With `quiet` no line says that a server is slow or fails: of single images many are dead."""
        reports = _Reports(quiet)

        async def send(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
            return await _send(request, handler, attempts, reports)

        super().__init__(client_kwargs={"timeout": TIMEOUT, "middlewares": (send,)}, **options)

    async def _info(self, url: str, **kwargs: Any) -> Any:
        try:
            return await super()._info(url, **kwargs)
        except FileNotFoundError as error:
            if isinstance(error.__cause__, NoAnswerError):
                raise error.__cause__ from None
            raise

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        file = super()._open(path, mode, **kwargs)
        return file if isinstance(file, HTTPFile) else io.BufferedReader(file)  # a stream's own reads may be short

    def get_file(self, rpath: str, lpath: str, **kwargs: Any) -> None:
        """Download in ranges; fsspec's single answer could not be continued where it breaks off."""
        with self.open(rpath) as source, Path(lpath).open("wb") as target:
            shutil.copyfileobj(source, target)


class _Reports(Reports):
    """Reports of requests over HTTP."""

    @asynccontextmanager
    async def watch(self, request: aiohttp.ClientRequest, answer: list[aiohttp.ClientResponse]) -> AsyncIterator[None]:
        """Print a line whenever no byte has come for some time. `answer` gets the response as soon as it begins."""
        watching = asyncio.create_task(self._watch(request.url.host or "", answer))
        try:
            yield
        finally:
            watching.cancel()

    async def _watch(self, host: str, answer: list[aiohttp.ClientResponse]) -> None:
        came, silent, due = 0, 0.0, slow_servers.SILENCE
        while True:
            await asyncio.sleep(slow_servers.SILENCE)
            total = answer[0].content.total_bytes if answer else 0
            silent = 0.0 if total > came else silent + slow_servers.SILENCE
            came, due = total, due if silent else slow_servers.SILENCE
            if silent >= due:
                self.line(host, f"no answer for {silent:.0f} s, still waiting")
                due *= 2


async def _send(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType, attempts: int, reports: _Reports
) -> aiohttp.ClientResponse:
    if request.method == "HEAD":  # after a failed HEAD fsspec asks with GET, which is repeated
        attempts = 1
    for attempt in range(1, attempts + 1):
        try:
            answer = list[aiohttp.ClientResponse]()
            async with asyncio.timeout(ATTEMPT_TIMEOUT), reports.watch(request, answer):
                return await _send_once(request, handler, answer)
        except Exception as error:
            if not _is_transient(error):
                raise
            if attempt == attempts:
                raise NoAnswerError(
                    f"{request.url} did not answer after {attempts} attempts ({type(error).__name__}: {error})"
                ) from error
            wait = _wait(error, attempt)
            reason = f"status {error.status}" if isinstance(error, aiohttp.ClientResponseError) else _summary(error)
            again = f"trying again in {wait:.0f} s (attempt {attempt + 1} of {attempts})"
            reports.line(request.url.host or "", f"{reason}, {again}")
            await asyncio.sleep(wait)
    raise AssertionError("a request has at least one attempt")


def _summary(error: Exception) -> str:
    """An error in one line: many have no message."""
    return f"{type(error).__name__} {str(error).partition(chr(10))[0]}".strip()


async def _send_once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType, answer: list[aiohttp.ClientResponse]
) -> aiohttp.ClientResponse:
    """The answer to a request, read to its end if it is a range. ClientResponseError for a transient status."""
    response = await handler(request)
    answer.append(response)
    if _is_transient_status(response.status):
        response.raise_for_status()
    if response.status == 206:
        first, last = request.headers["Range"].removeprefix("bytes=").split("-")
        expected, size = int(last) - int(first) + 1, len(await response.read())
        if size < expected:
            raise aiohttp.ClientPayloadError(f"{size:,} bytes came of a range of {expected:,}")
    return response


def _is_transient_status(status: int) -> bool:
    return status in TRANSIENT or status >= 500


def _is_transient(error: Exception) -> bool:
    """Whether another attempt may succeed."""
    if isinstance(error, aiohttp.ClientResponseError):
        return _is_transient_status(error.status)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return error.os_error.errno != socket.EAI_NONAME
    if isinstance(error, aiohttp.ClientSSLError):
        return False
    return isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError | TimeoutError)


def _wait(error: Exception, attempt: int) -> float:
    """Seconds until the next attempt: exponential with jitter, or longer if the server asks for it."""
    requested: str = (getattr(error, "headers", None) or {}).get("Retry-After", "")
    wait = min(WAIT * 2.0 ** (attempt - 1), MAX_WAIT) * random.uniform(0.5, 1)  # noqa: S311 (jitter is no secret)
    return max(wait, min(float(requested), MAX_RETRY_AFTER)) if requested.isdigit() else wait
