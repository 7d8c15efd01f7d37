"""A sample: an image as it came, with what is known of it; why a row is rejected; metadata as Arrow columns.

Knows nothing of where samples come from or what is done with them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import pyarrow as pa

# column names that the tables of a run use themselves
RESERVED = re.compile(r"key|embedding(_\d+)?|image_shard|cluster(_\d+)?|score|second|margin")
INT64 = range(-(2**63), 2**63)
EXACT = 2**53  # largest of the whole numbers that float64 holds exactly


class Reason(StrEnum):
    """Every reason for which an image is rejected."""

    NO_IMAGE = "no image in the sample"
    LINK = "link or device in the tar, not a file"
    MISSING = "file is missing"
    SPECIAL = "pipe or device, not a file"
    UNREADABLE = "address cannot be read"
    BAD_ADDRESS = "address of a kind that is not allowed"
    BAD_JSON = "json cannot be read"
    BAD_TEXT = "text is not utf-8"
    EMPTY = "no bytes"
    TOO_MANY_BYTES = "too many bytes"
    NOT_AN_IMAGE = "not an image"
    TOO_MANY_PIXELS = "too many pixels"
    TOO_LONG = "too long and thin"
    DAMAGED = "image is damaged or cut short"
    COLOUR_MODE = "colour mode is not supported"
    NOT_FINITE = "vector is not finite"


class Rejected(ValueError):  # noqa: N818 - a verdict on a row, not a fault
    """A row that cannot be used, and why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


@dataclass(frozen=True)
class Sample:
    """One row of a shard: the encoded image, or None and the reason. `metadata` is as `plain` makes it."""

    key: str
    image: bytes | None
    metadata: dict[str, Any] = field(default_factory=dict)
    reason: Reason | None = None


def to_column_value(value: Any) -> Any:
    """A value that one Arrow column can hold: a scalar, text, a list of texts; anything else becomes JSON text.

    ValueError for text that UTF-8 cannot say (half of a surrogate pair).
    """
    if isinstance(value, str):
        value.encode()
        return value
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and value in INT64):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return [to_column_value(item) for item in value]
    return to_column_value(
        json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else str(value)
    )


def read_json(data: bytes) -> dict[str, Any]:
    """The fields of a JSON object. `Rejected` where the bytes are none."""
    try:
        value = json.loads(data)
        if isinstance(value, dict):
            return {to_column_value(name): to_column_value(item) for name, item in value.items()}
    except (ValueError, RecursionError):
        pass
    raise Rejected(Reason.BAD_JSON)


def read_text(data: bytes) -> str:
    """Text without the white space around it. `Rejected` where it is not UTF-8."""
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise Rejected(Reason.BAD_TEXT) from None


def read_label(data: bytes) -> int | str:
    """The content of a `.cls` file: a number where it is one, else text. `Rejected` where it is not UTF-8."""
    text = read_text(data)
    try:
        return int(text) if int(text) in INT64 else text
    except ValueError:
        return text


def merge_metadata(known: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Both together. A field of `more` that `known` has with another value is kept as `source_NAME`."""
    for name, value in more.items():
        title = name
        while title in known and known[title] != value:
            title = f"source_{title}"
        known[title] = value
    return known


def metadata_columns(keys: Sequence[str], metadata: Sequence[Mapping[str, Any]]) -> dict[str, pa.Array]:
    """Metadata of rows -> Arrow columns in the order in which the fields first appear; a missing field is null.

    A column is bool, int64, double or list<string> where all its values are, and string otherwise (a value that is no
    text then stands as JSON); one without any value is a string. A field whose name is one of `OURS` becomes
    `source_NAME`, but a `key` that only repeats the row's own is left out.
    """
    names = list(dict.fromkeys(name for row in metadata for name in row))
    taken, found = set(names), dict[str, pa.Array]()
    for name in names:
        values = [row.get(name) for row in metadata]
        if name == "key" and all(value in (None, key) for key, value in zip(keys, values, strict=True)):
            continue
        title = name
        while RESERVED.fullmatch(title) or (title != name and title in taken):
            title = f"source_{title}"
        taken.add(title)
        found[title] = _column(values)
    return found


def _column(values: list[Any]) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds == {int}:
        return pa.array(values, pa.int64())
    if kinds and kinds <= {int, float} and all(abs(value) <= EXACT for value in values if isinstance(value, int)):
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    if kinds == {list}:
        return pa.array(values, pa.list_(pa.string()))
    return pa.array([value if isinstance(value, str | None) else json.dumps(value) for value in values], pa.string())
