"""What leaves a data set, for which reason, and in which order the rest is chosen from. Knows no files.

The reasons come in this order, and an image has the first that holds: a duplicate leaves before outliers are looked at,
and the balance is made of what is left.
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
TIES = 53  # bits of a number that float64 holds exactly


class Reason(StrEnum):
    """Every reason for which an image is dropped, the first that holds first."""

    DUPLICATE = "duplicate of an image that is kept"
    OUTLIER = "outlier"
    BALANCE = "beyond the share of its cluster"


def removals(
    duplicate: NDArray[np.bool_] | None, outlier: NDArray[np.floating] | None, threshold: float | None
) -> dict[Reason, NDArray[np.bool_]]:
    """Which images leave before the balance, `[n]` by reason; None: unknown. Each has one reason at most."""
    found: dict[Reason, NDArray[np.bool_]] = {}
    if duplicate is not None:
        found[Reason.DUPLICATE] = duplicate
    if outlier is not None and threshold is not None:
        odd = outlier > np.float32(threshold)
        found[Reason.OUTLIER] = odd & ~duplicate if duplicate is not None else odd
    return found


def random_ranks(seed: int, shards: Iterable[str | None], keys: Iterable[str]) -> NDArray[np.float64]:
    """A whole number for every image, `[n]`, that depends on nothing but its name and the seed: an order by lot."""

    def lot(shard: str | None, key: str) -> int:
        named = f"{seed}\0{shard or ''}\0{key}".encode()
        return int.from_bytes(hashlib.blake2b(named, digest_size=8).digest()) >> (64 - TIES)

    return np.array([lot(*image) for image in zip(shards, keys, strict=True)], np.float64)


def keep_and_drop(
    keys: pa.Array, shards: pa.Array, reasons: dict[Reason, NDArray[np.bool_]]
) -> tuple[pa.Table, pa.Table]:
    """KEEP and DROP of a shard, in its order; `row` is the place in ASSIGNMENTS."""
    of = np.full(len(keys), "", object)
    for reason, rows in reasons.items():
        of[rows] = reason.value
    everything = pa.table({"key": keys, "row": np.arange(len(keys)), "image_shard": shards}, schema=KEEP)
    dropped = np.flatnonzero(of != "")
    drop = everything.take(dropped).append_column("reason", pa.array(of[dropped].tolist(), pa.string()))
    return everything.take(np.flatnonzero(of == "")), drop.cast(DROP)
