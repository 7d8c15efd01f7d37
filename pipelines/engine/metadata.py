"""Checks that the images have the metadata columns that a configuration names, as early as their names are known."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import attrgetter

import pyarrow as pa

from cpp.files.common_schema import Column, read_columns
from cpp.files.filesystem import REQUESTS, is_storage_error
from cpp.files.iterables import map_threads
from cpp.sources import table_rows
from cpp.sources.samples import column_titles
from cpp.sources.table import TableShard
from cpp.store.results import File
from pipelines.config.errors import ConfigError
from pipelines.config.load import Config

NOT_IN_HEADERS = ("key", "path")  # of results, and of Hugging Face's struct{bytes, path}
CLASSES = ("evaluate.label", "evaluate.names")  # keys of columns with one class for each image
NO_COLUMN = "metadata column of this name"


def check(config: Config, has_values: Mapping[str, bool], others: Collection[str] = ("key",)) -> None:
    """ConfigError, naming every key, if a metadata column that the configuration names is missing or null everywhere.

    `has_values` tells for each column whether an image has a value of it. The columns `others` are not checked.
    """
    named = {column for column in config.metadata_columns.values() if not has_values.get(column or "", True)}
    columns = [column for column in has_values if column != "image_shard" and column not in named]
    faults = [
        f"{key} is {column!r}, and no image has a {'value in this column' if column in has_values else NO_COLUMN}: "
        + (f"take one of {', '.join(columns)}, or remove the key" if columns else "there are none: remove the key")
        for key, column in config.metadata_columns.items()
        if not has_values.get(column) and column not in others
    ]
    if faults:
        raise ConfigError("\n".join(faults))


def check_inputs(config: Config, files: Mapping[str, Mapping[str, File]]) -> None:
    """`check` by the headers of the inputs, if they are tables or imported vectors; other inputs have none.

    Reads headers until all columns are found. A header that cannot be read proves nothing: its shard fails later.
    ConfigError too, if no file of metadata has the column `import.key`.
    """
    _check_key(config, files)
    named = set(config.metadata_columns.values()).difference(NOT_IN_HEADERS)
    if has_values := _find(named, map_threads(partial(_columns, config), _tables(config, files), REQUESTS, REQUESTS)):
        check(config, has_values, NOT_IN_HEADERS)


def _check_key(config: Config, files: Mapping[str, Mapping[str, File]]) -> None:
    """ConfigError if no file of metadata has the column `import.key`. One that lacks it beside others fails later."""
    key, first = config.import_ and config.import_.key, ""
    for path in [file.path for file in files["metadata"].values()] if key else ():
        header = _header(path)
        if header is None or key in header[0]:
            return
        first = first or f"{path} has no column of this name: take one of {', '.join(header[0])}"
    if first:
        raise ConfigError(f"import.key is {key!r}, and {first}, or null to number the rows")


def check_features(config: Config, schema: pa.Schema, features: Sequence[str]) -> None:
    """`check` by the common schema of all FEATURES and the footers of these files, read until all columns have values.

    ConfigError too, for a column of classes that holds lists or bytes.
    """
    named = set(schema.names).intersection(config.metadata_columns.values())
    footers = map_threads(read_columns, features, REQUESTS, REQUESTS)
    has_values = _find(named, ({c.name: c.largest is not None for c in footer} for footer in footers))
    check(config, {column: has_values.get(column, False) for column in schema.names})
    faults = [
        f"{key} is {column!r}, which holds {schema.field(column).type}, not one class for each image: "
        "name a column of texts or numbers, or remove the key"
        for key, column in config.metadata_columns.items()
        if key in CLASSES and _is_no_class(schema.field(column).type)
    ]
    if faults:
        raise ConfigError("\n".join(faults))


def _is_no_class(type_: pa.DataType) -> bool:
    return bool(pa.types.is_nested(type_) or pa.types.is_binary(type_) or pa.types.is_large_binary(type_))


def _find(named: Collection[str], headers: Iterable[Mapping[str, bool] | None]) -> dict[str, bool]:
    """The columns of headers, up to the one with which all `named` ones have values; none if a header is unknown."""
    result = dict[str, bool]()
    for header in headers if named else ():
        if header is None:
            return {}
        result |= {column: has_values or result.get(column, False) for column, has_values in header.items()}
        if all(result.get(column) for column in named):
            break
    return result


def _tables(config: Config, files: Mapping[str, Mapping[str, File]]) -> Iterator[str | TableShard]:
    """The files of metadata of imported vectors, or the first shard of each table of images."""
    if config.import_:
        yield from (file.path for file in files["metadata"].values())
    elif config.images and config.images.format in ("parquet", "table"):
        for _, shards in itertools.groupby((file.path for file in files["images"].values()), attrgetter("table")):
            yield next(shards)


def _columns(config: Config, table: str | TableShard) -> dict[str, bool] | None:
    """The metadata columns that a table leads to, and whether they have values, as far as its header tells.

    None if it has no header or cannot be read.
    """
    path, key = (table, None) if isinstance(table, str) else (table.table, table.key)
    if (header := _header(path)) is None:
        return None
    kinds, columns = header
    empty = {column.name for column in columns if column.largest is None}
    if isinstance(table, TableShard):
        names = [name for name, kind in kinds.items() if kind is not table_rows.Kind.BYTES and name != key]
    else:
        names = [name for name in kinds if not (config.import_ and name == config.import_.key == "key")]
    return {title: name not in empty for name, title in column_titles(names).items()} if kinds else None


def _header(path: str) -> tuple[dict[str, table_rows.Kind], list[Column]] | None:
    """The kinds of a table's columns, and from a Parquet file their extremes. None if the table cannot be read."""
    try:
        return table_rows.columns(path), [] if table_rows.is_text(path) else read_columns(path)
    except Exception as error:
        if isinstance(error, ValueError) or is_storage_error(error):
            return None
        raise
