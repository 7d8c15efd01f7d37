"""What a store keeps: files and products, and the fingerprints that they are keyed by."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

WHOLE = "all"  # the shard of a step that runs once


def shard_of(path: str) -> str:
    """The shard of a result, by its path in the cache."""
    return os.path.basename(path).rpartition("-")[0]


_ENCODER = json.JSONEncoder(sort_keys=True)


@dataclass(frozen=True)
class File:
    """Where a file is (or, of a shard of images, what it is), and the fingerprint of everything it was made from."""

    path: Any
    fingerprint: str


@dataclass(frozen=True)
class Product:
    """A kind of file that a step makes: one for every shard, or one for the shard `all`.

    Without a suffix it is a folder of files, which only the shard `all` can have. An empty one is not shown.
    """

    name: str
    suffix: str = ".parquet"
    rows: Literal["out", "rejected"] | None = None  # it has a row for each image that came out, or was rejected


class Result(NamedTuple):
    """A finished file, or folder, of a product: its size in bytes, and whether stable names show it."""

    size: int
    shown: bool


def fingerprint(*parts: object) -> str:
    """16 hexadecimal digits that depend on every part (anything that JSON can say)."""
    return hashlib.sha256(_ENCODER.encode(parts).encode()).hexdigest()[:16]
