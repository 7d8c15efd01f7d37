"""Iterables: batches, and a bounded ordered map over threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one shorter: `itertools.batched`, which needs Python 3.12."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def map_threads(function: Callable[[T], R], items: Iterable[T], threads: int, pending: int) -> Iterator[R]:
    """`map(function, items)` in `threads` threads, in order; at most `pending` items are submitted and not yet yielded.

    An exception of `function` or of `items` is raised in its place, after all earlier results.
    """

    def futures() -> Iterator[Future[R]]:
        try:
            for item in items:
                yield pool.submit(function, item)
        except Exception as error:
            failed = Future[R]()
            failed.set_exception(error)
            yield failed

    with ThreadPoolExecutor(threads) as pool:
        source = futures()
        submitted = deque(islice(source, pending))
        try:
            while submitted:
                yield submitted.popleft().result()
                submitted.extend(islice(source, 1))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
