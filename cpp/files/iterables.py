"""Iterables: batches, and a bounded ordered map over threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
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

    Exceptions of `function` and of `items` are raised.
    """
    with ThreadPoolExecutor(threads) as pool:
        futures = (pool.submit(function, item) for item in items)
        submitted = deque(islice(futures, pending))
        try:
            while submitted:
                yield submitted.popleft().result()
                submitted.extend(islice(futures, 1))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
