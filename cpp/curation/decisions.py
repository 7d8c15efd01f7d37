"""Decisions of curation: the images to drop, with their reasons, and a random order of images. Knows no files.

An image has the first reason that applies. Duplicates are dropped before outliers, and only the remaining images are
balanced.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from enum import StrEnum
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

By = Literal["confidence", "random", "diversity"]
KEEP = pa.schema([("key", pa.string()), ("row", pa.int64()), ("image_shard", pa.string())])
DROP = pa.schema([*KEEP, ("reason", pa.string())])
MANTISSA = 53  # bits of an integer that float64 holds exactly


class Reason(StrEnum):
    """The reasons to drop an image, in the order in which they apply."""

    DUPLICATE = "duplicate of an image that is kept"
    OUTLIER = "outlier"
    BALANCE = "beyond the share of its cluster"


def removals(
    duplicate: NDArray[np.bool_] | None, outlier: NDArray[np.floating] | None, threshold: float | None
) -> dict[Reason, NDArray[np.bool_]]:
    """The images to drop before balancing, bool `[n]` by reason; an image has at most one reason.

    `duplicate` and `outlier`, `[n]`, are None if unknown; an outlier scores above `threshold`.
    """
    reasons: dict[Reason, NDArray[np.bool_]] = {}
    if duplicate is not None:
        reasons[Reason.DUPLICATE] = duplicate
    if outlier is not None and threshold is not None:
        odd = outlier > np.float32(threshold)
        reasons[Reason.OUTLIER] = odd & ~duplicate if duplicate is not None else odd
    return reasons


def random_ranks(seed: int, shards: Iterable[str | None], keys: Iterable[str]) -> NDArray[np.float64]:
    """A pseudo-random integer for every image, `[n]`, that depends only on its shard, its key and the seed."""

    def rank(shard: str | None, key: str) -> int:
        name = f"{seed}\0{shard or ''}\0{key}".encode()
        return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest()) >> (64 - MANTISSA)

    return np.array([rank(*image) for image in zip(shards, keys, strict=True)], np.float64)


def keep_and_drop(
    keys: pa.Array, shards: pa.Array, reasons: dict[Reason, NDArray[np.bool_]]
) -> tuple[pa.Table, pa.Table]:
    """The KEEP and DROP tables of a shard, in its order; `row` is the row number in ASSIGNMENTS."""
    reason_n = np.full(len(keys), "", object)
    for reason, rows in reasons.items():
        reason_n[rows] = reason.value
    images = pa.table({"key": keys, "row": np.arange(len(keys)), "image_shard": shards}, schema=KEEP)
    dropped = np.flatnonzero(reason_n != "")
    drop = images.take(dropped).append_column("reason", pa.array(reason_n[dropped].tolist(), pa.string()))
    return images.take(np.flatnonzero(reason_n == "")), drop.cast(DROP)
