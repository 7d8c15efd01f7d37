"""Text vectors that were made before: a folder that grows by a file whenever words are new.

A file holds words with their vectors and appears whole, so the folder can be read at any time. Knows no encoder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cpp.files import tables
from cpp.store.results import fingerprint

CHUNK = 4096  # words that are encoded before they are kept

Encode = Callable[[Sequence[str]], NDArray[np.float16]]


def cached_vectors(words: Sequence[str], encode: Encode, folder: Path | None) -> NDArray[np.float16]:
    """Vectors `[n, d]`, float16, of distinct words: those in the folder from there, the others by `encode`, and kept.

    All files of the folder must come from one encoder with one set of templates. None keeps nothing.
    """
    known = _read(folder, set(words)) if folder else {}
    new = [word for word in words if word not in known]
    for start in range(0, len(new), CHUNK):
        some = new[start : start + CHUNK]
        X = encode(some)
        known |= zip(some, X, strict=True)
        if folder:
            _keep(folder, some, X)
    return np.stack([known[word] for word in words])


def _read(folder: Path, wanted: set[str]) -> dict[str, NDArray[np.float16]]:
    found: dict[str, NDArray[np.float16]] = {}
    for path in sorted(folder.glob("*.parquet")):
        try:
            table = tables.read(str(path))
        except (OSError, ValueError):  # a damaged file is as good as none: its words are encoded again
            path.unlink()
            continue
        X = tables.matrix(table["embedding"])
        found |= {word: row for word, row in zip(table["word"].to_pylist(), X, strict=True) if word in wanted}
    return found


def _keep(folder: Path, words: Sequence[str], X: NDArray[np.float16]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{fingerprint(list(words))}.parquet"
    scratch = path.with_suffix(f".{os.getpid()}.new")
    tables.write(pa.table({"word": list(words), "embedding": tables.matrix_column(X)}), scratch)
    os.replace(scratch, path)
