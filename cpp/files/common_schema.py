"""One schema for the metadata of all shards: their fields and types may differ.

The rule, for each field: the type that all shards have; else the narrowest number that holds the values of all, or the
finer unit of times; else, for texts and lists of texts, lists, in which a text is alone; else text, in which other
values are JSON, as in `cpp.sources.samples`. Shards without the field, or without values in it, have no say. Knows no
images.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import pyarrow as pa

from cpp.files import tables
from cpp.files.filesystem import REQUESTS
from cpp.files.iterables import map_threads

EXACT = 2**53  # float64 holds all integers up to this one exactly

TEXTS = pa.list_(pa.string())

PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}

# The types of a field, each with the largest absolute value of its whole numbers, which times are too, counted in their
# unit; None if no shard has values of it.
Types = dict[pa.DataType, int | None]


class Column(NamedTuple):
    """A column of a file, with the largest absolute value as in `Types`; None if all its values are null."""

    name: str
    type: pa.DataType
    largest: int | None


def common_schema(paths: Sequence[str]) -> pa.Schema:
    """The schema of Parquet files by the rule above, fields in the order of their first appearance.

    Reads the footers alone. ValueError if a file is damaged.
    """
    fields: dict[str, Types] = {}
    for columns in map_threads(read_columns, paths, REQUESTS, 4 * REQUESTS):
        for name, type_, largest in columns:
            types = fields.setdefault(name, {})
            earlier = types.get(type_)
            types[type_] = earlier if largest is None else max(largest, earlier or 0)
    return pa.schema([(name, common_type(types)) for name, types in fields.items()])


def common_type(types: Types) -> pa.DataType:
    """The type of a field by the rule above; text if no shard has values and the types differ."""
    with_values = {type_: largest for type_, largest in types.items() if largest is not None}
    if len(candidates := with_values or {type_ for type_ in types if not pa.types.is_null(type_)}) == 1:
        return next(iter(candidates))
    if not with_values:
        return pa.string()
    largest = max(with_values.values())
    if all(pa.types.is_integer(type_) for type_ in with_values):
        return pa.int64() if largest < 2**63 else pa.string()
    if all(pa.types.is_integer(type_) or pa.types.is_floating(type_) for type_ in with_values):
        return pa.float64() if largest <= EXACT else pa.string()
    if all(type_ in (pa.string(), TEXTS) for type_ in with_values):
        return TEXTS
    return _wider(with_values) or pa.string()


def _wider(types: Mapping[pa.DataType, int]) -> pa.DataType | None:
    """The type for times of several units, or for decimals and whole numbers, if it holds all values; else None."""
    is_number = all(pa.types.is_decimal(type_) or pa.types.is_integer(type_) for type_ in types)
    if not is_number and not all(pa.types.is_temporal(type_) for type_ in types):
        return None
    try:
        schemas = [pa.schema([("x", type_)]) for type_ in types]
        wider = pa.unify_schemas(schemas, promote_options="permissive").field("x").type
    except pa.ArrowException:  # such as a time of day and a date, or two time zones
        return None
    units = {type_: PER_SECOND.get(getattr(type_, "unit", ""), 1) for type_ in (*types, wider)}
    fits = all(largest * units[wider] // units[type_] < 2**63 for type_, largest in types.items())
    return wider if is_number or fits else None


def conform(table: pa.Table, schema: pa.Schema) -> tuple[pa.Table, dict[str, int]]:
    """The columns of `schema` from a table; null where the table lacks one.

    The second value counts, by column, values that the schema has no place for: of columns that it lacks, and of
    another type than its own. With the `common_schema` of all tables there are none.
    """
    columns, lost = dict[str, pa.ChunkedArray](), dict[str, int]()
    for name, type_ in zip(schema.names, schema.types, strict=True):
        if name in table.column_names:
            columns[name] = _cast(table[name], type_)
            lost[name] = columns[name].null_count - table[name].null_count
        else:
            columns[name] = pa.nulls(len(table), type_)
    lost |= {name: len(table) - table[name].null_count for name in table.column_names if name not in columns}
    return pa.table(columns, schema), {name: count for name, count in lost.items() if count}


def _cast(column: pa.ChunkedArray, type_: pa.DataType) -> pa.ChunkedArray:
    """Cast a column; values that do not fit become null."""
    is_text = pa.types.is_string(type_)
    if not is_text or pa.types.is_decimal(column.type) or _is_moment(column.type):
        with suppress(pa.ArrowException):  # raised if one value does not fit
            return column.cast(type_)
    values = column.to_pylist()
    if type_ == TEXTS:
        values = [[value] if isinstance(value, str) else value for value in values]
    if is_text:
        texts = [
            value if value is None or isinstance(value, str) else json.dumps(value, default=str) for value in values
        ]
        return pa.chunked_array([texts], type_)
    return pa.chunked_array([[_fit(value, type_) for value in values]], type_)


def _is_moment(type_: pa.DataType) -> bool:
    return bool(pa.types.is_temporal(type_) and not pa.types.is_duration(type_))


def _fit(value: Any, type_: pa.DataType) -> Any:
    try:
        return pa.scalar(value).cast(type_).as_py()
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return None


def read_columns(path: str) -> list[Column]:
    """The columns of a Parquet file by its footer. ValueError if it is damaged."""
    footer = tables.read_footer(path)
    groups = [footer.row_group(group) for group in range(footer.num_row_groups)]
    places = {groups[0].column(i).path_in_schema: i for i in range(footer.num_columns)} if groups else {}
    result = []
    for field in footer.schema.to_arrow_schema():
        statistics = [group.column(places[field.name]).statistics for group in groups if field.name in places]
        known = [s for s in statistics if s is not None]
        nulls = sum(s.null_count for s in known)
        largest = 0
        if pa.types.is_integer(field.type):
            largest = max((max(abs(s.min), abs(s.max)) for s in known if s.has_min_max), default=0)
        elif pa.types.is_temporal(field.type):  # whose values may be no dates of Python
            largest = max((max(abs(s.min_raw), abs(s.max_raw)) for s in known if s.has_min_max), default=0)
        empty = pa.types.is_null(field.type) or nulls == footer.num_rows  # of no rows too
        result.append(Column(field.name, field.type, None if empty else int(largest)))
    return result
