"""Rows of a table file: Parquet, CSV (RFC 4180), TSV (without quoting) and JSON Lines, told by its extension.

A row that cannot be read is a reason in its place, so rows keep their numbers. Knows no images.
"""

from __future__ import annotations

import csv
import io
import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from cpp.files import filesystem
from cpp.sources.samples import Reason

BATCH = 64  # rows of Parquet decoded at a time
BUFFER = 1 << 20  # bytes per read; the default reads whole row groups, which may be the whole file
EXTENSIONS = (".parquet", ".csv", ".tsv", ".jsonl", ".ndjson")
LONGEST_FIELD = 1 << 26  # characters; the default of Python's csv module is 131,072

Values = dict[str, Any] | Reason  # a row by column, or why it cannot be read


class Kind(StrEnum):
    """What a column holds, as far as images need to know."""

    TEXT = "text"
    BYTES = "bytes"
    OTHER = "other"


class Description(NamedTuple):
    """The columns of a table in their order, and its number of rows, with those that cannot be read."""

    columns: dict[str, Kind]
    length: int


def columns(path: str) -> dict[str, Kind]:
    """The columns of a table by its footer or its header; none of JSON Lines, which has no header."""
    with _open_table(path) as file:
        if read := _text_reader(path):
            return dict.fromkeys(read(path, file)[0], Kind.TEXT)
        schema = pq.read_schema(file)
        _check_unique(path, schema.names)
        return {field.name: _kind(field.type) for field in schema}


def describe(path: str) -> Description:
    """The columns and the number of rows of a table. ValueError, naming file and line, if it cannot be read."""
    names, length = columns(path), 0
    with _open_table(path) as file:
        if (read := _text_reader(path)) is None:
            return Description(names, int(pq.read_metadata(file).num_rows))
        for row in read(path, file)[1]:
            length += 1
            if isinstance(row, dict):
                names |= {name: Kind.TEXT for name, value in row.items() if isinstance(value, str)}
                names = {**dict.fromkeys(row, Kind.OTHER), **names}
    return Description(names, length)


def read_rows(path: str, indices: Sequence[int], columns: Sequence[str] | None = None) -> Iterator[tuple[int, Values]]:
    """The rows at these ascending indices with their indices; `columns` of Parquet, all columns of other tables.

    ValueError, naming the file, if it cannot be read or does not have these rows.
    """
    if not indices:
        return
    read = _text_reader(path)
    remaining = iter(indices)
    index = next(remaining)
    with _open_table(path) as file:
        rows = _parquet_rows(file, indices, columns) if read is None else enumerate(read(path, file)[1])
        for number, row in rows:
            if number == index:
                yield number, row
                try:
                    index = next(remaining)
                except StopIteration:
                    return
    raise ValueError(f"{path} has no row {index}: it was changed while it was read; run the same command again")


def is_text(path: str) -> bool:
    """Whether the extension is that of a text file, not of Parquet."""
    return _text_reader(path) is not None


def _text_reader(path: str) -> Callable[[str, Any], tuple[list[str], Iterator[Values]]] | None:
    """The function that reads the header and the rows of a text file; None for Parquet."""
    suffix = PurePosixPath(path).suffix.lower()
    return {".csv": _read_csv, ".tsv": _read_tsv, ".jsonl": _read_json_lines, ".ndjson": _read_json_lines}.get(suffix)


def _read_csv(path: str, file: Any) -> tuple[list[str], Iterator[Values]]:
    csv.field_size_limit(LONGEST_FIELD)
    reader = csv.reader(_lines(file), strict=True)

    def records() -> Iterator[list[str]]:
        line = 1
        try:
            for record in reader:
                line = reader.line_num + 1
                yield record
        except csv.Error as error:
            raise ValueError(
                f"{path}, line {line}: {error}. A CSV field that begins with a quotation mark ends with one, and "
                'others in it are doubled ("a ""b"" c"): correct the line, or write a TSV, which has no quoting'
            ) from error

    return _split_header(path, records())


def _read_tsv(path: str, file: Any) -> tuple[list[str], Iterator[Values]]:
    lines = (line.rstrip("\r\n") for line in _lines(file))
    header, rows = _split_header(path, (line.split("\t") if line else [] for line in lines))
    if any("\r" in name for name in header):
        raise ValueError(f"{path}: its lines end with carriage returns alone: save it with line feeds")
    return header, rows


def _read_json_lines(path: str, file: Any) -> tuple[list[str], Iterator[Values]]:
    """JSON Lines has no header: each row has its own fields."""

    def parse(line: str) -> Values:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            return Reason.BAD_JSON
        return row if isinstance(row, dict) else Reason.BAD_JSON

    return [], (parse(line) for line in _lines(file) if line.strip())


def _split_header(path: str, records: Iterator[list[str]]) -> tuple[list[str], Iterator[Values]]:
    """The header, and the rows by column; empty lines are no rows, and have no fields."""
    records = filter(None, records)
    header = next(records, None)
    if header is None or not _is_text("".join(header)):
        raise ValueError(f"{path} has no header: its first line must name the columns, in UTF-8")
    _check_unique(path, header)
    return header, (
        dict(zip(header, record, strict=True)) if len(record) == len(header) else Reason.FIELDS for record in records
    )


def _lines(file: Any) -> Iterable[str]:
    """Lines with their ends; bytes that are not UTF-8 become surrogates, which only reject their row."""
    return io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="\n")


def _is_text(text: str) -> bool:
    return not any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text)


def _check_unique(path: str, names: Iterable[str]) -> None:
    if repeated := [name for name, times in Counter(names).items() if times > 1]:
        raise ValueError(f"{path} has several columns with the name {repeated[0]!r}: rename all but one")


def _parquet_rows(file: Any, indices: Sequence[int], columns: Sequence[str] | None) -> Iterator[tuple[int, Values]]:
    """The rows of the batches that contain one of the indices."""
    parquet = pq.ParquetFile(file, buffer_size=BUFFER, pre_buffer=False)
    wanted = None if columns is None else list(columns)
    stop = 0
    for group in range(parquet.num_row_groups):
        row, stop = stop, stop + parquet.metadata.row_group(group).num_rows
        if bisect_left(indices, row) == bisect_left(indices, stop):
            continue
        for batch in parquet.iter_batches(BATCH, row_groups=[group], columns=wanted):
            for number in indices[bisect_left(indices, row) : bisect_left(indices, row + len(batch))]:
                yield number, {name: batch.column(name)[number - row].as_py() for name in batch.schema.names}
            row += len(batch)


@contextmanager
def _open_table(path: str) -> Iterator[Any]:
    with filesystem.open_file(path) as file:
        try:
            yield file
        except (pa.ArrowException, OSError) as error:
            raise ValueError(
                f"{path} cannot be read as a table ({error}): a table is Parquet, .csv, .tsv or .jsonl; write or copy "
                "it again, or remove it"
            ) from error


def _kind(type_: pa.DataType) -> Kind:
    if pa.types.is_dictionary(type_):
        return _kind(type_.value_type)
    if pa.types.is_struct(type_):  # Hugging Face's Image is struct{bytes, path}
        holds_bytes = "bytes" in type_.names and _kind(type_.field("bytes").type) is Kind.BYTES
        return Kind.BYTES if holds_bytes else Kind.OTHER
    if pa.types.is_binary(type_) or pa.types.is_large_binary(type_) or pa.types.is_binary_view(type_):
        return Kind.BYTES
    text = pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_)
    return Kind.TEXT if text else Kind.OTHER
