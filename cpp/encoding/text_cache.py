"""A cache of word vectors: a folder that gains one file for each chunk of newly encoded words.

A file holds words with their vectors and is put in place by a rename, so the folder can be read at any time. Does not
know the encoder.
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

CHUNK = 4096  # words that are encoded and then written to one file

Encode = Callable[[Sequence[str]], NDArray[np.float16]]


def cached_vectors(words: Sequence[str], encode: Encode, folder: Path | None) -> NDArray[np.float16]:
    """Vectors of distinct words, float16 `[n, d]`: read from the folder if cached, else encoded and added to it.

    All files of the folder must come from one encoder with one set of templates. Without a folder nothing is cached.
    """
    vectors = _read(folder, set(words)) if folder else {}
    new = [word for word in words if word not in vectors]
    for start in range(0, len(new), CHUNK):
        chunk = new[start : start + CHUNK]
        X = encode(chunk)
        vectors |= zip(chunk, X, strict=True)
        if folder:
            _write(folder, chunk, X)
    return np.stack([vectors[word] for word in words])


def _read(folder: Path, words: set[str]) -> dict[str, NDArray[np.float16]]:
    vectors: dict[str, NDArray[np.float16]] = {}
    for path in sorted(folder.glob("*.parquet")):
        try:
            table = tables.read(str(path))
        except (OSError, ValueError):  # the words of a damaged file are encoded again
            path.unlink()
            continue
        X = tables.matrix(table["embedding"])
        vectors |= {word: row for word, row in zip(table["word"].to_pylist(), X, strict=True) if word in words}
    return vectors


def _write(folder: Path, words: Sequence[str], X: NDArray[np.float16]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{fingerprint(list(words))}.parquet"
    scratch = path.with_suffix(f".{os.getpid()}.new")
    tables.write(pa.table({"word": list(words), "embedding": tables.matrix_column(X)}), scratch)
    os.replace(scratch, path)
