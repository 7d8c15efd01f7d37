"""Checks that the images have the metadata columns that a configuration names, as early as their names are known."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from operator import attrgetter

from cpp.files.filesystem import REQUESTS, is_storage_error
from cpp.files.iterables import map_threads
from cpp.sources import table_rows
from cpp.sources.samples import column_titles
from cpp.sources.table import TableShard
from cpp.store.results import File
from pipelines.config.errors import ConfigError
from pipelines.config.load import Config

NOT_IN_HEADERS = ("key", "path")  # of results, and of Hugging Face's struct{bytes, path}


def check(config: Config, existing: Collection[str], others: Collection[str] = ("key",)) -> None:
    """ConfigError, naming every key, if the metadata of all images lacks a column that the configuration names.

    The columns `others` are not checked.
    """
    columns = [column for column in existing if column != "image_shard"]
    faults = [
        f"{key} is {column!r}, and no image has a metadata column of this name: "
        + (f"take one of {', '.join(columns)}, or remove the key" if columns else "there are none: remove the key")
        for key, column in config.metadata_columns.items()
        if column not in existing and column not in others
    ]
    if faults:
        raise ConfigError("\n".join(faults))


def check_inputs(config: Config, files: Mapping[str, Mapping[str, File]]) -> None:
    """`check` by the headers of the inputs, if they are tables or imported vectors; other inputs have none.

    Reads headers until all columns are found. A header that cannot be read proves nothing: its shard fails later.
    """
    existing = dict[str, None]()
    missing = set(config.metadata_columns.values()).difference(NOT_IN_HEADERS)
    inputs = _tables(config, files) if missing else ()
    for columns in map_threads(partial(_columns, config), inputs, REQUESTS, REQUESTS):
        if columns is None:
            return
        existing |= dict.fromkeys(columns)
        missing -= existing.keys()
        if not missing:
            return
    if existing:
        check(config, list(existing), NOT_IN_HEADERS)


def _tables(config: Config, files: Mapping[str, Mapping[str, File]]) -> Iterator[str | TableShard]:
    """The files of metadata of imported vectors, or the first shard of each table of images."""
    if config.import_:
        yield from (file.path for file in files["metadata"].values())
    elif config.images and config.images.format in ("parquet", "table"):
        for _, shards in itertools.groupby((file.path for file in files["images"].values()), attrgetter("table")):
            yield next(shards)


def _columns(config: Config, table: str | TableShard) -> list[str] | None:
    """The metadata columns that a table leads to, by its header; None if it has no header or cannot be read."""
    try:
        kinds = table_rows.columns(table if isinstance(table, str) else table.table)
    except Exception as error:
        if isinstance(error, ValueError) or is_storage_error(error):
            return None
        raise
    if isinstance(table, TableShard):
        names = [name for name, kind in kinds.items() if kind is not table_rows.Kind.BYTES and name != table.key]
    else:
        names = [name for name in kinds if not (config.import_ and name == config.import_.key == "key")]
    return list(column_titles(names).values()) if kinds else None
