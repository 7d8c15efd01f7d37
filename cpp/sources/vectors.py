"""Existing vectors: folders in clip-retrieval's layout, and words with their text vectors.

Paths may be local or any URL of fsspec (`s3://`, `gs://`, `https://`). Input is untrusted, so arrays are read without
pickle. Knows no images and no models.
"""

from __future__ import annotations

import io
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cpp.files import filesystem
from cpp.files.tables import EMBEDDING, REJECTED, matrix_column
from cpp.sources.formats import TARS, tar_stem
from cpp.sources.paths import identity
from cpp.sources.samples import column_titles, distinct_keys
from cpp.store.results import File, fingerprint

FURTHER = tuple(f"vectors_{i}" for i in range(2, 10))  # kinds of files: vectors of further encoders of the same images
SMALLEST = 1e-15  # length of a vector; the squares of smaller ones lose digits in float32

_NUMBER = re.compile(r"(\d+)$")
_NEEDED = "a matrix of floats [rows, dimension]: save one with numpy.save(path, X.astype('float32'))"


def vector_shards(
    folder: str, images: str | None = None, further: Sequence[str] = ()
) -> dict[str, Iterator[tuple[str, File]]]:
    """Shards of a clip-retrieval folder: `vectors` (img_emb/*.npy), `metadata` (metadata/*.parquet) and `images`.

    Folders in `further` have vectors of other encoders (img_emb/*.npy), of the kinds `FURTHER`. Files pair by number:
    tar N of the folder `images` holds the images of file N. The values yield the name of each shard and its file, in
    order. ValueError if a file has no partner.
    """
    parts = {
        "vectors": _numbered(f"{folder}/img_emb", (".npy",)),
        "metadata": _numbered(f"{folder}/metadata", (".parquet",)),
    }
    parts |= {kind: _numbered(f"{other}/img_emb", (".npy",)) for kind, other in zip(FURTHER, further, strict=False)}
    if images is not None:
        parts["images"] = _numbered(images, TARS)
    first = parts["vectors"]
    for name, files in parts.items():
        if len(alone := np.setxor1d(first.numbers, files.numbers, assume_unique=True)):
            owner, other = (first, name) if alone[0] in first.numbers else (files, "vectors")
            path = owner.path(int(np.searchsorted(owner.numbers, alone[0])))
            raise ValueError(
                f"{path} has no partner of number {alone[0]} among the {other}: add the partner, or remove this file"
            )
    return {name: files.shards() for name, files in parts.items()}


def source_file(path: str, *names: str) -> File:
    """A file, or a folder with the `names` of its files, with a fingerprint of their paths, sizes and versions."""
    return File(path, fingerprint(*(_identity(*_info(f"{path}/{name}" if name else path)) for name in names)))


def vector_dim(paths: Iterable[str]) -> int:
    """The dimension in the first readable header of an .npy file. ValueError with the first cause if there is none."""
    causes = list[str]()
    for path in paths:
        try:
            return read_header(path)[1]
        except (ValueError, OSError) as error:
            causes.append(str(error))
    raise ValueError(f"none of the {len(causes):,} files of vectors can be read; the first: {causes[0]}")


def read_header(path: str) -> tuple[int, int, np.dtype[Any]]:
    """Offset of the data in bytes, number of columns and dtype of an .npy file with vectors. ValueError for others."""
    with filesystem.open_file(path) as file:
        try:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
        except (ValueError, EOFError) as error:
            raise ValueError(f"{path} is not a readable .npy file ({error}), expected {_NEEDED}") from error
        _check(path, shape, dtype)
        return int(file.tell()), int(shape[1]), dtype


def read_vectors(path: str) -> NDArray[np.floating]:
    """A float matrix `[n, d]` from an .npy file. ValueError for other contents."""
    with filesystem.open_file(path) as file:
        try:
            X = np.load(file, allow_pickle=False)
        except (ValueError, EOFError, OSError, BadZipFile) as error:
            raise ValueError(f"{path} is not a readable .npy file ({error}), expected {_NEEDED}") from error
        if not isinstance(X, np.ndarray):
            raise ValueError(f"{path} is an .npz archive of the arrays {', '.join(X.files)}, expected {_NEEDED}")
    _check(path, X.shape, X.dtype)
    return np.asarray(X)


def _check(path: str, shape: Sequence[int], dtype: np.dtype[Any]) -> None:
    if len(shape) != 2 or dtype.kind != "f" or not shape[1]:
        raise ValueError(f"{path} holds {dtype} of shape {tuple(shape)}, expected {_NEEDED}")


def import_vectors(
    vectors: str,
    metadata: str,
    images: str | None,
    key: str | None,
    dim: int,
    further: Mapping[str, tuple[str, int]] | None = None,
) -> tuple[pa.Table, pa.Table, int]:
    """FEATURES, REJECTED (schemas: `cpp.files.tables`) and the number of rows of a file of vectors and its metadata.

    `further` maps columns to the file of another encoder's vectors and their dimension. Rows are scaled to unit length;
    rows that are zero or not finite in any file are rejected. All metadata columns are kept, with the titles of
    `column_titles`. `key` is the column of image keys; None numbers the rows, and rows without a key are numbered too.
    ValueError if the files do not fit together.
    """
    table, units = read_metadata(metadata), dict[str, NDArray[np.float32]]()
    reason = np.full(len(table), "", "U32")
    for column, (path, expected) in {EMBEDDING: (vectors, dim), **(further or {})}.items():
        X = _in_range(read_vectors(path))
        if len(X) != len(table):
            raise ValueError(f"{path} has {len(X)} rows, {metadata} {len(table)}; they must be equal")
        if X.shape[1] != expected:
            raise ValueError(f"{path} has dimension {X.shape[1]}, the first file {expected}; they must be equal")
        norm = np.linalg.norm(X, axis=1)
        reason[(norm == 0) & (reason == "")] = "vector is zero"
        reason[~np.isfinite(norm) & (reason == "")] = "vector is not finite"
        with np.errstate(divide="ignore", invalid="ignore"):  # such rows are rejected
            units[column] = X / norm[:, None]
    keys = pa.array([f"{PurePosixPath(vectors).stem}/{i}" for i in range(len(table))], pa.string())
    if key is not None:
        keys = pc.coalesce(_keys(metadata, table, key), keys)  # a null is numbered
    keys = pa.array(distinct_keys(keys.to_pylist()), pa.string())
    keep = reason == ""
    columns = {"key": keys.filter(keep), **{column: matrix_column(X[keep]) for column, X in units.items()}}
    columns["image_shard"] = pa.repeat(pa.scalar(images, pa.string()), int(keep.sum()))
    titles = column_titles([name for name in table.column_names if not name == key == "key"])
    columns |= {title: table[name].filter(keep) for name, title in titles.items()}
    rejected = {"key": keys.filter(~keep), "row": np.flatnonzero(~keep), "reason": reason[~keep]}
    return pa.table(columns), pa.table(rejected, schema=REJECTED), len(table)


def _in_range(X: NDArray[np.floating]) -> NDArray[np.float32]:
    """Rows `[n, d]` as float32; those so large or small that their squares leave its range are scaled."""
    with np.errstate(over="ignore"):
        single = X.astype(np.float32)
        length = np.linalg.norm(single, axis=1)
    extreme = ~((length > SMALLEST) & (length < 1 / SMALLEST))
    rows = X[extreme].astype(np.float64)
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0)
    single[extreme] = np.divide(rows, largest, out=rows, where=(largest > 0) & np.isfinite(largest))
    return single


def _keys(metadata: str, table: pa.Table, key: str) -> pa.Array:
    """The column of keys as text. ValueError if it does not exist or has no text for each row."""
    if key not in table.column_names:
        raise ValueError(
            f"{metadata} has no column {key!r} (import.key); it has {', '.join(table.column_names)}: "
            "name one of them, or null to number the rows"
        )
    column = table[key].combine_chunks()
    cause = f"{metadata}: the column {key!r} (import.key) has {column.type}, not one name for each image"
    if pa.types.is_nested(column.type):
        raise ValueError(cause)
    try:
        return column.cast(pa.string())
    except pa.ArrowException as error:
        raise ValueError(f"{cause} ({error})") from error


def read_metadata(path: str) -> pa.Table:
    """All columns of a Parquet file. ValueError if it cannot be read, or if two columns have one name."""
    with filesystem.open_file(path) as file:
        try:
            return pq.read_table(file)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{path} is not a readable Parquet file: {error}") from error


def read_words(folder: str) -> tuple[list[str], NDArray[np.floating]]:
    """Words from `names.txt`, one per line, and their vectors `[n, d]` from `embeddings.npy`."""
    with filesystem.open_file(f"{folder}/names.txt") as file:
        names = [line.strip() for line in file.read().decode().splitlines()]
    X = read_vectors(f"{folder}/embeddings.npy")
    if len(names) != len(X):
        raise ValueError(
            f"{folder}: names.txt has {len(names)} lines, embeddings.npy {len(X)} rows; they must be equal"
        )
    if invalid := [
        i + 1 for i, (name, row) in enumerate(zip(names, X, strict=True)) if not name or not np.isfinite(row).all()
    ]:
        raise ValueError(
            f"{folder}: line {invalid[0]} has no word or a vector that is not finite ({len(invalid)} such lines)"
        )
    return names, X


def read_lines(path: str) -> list[str]:
    """The non-empty lines of a UTF-8 text file. ValueError if it cannot be read."""
    try:
        with filesystem.open_file(path) as file:
            return [line.strip() for line in io.TextIOWrapper(file, "utf-8-sig") if line.strip()]
    except FileNotFoundError:
        raise ValueError(f"the file {path} does not exist") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}): save it as UTF-8") from error


@dataclass(frozen=True)
class _Numbered:
    """Files of a folder, ordered by the number at the end of their names, in arrays since there may be very many."""

    folder: str
    numbers: NDArray[np.int64]
    names: NDArray[np.bytes_]
    fingerprints: NDArray[np.uint64]

    def path(self, index: int) -> str:
        return f"{self.folder}/{bytes(self.names[index]).decode()}"

    def shards(self) -> Iterator[tuple[str, File]]:
        """Name and file of each shard."""
        for index, number in enumerate(self.numbers):
            yield f"{number:05d}", File(self.path(index), f"{self.fingerprints[index]:016x}")


def _numbered(folder: str, endings: tuple[str, ...]) -> _Numbered:
    fs, root = filesystem.connect(folder)
    address = str(fs.unstrip_protocol(root)) if filesystem.is_remote(folder) else root
    numbers, names, fingerprints = array("q"), list[bytes](), array("Q")
    try:
        for entry in filesystem.list_folder(address):
            name = str(entry["name"]).rpartition("/")[2]
            if name.startswith(".") or not (name.lower().endswith(endings) and filesystem.is_file(entry)):
                continue
            match = _NUMBER.search(tar_stem(name))
            if match is None:
                raise ValueError(f"{address}/{name}: the name has no number at its end to pair it by")
            numbers.append(int(match[1]))
            names.append(name.encode())
            fingerprints.append(int(fingerprint(_identity(f"{address}/{name}", entry)), 16))
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"the folder {folder} does not exist") from None
    if not names:
        raise ValueError(f"the folder {folder} has no {endings[0]} files")
    order = np.argsort(np.array(numbers), kind="stable")
    files = _Numbered(address, *(np.array(column)[order] for column in (numbers, names, fingerprints)))
    if len(repeated := np.flatnonzero(files.numbers[1:] == files.numbers[:-1])):
        one, other = files.path(int(repeated[0])), files.path(int(repeated[0]) + 1)
        raise ValueError(f"{one} and {other} have the same number {files.numbers[repeated[0]]}: rename one")
    return files


def _info(path: str) -> tuple[str, dict[str, Any]]:
    fs, root = filesystem.connect(path)
    try:
        return root, fs.info(root)
    except FileNotFoundError:
        raise ValueError(f"the file {path} does not exist") from None


def _identity(path: str, info: Mapping[str, Any]) -> list[str]:
    return [str(part) for part in identity(path, info)]
