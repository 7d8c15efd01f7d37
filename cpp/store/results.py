"""What a store holds: files, products and results, and the fingerprints that identify them. Knows no storage."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

WHOLE = "all"  # the shard of a step that runs once

_ENCODER = json.JSONEncoder(sort_keys=True)


def shard_of(path: str) -> str:
    """The shard of a result, by its path in the cache."""
    return os.path.basename(path).rpartition("-")[0]


@dataclass(frozen=True)
class File:
    """The path of a file, or the description of a shard of images, and the fingerprint of all that it depends on."""

    path: Any
    fingerprint: str


@dataclass(frozen=True)
class Product:
    """A kind of file that a step writes: one for every shard, or one for the shard `all`.

    Without a suffix it is a folder of files, which is possible for the shard `all` only. An empty folder gets no stable
    name.
    """

    name: str
    suffix: str = ".parquet"
    rows: Literal["out", "rejected"] | None = None  # it has one row for each output image, or for each rejected row


def stable_name(product: Product, file: str) -> str:
    """The stable name of a file of a result, `RESULT` or for a product that is a folder `RESULT/FILE`."""
    if not product.suffix:
        return f"{product.name}/{file.partition('/')[2]}"
    shard = shard_of(file)
    return f"{product.name}{product.suffix}" if shard == WHOLE else f"{product.name}/{shard}{product.suffix}"


class StoredResult(NamedTuple):
    """A finished file or folder of a product: its size in bytes, and whether a stable name shows it."""

    size: int
    shown: bool


def fingerprint(*parts: object) -> str:
    """16 hexadecimal digits (64 bits) of the SHA-256 of the parts, which are JSON values."""
    return hashlib.sha256(_ENCODER.encode(parts).encode()).hexdigest()[:16]
