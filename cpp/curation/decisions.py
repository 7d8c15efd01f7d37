"""Decisions of curation: the images to drop, with their reasons, and a random order of images. Knows no files.

An image has the first reason that applies. Duplicates are dropped before outliers, and only the remaining images are
balanced.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

By = Literal["confidence", "random", "diversity"]
KEEP = pa.schema([("key", pa.string()), ("row", pa.int64()), ("image_shard", pa.string())])
DROP = pa.schema([*KEEP, ("reason", pa.string())])
COLUMNS = {"duplicates": ["kept"], "outliers": ["outlier"]}  # the columns that removals depend on, by table
MANTISSA = 53  # bits of an integer that float64 holds exactly


class DropReason(StrEnum):
    """The reasons to drop an image, in the order in which they apply."""

    DECISION = "excluded by a decision"
    DUPLICATE = "duplicate of an image that is kept"
    OUTLIER = "outlier"
    BALANCE = "beyond the share of its cluster"


def removals(n: int, columns: Mapping[str, pa.Table | pa.RecordBatch], threshold: float | None) -> NDArray[np.object_]:
    """The reason to drop each of `n` images before balancing, `[n]`; "" for an image that remains.

    `columns` has the tables of `COLUMNS` that exist, and ASSIGNMENTS; an outlier scores above `threshold`.
    """
    reasons = np.full(n, "", object)
    if threshold is not None and "outliers" in columns:
        reasons[np.asarray(columns["outliers"]["outlier"]) > np.float32(threshold)] = DropReason.OUTLIER.value
    if "duplicates" in columns:
        reasons[~np.asarray(columns["duplicates"]["kept"])] = DropReason.DUPLICATE.value
    if "assignments" in columns and "excluded" in columns["assignments"].schema.names:
        reasons[np.asarray(columns["assignments"]["excluded"].is_valid())] = DropReason.DECISION.value
    return reasons


def random_ranks(seed: int, images: pa.Table | pa.RecordBatch) -> NDArray[np.float64]:
    """A pseudo-random integer for every image, `[n]`, that depends only on its shard, its key and the seed."""

    def rank(shard: str | None, key: str) -> int:
        name = f"{seed}\0{shard or ''}\0{key}".encode()
        return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest()) >> (64 - MANTISSA)

    names = zip(images["image_shard"].to_pylist(), images["key"].to_pylist(), strict=True)
    return np.array([rank(*name) for name in names], np.float64)


def keep_and_drop(images: pa.Table, reasons: NDArray[np.object_]) -> tuple[pa.Table, pa.Table]:
    """The KEEP and DROP tables of a shard, in its order; `row` is the row number in ASSIGNMENTS."""
    columns = {"key": images["key"], "row": np.arange(len(images)), "image_shard": images["image_shard"]}
    table = pa.table({**columns, "reason": pa.array(reasons, pa.string())}, DROP)
    return table.filter(reasons == "").drop_columns("reason"), table.filter(reasons != "")
