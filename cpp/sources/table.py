"""Images in the rows of a table: their bytes in Parquet, or their addresses in Parquet, CSV or TSV.

Leaves the reading of addresses to `cpp.sources.folder`.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from cpp.files import filesystem
from cpp.sources.folder import Address, read_addresses
from cpp.sources.samples import Reason, Sample, to_column_value

BATCH = 64  # rows decoded at a time
BUFFER = 1 << 20  # bytes per read; the default reads whole row groups, which may be the whole file

Row = tuple[pa.RecordBatch, int, int]  # a batch, the index in the batch, the index in the table


@dataclass(frozen=True)
class TableShard:
    """Rows [start, stop) of a table. `column` holds image bytes, or their `addresses`; the column `key` their keys."""

    table: str
    fingerprint: str
    start: int
    stop: int
    column: str
    addresses: bool
    key: str | None = None

    @property
    def path(self) -> str:
        """The shard as text for `from_path`: `train.parquet#bytes=image&key=id&rows=0-10000`."""
        query = {"addresses" if self.addresses else "bytes": self.column}
        query |= {"key": self.key} if self.key is not None else {}
        return f"{self.table}#{urlencode(query)}&rows={self.start}-{self.stop}"

    @classmethod
    def from_path(cls, path: str) -> TableShard | None:
        """The shard of a `path`, without its fingerprint; None if the path is not that of a table's shard."""
        table, _, query = path.rpartition("#")
        fields = dict(parse_qsl(query, keep_blank_values=True))
        rows = re.fullmatch(r"(\d+)-(\d+)", fields.get("rows", ""))
        column = fields.get("bytes", fields.get("addresses"))
        if rows is None or column is None:
            return None
        return cls(table, "", int(rows[1]), int(rows[2]), column, "addresses" in fields, fields.get("key"))

    def read(self, max_bytes: int) -> Iterator[Sample]:
        """Samples in the order of the rows, numbered if there is no `key`. All but binary columns become metadata.

        Addresses may be relative to the table's folder. ValueError if the table cannot be read.
        """
        return self._samples(_rows(self.table, range(self.start, self.stop)), max_bytes)

    def pick(self, keys: Collection[str], max_bytes: int) -> Iterator[Sample]:
        """The samples with one of the keys, without metadata.

        From Parquet it decodes the column of keys, and only those row groups of images that contain one of the keys.
        """
        rows = [row for row, key in self._keys() if key in keys]
        columns = [name for name in dict.fromkeys((self.key, self.column)) if name is not None]
        return self._samples(_rows(self.table, rows, columns), max_bytes)

    def _keys(self) -> Iterator[tuple[int, str]]:
        if self.key is None:
            return ((row, self._number(row)) for row in range(self.start, self.stop))
        rows = _rows(self.table, range(self.start, self.stop), [self.key])
        return ((row, self._key(batch, i, row)) for batch, i, row in rows)

    def _key(self, batch: pa.RecordBatch, i: int, row: int) -> str:
        key = None if self.key is None else batch.column(self.key)[i].as_py()
        return self._number(row) if key is None else str(key)

    def _number(self, row: int) -> str:
        return f"{PurePosixPath(self.table).stem}/{row}"

    def _samples(self, rows: Iterator[Row], max_bytes: int) -> Iterator[Sample]:
        if self.addresses:
            return read_addresses((self._address(*row) for row in rows), max_bytes)
        return (self._sample(*row, max_bytes) for row in rows)

    def _key_and_metadata(self, batch: pa.RecordBatch, i: int, row: int) -> tuple[str, dict[str, Any]]:
        kept = [f.name for f in batch.schema if not _holds_bytes(f.type) and f.name != self.key]
        metadata = {name: to_column_value(batch.column(name)[i].as_py()) for name in kept}
        return self._key(batch, i, row), metadata

    def _sample(self, batch: pa.RecordBatch, i: int, row: int, max_bytes: int) -> Sample:
        key, metadata = self._key_and_metadata(batch, i, row)
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
        key, metadata = self._key_and_metadata(batch, i, row)
        address = batch.column(self.column)[i].as_py()
        if not address:
            return Address(key, None, metadata, Reason.NO_IMAGE)
        folder = self.table.rpartition("/")[0]
        if "://" not in address and not address.startswith("/") and folder:
            address = f"{folder}/{address}"
        return Address(key, address, metadata)


def length(path: str) -> int:
    """Number of rows of a table."""
    if _is_text(path):
        return sum(len(batch) for batch, _ in _text_batches(path))
    with _open_table(path) as file:
        return int(pq.read_metadata(file).num_rows)


def schema(path: str) -> pa.Schema:
    """The schema of a table; all columns of CSV and TSV are strings."""
    if _is_text(path):
        return next(_text_batches(path))[0].schema
    with _open_table(path) as file:
        return pq.read_schema(file)


def image_column(path: str, column: str | None, addresses: bool) -> str:
    """The column of images: `column`, or else the only one that holds bytes. ValueError if there is no such column."""
    fields = schema(path)
    suitable = [f.name for f in fields if (_is_string if addresses else _holds_bytes)(f.type)]
    if column is not None and column in suitable:
        return column
    if column is None and len(suitable) == 1 and not addresses:
        return str(suitable[0])
    kind = "addresses (text)" if addresses else "bytes (binary, or struct{bytes, path})"
    raise ValueError(
        f"{path}: images.column is {column!r}, it must name a column of {kind}; "
        f"there are {', '.join(suitable) or 'none'} among {', '.join(fields.names)}"
    )


def _rows(path: str, indices: Sequence[int], columns: list[str] | None = None) -> Iterator[Row]:
    """The rows at these ascending indices; `columns` selects columns of Parquet, not of CSV and TSV."""
    if not indices:
        return
    for batch, first in _text_batches(path) if _is_text(path) else _parquet_batches(path, indices, columns):
        for row in indices[bisect_left(indices, first) : bisect_left(indices, first + len(batch))]:
            yield batch, row - first, row
        if indices[-1] < first + len(batch):
            return


def _text_batches(path: str) -> Iterator[tuple[pa.RecordBatch, int]]:
    parse = csv.ParseOptions(delimiter="\t" if path.endswith(".tsv") else ",", newlines_in_values=True)
    with _open_table(path) as file:
        names = csv.open_csv(file, parse_options=parse).schema.names
    # types inferred from the first rows would differ between shards and fail on later rows
    convert = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
    row = 0
    with _open_table(path) as file:
        for batch in csv.open_csv(file, parse_options=parse, convert_options=convert):
            yield batch, row
            row += len(batch)


def _parquet_batches(
    path: str, indices: Sequence[int], columns: list[str] | None
) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Batches of the row groups that contain one of the rows, each with the index of its first row."""
    with _open_table(path) as file:
        parquet = pq.ParquetFile(file, buffer_size=BUFFER, pre_buffer=False)
        stop = 0
        for group in range(parquet.num_row_groups):
            row, stop = stop, stop + parquet.metadata.row_group(group).num_rows
            if bisect_left(indices, row) == bisect_left(indices, stop):
                continue
            for batch in parquet.iter_batches(BATCH, row_groups=[group], columns=columns):
                yield batch, row
                row += len(batch)


@contextmanager
def _open_table(path: str) -> Iterator[Any]:
    with filesystem.open_file(path) as file:
        try:
            yield file
        except (pa.ArrowException, OSError) as error:
            raise ValueError(
                f"{path} cannot be read as a table ({error}): write or copy it again, or remove it"
            ) from error


def _is_text(path: str) -> bool:
    return path.endswith((".csv", ".tsv"))


def _is_string(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


def _holds_bytes(type_: pa.DataType) -> bool:
    if pa.types.is_struct(type_):
        return "bytes" in type_.names and _holds_bytes(type_.field("bytes").type)
    return bool(pa.types.is_binary(type_) or pa.types.is_large_binary(type_))
