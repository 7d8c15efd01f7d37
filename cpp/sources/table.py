"""Images in the rows of a table: their bytes in Parquet, or their addresses in Parquet, CSV or TSV.

Knows nothing of where an address leads.
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

BATCH = 64  # rows that are unpacked at a time
BUFFER = 1 << 20  # bytes that are read at a time; without it a whole row group, which may be the whole file

Row = tuple[pa.RecordBatch, int, int]  # what it is in, its place there, its number in the table


@dataclass(frozen=True)
class TableShard:
    """Rows `start` to `stop` of a table. `column` holds bytes of images, or their `addresses`; `key` their names."""

    table: str
    fingerprint: str
    start: int
    stop: int
    column: str
    addresses: bool
    key: str | None = None

    @property
    def path(self) -> str:
        """Where the images are, as `at` reads it: `train.parquet#bytes=image&key=id&rows=0-10000`."""
        given = {"addresses" if self.addresses else "bytes": self.column}
        given |= {"key": self.key} if self.key is not None else {}
        return f"{self.table}#{urlencode(given)}&rows={self.start}-{self.stop}"

    @classmethod
    def from_path(cls, path: str) -> TableShard | None:
        """The shard of a `path`, without its fingerprint; None where the path is not one of a table."""
        table, _, query = path.rpartition("#")
        given = dict(parse_qsl(query, keep_blank_values=True))
        rows = re.fullmatch(r"(\d+)-(\d+)", given.get("rows", ""))
        column = given.get("bytes", given.get("addresses"))
        if rows is None or column is None:
            return None
        return cls(table, "", int(rows[1]), int(rows[2]), column, "addresses" in given, given.get("key"))

    def read(self, max_bytes: int) -> Iterator[Sample]:
        """Samples in the order of the rows; without `key` they are numbered. All columns but binary ones are kept.

        A relative address is relative to the table's folder. ValueError where the table cannot be read.
        """
        return self._samples(_rows(self.table, range(self.start, self.stop)), max_bytes)

    def pick(self, keys: Collection[str], max_bytes: int) -> Iterator[Sample]:
        """The samples that have one of the keys, as `read` gives them but for their metadata.

        Of Parquet it unpacks the column of keys, and of the images only the row groups that hold one of them.
        """
        rows = [row for row, key in self._keys() if key in keys]
        columns = [name for name in dict.fromkeys((self.key, self.column)) if name is not None]
        return self._samples(_rows(self.table, rows, columns), max_bytes)

    def _keys(self) -> Iterator[tuple[int, str]]:
        if self.key is None:
            return ((row, self._number(row)) for row in range(self.start, self.stop))
        found = _rows(self.table, range(self.start, self.stop), [self.key])
        return ((row, self._key(batch, i, row)) for batch, i, row in found)

    def _key(self, batch: pa.RecordBatch, i: int, row: int) -> str:
        key = None if self.key is None else batch.column(self.key)[i].as_py()
        return self._number(row) if key is None else str(key)

    def _number(self, row: int) -> str:
        return f"{PurePosixPath(self.table).stem}/{row}"

    def _samples(self, rows: Iterator[Row], max_bytes: int) -> Iterator[Sample]:
        if self.addresses:
            return read_addresses((self._address(*row) for row in rows), max_bytes)
        return (self._sample(*row, max_bytes) for row in rows)

    def _about(self, batch: pa.RecordBatch, i: int, row: int) -> tuple[str, dict[str, Any]]:
        kept = [f.name for f in batch.schema if not _holds_bytes(f.type) and f.name != self.key]
        metadata = {name: to_column_value(batch.column(name)[i].as_py()) for name in kept}
        return self._key(batch, i, row), metadata

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
        folder = self.table.rpartition("/")[0]
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


def _rows(path: str, wanted: Sequence[int], columns: list[str] | None = None) -> Iterator[Row]:
    """The wanted rows, which ascend, with these columns of Parquet (all of a text); stops at the last of them."""
    if not wanted:
        return
    for batch, first in _text_batches(path) if _is_text(path) else _parquet_batches(path, wanted, columns):
        for row in wanted[bisect_left(wanted, first) : bisect_left(wanted, first + len(batch))]:
            yield batch, row - first, row
        if wanted[-1] < first + len(batch):
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


def _parquet_batches(
    path: str, wanted: Sequence[int], columns: list[str] | None
) -> Iterator[tuple[pa.RecordBatch, int]]:
    """The row groups that hold wanted rows in batches, each with the number of its first row."""
    with _opened(path) as file:
        parquet = pq.ParquetFile(file, buffer_size=BUFFER, pre_buffer=False)
        stop = 0
        for group in range(parquet.num_row_groups):
            row, stop = stop, stop + parquet.metadata.row_group(group).num_rows
            if bisect_left(wanted, row) == bisect_left(wanted, stop):
                continue
            for batch in parquet.iter_batches(BATCH, row_groups=[group], columns=columns):
                yield batch, row
                row += len(batch)


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    with filesystem.open_file(path) as file:
        try:
            yield file
        except (pa.ArrowException, OSError) as error:
            raise ValueError(
                f"{path} cannot be read as a table ({error}): write or copy it again, or take it out"
            ) from error


def _is_text(path: str) -> bool:
    return path.endswith((".csv", ".tsv"))


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return "bytes" in kind.names and _holds_bytes(kind.field("bytes").type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
