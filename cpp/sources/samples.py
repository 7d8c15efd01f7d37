"""A sample (an encoded image with its metadata), the reasons for rejecting a row, and metadata as Arrow columns.

Does not know where samples come from or how they are used.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import pyarrow as pa

# column names that the tables of a run use themselves
RESERVED = re.compile(r"key|embedding(_\d+)?|image_shard|cluster(_\d+)?|score|second|margin")
INT64 = range(-(2**63), 2**63)
TEXT_BYTES = 1 << 24  # limit for a file with the caption or the metadata of an image
EXACT = 2**53  # float64 holds all integers up to this one exactly


class Reason(StrEnum):
    """The reasons for rejecting an image; the texts are values of the column `reason` of rejected rows."""

    NO_IMAGE = "no image in the sample"
    LINK = "link or device in the tar, not a file"
    MISSING = "file is missing"
    SPECIAL = "pipe or device, not a file"
    UNREADABLE = "address cannot be read"
    BAD_ADDRESS = "address of a kind that is not allowed"
    BAD_JSON = "json cannot be read"
    BAD_TEXT = "text is not utf-8"
    FIELDS = "row has more or fewer fields than the header"
    EMPTY = "no bytes"
    TOO_MANY_BYTES = "too many bytes"
    NOT_AN_IMAGE = "not an image"
    HEIC = "HEIC is not read without the package pillow-heif"
    RAW = "camera raw (DNG, CR2, NEF, ...) is not read"
    JPEG_XL = "JPEG XL is not read"
    VECTOR = "vector drawing (SVG, EPS, ...) is not read"
    FORMAT = "picture format (PSD, EXR, ICO, ...) is not read"
    ANOTHER = "another picture of the same sample is used"
    TOO_MANY_PIXELS = "too many pixels"
    TOO_LONG = "too long and thin"
    DAMAGED = "image is damaged or cut short"
    COLOUR_MODE = "colour mode is not supported"
    NOT_FINITE = "vector is not finite"


class Rejected(ValueError):  # noqa: N818 - a verdict on a row, not a fault
    """The row is rejected for `reason`."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


@dataclass(frozen=True)
class Sample:
    """One row of a shard: the encoded image, or None and the reason; `metadata` holds values of `to_column_value`."""

    key: str
    image: bytes | None
    metadata: dict[str, Any] = field(default_factory=dict)
    reason: Reason | None = None


def to_column_value(value: Any) -> Any:
    """Convert to a value for an Arrow column: scalars, text and lists of text stay, other values become JSON text.

    ValueError for text that UTF-8 cannot encode (half of a surrogate pair).
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
    """The fields of a JSON object. `Rejected` if the bytes are not a JSON object."""
    try:
        value = json.loads(data)
        if isinstance(value, dict):
            return {to_column_value(name): to_column_value(item) for name, item in value.items()}
    except (ValueError, RecursionError):
        pass
    raise Rejected(Reason.BAD_JSON)


def read_text(data: bytes) -> str:
    """Text without surrounding white space. `Rejected` if it is not UTF-8."""
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise Rejected(Reason.BAD_TEXT) from None


def read_label(data: bytes) -> int | str:
    """The content of a `.cls` file, an integer or text. `Rejected` if it is not UTF-8."""
    text = read_text(data)
    try:
        return int(text) if int(text) in INT64 else text
    except ValueError:
        return text


def merge_metadata(metadata: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Add `more` to `metadata` in place. A field that `metadata` has with another value becomes `source_NAME`."""
    for name, value in more.items():
        title = name
        while title in metadata and metadata[title] != value:
            title = f"source_{title}"
        metadata[title] = value
    return metadata


def column_titles(names: Sequence[str], reserved: re.Pattern[str] = RESERVED) -> dict[str, str]:
    """The title of the column of each metadata field: its name or, if that is `reserved`, `source_NAME`."""
    taken, titles = set(names), dict[str, str]()
    for name in names:
        title = name
        while reserved.fullmatch(title) or (title != name and title in taken):
            title = f"source_{title}"
        taken.add(title)
        titles[name] = title
    return titles


def metadata_columns(keys: Sequence[str], metadata: Sequence[Mapping[str, Any]]) -> dict[str, pa.Array]:
    """Arrow columns of the metadata of rows, in the order in which fields first appear; missing fields are null.

    A column is bool, int64, double or list<string> if all its values are; otherwise, or without values, it is string,
    with other values as JSON. Titles are those of `column_titles`; a field `key` equal to the row's key is left out.
    """
    columns = dict[str, pa.Array]()
    for name, title in column_titles(list(dict.fromkeys(name for row in metadata for name in row))).items():
        values = [row.get(name) for row in metadata]
        if name == "key" and all(value in (None, key) for key, value in zip(keys, values, strict=True)):
            continue
        columns[title] = _column(values)
    return columns


def distinct_keys(keys: Iterable[str]) -> Iterator[str]:
    """The keys of rows; the second row with the key K has the key `K#2`, or `K#2#2` if another row has that one."""
    seen, taken = Counter[str](), set[str]()
    for key in keys:
        seen[key] += 1
        distinct = key if seen[key] == 1 else f"{key}#{seen[key]}"
        while distinct in taken:
            distinct += "#2"
        taken.add(distinct)
        yield distinct


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
