"""Iterables: batches, and a bounded map over threads that keeps the order. Knows nothing of what is in them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items each, the last of the rest."""
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part


def map_threads(function: Callable[[T], R], items: Iterable[T], threads: int, waiting: int) -> Iterator[R]:
    """`map(function, items)` in `threads` threads; at most `waiting` items are begun and not yet taken.

    An exception of `function` or of `items` is raised in its place, after all results that come before it.
    """
    if threads < 1 or waiting < 1:
        raise ValueError(f"threads is {threads} and waiting is {waiting}, both must be at least 1")
    begun: deque[Future[R]] = deque()
    failure: Exception | None = None
    source = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        try:
            while True:
                try:
                    begun.append(pool.submit(function, next(source)))
                except StopIteration:
                    break
                except Exception as error:
                    failure = error
                    break
                if len(begun) >= waiting:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
            if failure is not None:
                raise failure
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
