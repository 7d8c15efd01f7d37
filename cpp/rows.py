"""Images in the rows of a table: their bytes in Parquet, or their addresses in Parquet, CSV or TSV.

Knows nothing of where an address leads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from cpp.folders import Address, fetch
from cpp.samples import Reason, Sample, plain

BATCH = 64  # rows that are unpacked at a time


@dataclass(frozen=True)
class TableShard:
    """Rows `start` to `stop` of a table. `column` holds bytes of images, or their `addresses`; `key` their names."""

    path: str
    fingerprint: str
    start: int
    stop: int
    column: str
    addresses: bool
    key: str | None = None

    def read(self, max_bytes: int) -> Iterator[Sample]:
        """Samples in the order of the rows; without `key` they are numbered. All columns but binary ones are kept.

        A relative address is relative to the table's folder. ValueError where the table cannot be read.
        """
        rows = (
            (batch, i, first + i)
            for batch, first in _batches(self.path, self.start, self.stop)
            for i in range(len(batch))
        )
        if self.addresses:
            return fetch((self._address(*row) for row in rows), max_bytes)
        return (self._sample(*row, max_bytes) for row in rows)

    def _about(self, batch: pa.RecordBatch, i: int, row: int) -> tuple[str, dict[str, Any]]:
        kept = [f.name for f in batch.schema if not _holds_bytes(f.type) and f.name != self.key]
        metadata = {name: plain(batch.column(name)[i].as_py()) for name in kept}
        key = None if self.key is None else batch.column(self.key)[i].as_py()
        return f"{PurePosixPath(self.path).stem}/{row}" if key is None else str(key), metadata

    def _sample(self, batch: pa.RecordBatch, i: int, row: int, max_bytes: int) -> Sample:
        key, metadata = self._about(batch, i, row)
        value = batch.column(self.column)[i]
        if pa.types.is_struct(value.type) and value.is_valid:
            if "path" in value.type.names and value["path"].is_valid:
                metadata.setdefault("path", str(value["path"].as_py()))
            value = value["bytes"]
        if not value.is_valid:
            return Sample(key, None, metadata, Reason.NO_IMAGE)
        if len(value.as_buffer()) > max_bytes:
            return Sample(key, None, metadata, Reason.TOO_MANY_BYTES)
        return Sample(key, value.as_py(), metadata)

    def _address(self, batch: pa.RecordBatch, i: int, row: int) -> Address:
        key, metadata = self._about(batch, i, row)
        address = batch.column(self.column)[i].as_py()
        if not address:
            return Address(key, None, metadata, Reason.NO_IMAGE)
        folder = self.path.rpartition("/")[0]
        if "://" not in address and not address.startswith("/") and folder:
            address = f"{folder}/{address}"
        return Address(key, address, metadata)


def length(path: str) -> int:
    """Number of rows of a table."""
    if _is_text(path):
        return sum(len(batch) for batch, _ in _text_batches(path))
    with _opened(path) as file:
        return int(pq.read_metadata(file).num_rows)


def schema(path: str) -> pa.Schema:
    """Columns of a table; those of a text are strings."""
    if _is_text(path):
        return next(_text_batches(path))[0].schema
    with _opened(path) as file:
        return pq.read_schema(file)


def image_column(path: str, column: str | None, addresses: bool) -> str:
    """The column of images: the given one, or the only one that holds bytes. ValueError where that is not clear."""
    found = schema(path)
    suitable = [f.name for f in found if (_is_string if addresses else _holds_bytes)(f.type)]
    if column is not None and column in suitable:
        return column
    if column is None and len(suitable) == 1 and not addresses:
        return str(suitable[0])
    kind = "addresses (text)" if addresses else "bytes (binary, or struct{bytes, path})"
    raise ValueError(
        f"{path}: images.column is {column!r}, it must name a column of {kind}; "
        f"there are {', '.join(suitable) or 'none'} among {', '.join(found.names)}"
    )


def _batches(path: str, start: int, stop: int) -> Iterator[tuple[pa.RecordBatch, int]]:
    """The rows `start` to `stop` in batches, each with the number of its first row."""
    for batch, row in _text_batches(path) if _is_text(path) else _parquet_batches(path, start):
        low, high = max(start - row, 0), min(stop - row, len(batch))
        if low < high:
            yield batch.slice(low, high - low), row + low
        if row + len(batch) >= stop:
            return


def _text_batches(path: str) -> Iterator[tuple[pa.RecordBatch, int]]:
    parse = csv.ParseOptions(delimiter="\t" if path.endswith(".tsv") else ",", newlines_in_values=True)
    with _opened(path) as file:
        names = csv.open_csv(file, parse_options=parse).schema.names
    # kinds that are guessed from the first rows would differ between shards, and fail further down
    convert = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
    row = 0
    with _opened(path) as file:
        for batch in csv.open_csv(file, parse_options=parse, convert_options=convert):
            yield batch, row
            row += len(batch)


def _parquet_batches(path: str, start: int) -> Iterator[tuple[pa.RecordBatch, int]]:
    with _opened(path) as file:
        parquet = pq.ParquetFile(file)
        row = 0
        for group in range(parquet.num_row_groups):
            rows = parquet.metadata.row_group(group).num_rows
            if row + rows <= start:
                row += rows
                continue
            for batch in parquet.iter_batches(BATCH, row_groups=[group]):
                yield batch, row
                row += len(batch)


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    with fsspec.open(path, "rb") as file:
        try:
            yield file
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{path} cannot be read as a table: {error}") from error


def _is_text(path: str) -> bool:
    return path.endswith((".csv", ".tsv"))


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return "bytes" in kind.names and _holds_bytes(kind.field("bytes").type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
