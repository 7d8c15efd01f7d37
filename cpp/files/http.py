"""Files on the web (`https://`): fsspec's file system for it, with requests tried again, and the reading of answers.

fsspec 2026.9.0 asks once, and takes a server that fails for a file that is not there; aiohttp-retry 2.9.1 does not see
an answer that breaks off. Knows no other protocol.
"""

from __future__ import annotations

import asyncio
import io
import random
import socket
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import aiohttp
from fsspec.asyn import sync, sync_wrapper
from fsspec.implementations.http import HTTPFile, HTTPFileSystem

WAIT, LONGEST = 1.0, 20.0  # seconds before the second attempt, twice as long before each later one, at most
ASKED = 60.0  # seconds that a server's Retry-After can make it
TIMEOUT = aiohttp.ClientTimeout(total=300, sock_connect=10, sock_read=60)
AGAIN = frozenset({408, 425, 429})  # and 500 and above

T = TypeVar("T")


class ShortError(OSError):
    """An answer with fewer bytes than the file has there."""


class Web(HTTPFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Requests are made up to `attempts` times; ConnectionError, naming the address, where all of them failed."""

    def __init__(self, attempts: int, **options: Any) -> None:
        super().__init__(client_kwargs={"timeout": TIMEOUT}, **options)
        self.attempts = attempts

    async def retried(self, url: str, request: Callable[[], Awaitable[T]]) -> T:
        for attempt in range(self.attempts):
            try:
                return await request()
            except Exception as error:
                # `info` says of every failure that there is no such file
                why = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error
                if not _passes(why):
                    raise
                last = why
                if attempt + 1 < self.attempts:
                    await asyncio.sleep(_wait(why, attempt))
        raise ConnectionError(
            f"{url} did not answer after {self.attempts} attempts ({type(last).__name__}: {last})"
        ) from last

    async def _info(self, url: str, **kwargs: Any) -> Any:
        return await self.retried(url, partial(super()._info, url, **kwargs))

    async def _ls_real(self, url: str, detail: bool = True, **kwargs: Any) -> Any:
        return await self.retried(url, partial(super()._ls_real, url, detail, **kwargs))

    async def _get_file(self, rpath: str, lpath: str, **kwargs: Any) -> None:
        await self.retried(rpath, partial(super()._get_file, rpath, lpath, **kwargs))

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **kwargs: Any) -> Any:
        info = self.info(path)
        if not info["size"] or not info.get("partial", True):
            return _Stream(self, path)
        return _Ranges(
            self,
            path,
            session=sync(self.loop, self.set_session),
            block_size=block_size or self.block_size,
            size=info["size"],
            loop=self.loop,
            cache_type=kwargs.get("cache_type") or self.cache_type,
            cache_options=kwargs.get("cache_options"),
        )


class _Ranges(HTTPFile):  # type: ignore[misc]
    """A file that is read in ranges of bytes."""

    async def async_fetch_range(self, start: int, end: int) -> bytes:
        request = partial(super().async_fetch_range, start, end)
        n = min(end, self.size) - start

        async def whole() -> bytes:
            found = bytes(await request())
            if len(found) < n:
                raise ShortError(f"{len(found):,} bytes came where the file has {n:,}")
            return found

        return await self.fs.retried(self.url, whole)  # type: ignore[no-any-return]

    _fetch_range = sync_wrapper(async_fetch_range)

    def _fetch_all(self) -> None:
        """The whole is a range too."""


class _Stream(io.RawIOBase):
    """A file of which the server gives no parts, or does not say the size: where it breaks off it is read anew."""

    size = None

    def __init__(self, fs: Web, url: str) -> None:
        self._fs, self._url, self._at = fs, url, 0
        self._answer: aiohttp.ClientResponse | None = None

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """So many bytes, fewer only where the file ends."""
        wanted, found = size if size >= 0 else sys.maxsize, bytearray()
        while len(found) < wanted:
            more = sync(self._fs.loop, self._fs.retried, self._url, partial(self._read, wanted - len(found)))
            if not more:
                break
            self._at += len(more)
            found += more
        return bytes(found)

    def close(self) -> None:
        if self._answer is not None:
            self._fs.loop.call_soon_threadsafe(self._answer.close)
        super().close()

    async def _read(self, size: int) -> bytes:
        try:
            if self._answer is None:
                self._answer = await self._again()
            return await self._answer.content.read(size)
        except Exception:
            if self._answer is not None:
                self._answer.close()
            self._answer = None
            raise

    async def _again(self) -> aiohttp.ClientResponse:
        """An answer of which has been read what was read before."""
        session = await self._fs.set_session()
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT.sock_connect, sock_read=TIMEOUT.sock_read)
        answer: aiohttp.ClientResponse = await session.get(self._fs.encode_url(self._url), timeout=timeout)
        try:
            self._fs._raise_not_found_for_status(answer, self._url)
            left = self._at
            while left:
                passed = await answer.content.read(min(left, 1 << 20))
                if not passed:
                    raise ShortError(f"it ends {left:,} bytes before where it was read to")
                left -= len(passed)
        except Exception:
            answer.close()
            raise
        return answer


def _passes(error: BaseException) -> bool:
    """Whether another attempt may go well."""
    if isinstance(error, aiohttp.ClientResponseError):
        return error.status in AGAIN or error.status >= 500
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return error.os_error.errno != socket.EAI_NONAME
    if isinstance(error, aiohttp.ClientSSLError):
        return False
    lost = aiohttp.ClientConnectionError | aiohttp.ClientPayloadError
    return isinstance(error, lost | TimeoutError | ShortError)


def _wait(error: BaseException, attempt: int) -> float:
    asked: str = (getattr(error, "headers", None) or {}).get("Retry-After", "")
    wait = min(WAIT * 2.0**attempt, LONGEST) * random.uniform(0.5, 1)  # noqa: S311 (so that many do not ask at once)
    return max(wait, min(float(asked), ASKED)) if asked.isdigit() else wait
