"""What curation measures of a picture: a hash of its bytes, its size, quality and signature. Knows no files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from cpp.encoding import quality, signature

MEASURES = ("width", "height", *quality.Quality._fields)
RECORD = np.dtype(
    [
        ("measures", np.float32, len(MEASURES)),  # NaN if they cannot be measured
        ("signature", np.uint64, signature.SIZE),  # zeros if it is unknown
    ]
)
PICTURES = pa.schema(
    {
        "key": "string",
        "bytes_hash": "uint64",  # 0 if the picture is not in its source
        **dict.fromkeys(MEASURES, "float32"),  # null if it cannot be decoded
        "signature": pa.list_(pa.uint64(), signature.SIZE),  # zeros if it cannot be decoded
    }
)


def bytes_hash(data: bytes | None) -> int:
    """A hash of the bytes of a picture, 64 bits and not 0; 0 without bytes."""
    return 0 if data is None else int.from_bytes(hashlib.blake2b(data, digest_size=8).digest()) or 1


def measure(image: Image.Image) -> NDArray[np.uint8]:
    """The bytes of a `RECORD` of a picture, uint8 `[RECORD.itemsize]`. Without a measure the record is `unknown`."""
    record = unknown(1)
    try:
        record["measures"], record["signature"] = (*image.size, *quality.quality(image)), signature.signature(image)
    except ValueError:  # Pillow cannot convert every mode
        return unknown(1).view(np.uint8)
    return record.view(np.uint8)


def unknown(n: int) -> NDArray[Any]:
    """The records of `n` pictures that cannot be read."""
    records = np.zeros(n, RECORD)
    records["measures"] = np.nan
    return records


def table(keys: Sequence[str], hashes: NDArray[np.uint64], records: NDArray[Any]) -> pa.Table:
    """PICTURES of pictures with these hashes and `RECORD`s, `[n]` each."""
    columns = {"key": pa.array(keys, pa.string()), "bytes_hash": hashes}
    columns |= {name: pa.array(records["measures"][:, i], from_pandas=True) for i, name in enumerate(MEASURES)}
    words = pa.array(records["signature"].reshape(-1))
    columns["signature"] = pa.FixedSizeListArray.from_arrays(words, signature.SIZE)
    return pa.table(columns, PICTURES)
