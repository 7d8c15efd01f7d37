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
    if threads < 1 or pending < 1:
        raise ValueError(f"threads is {threads} and pending is {pending}, both must be at least 1")
    submitted: deque[Future[R]] = deque()
    failure: Exception | None = None
    source = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        try:
            while True:
                try:
                    submitted.append(pool.submit(function, next(source)))
                except StopIteration:
                    break
                except Exception as error:
                    failure = error
                    break
                if len(submitted) >= pending:
                    yield submitted.popleft().result()
            while submitted:
                yield submitted.popleft().result()
            if failure is not None:
                raise failure
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
