"""The tables of an export, streamed from the rows of all shards. Knows no images.

Lines of a CSV end in CR LF (RFC 4180): with other line ends `csv` does not quote a carriage return in a key.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cpp.export.classes import Class
from cpp.files.tables import batches

AHEAD = 2  # files to prefetch
# FiftyOne refuses such names of fields, or its Classification has fields of these names
REFUSED = re.compile(r"id|tags|logits|[_$].*|", re.DOTALL)


def write_parquet(path: Path, parts: Sequence[str], schema: pa.Schema, columns: Mapping[str, str]) -> None:
    """Write all rows to one file with this schema; `columns` maps its columns to those of the rows."""
    with pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True) as writer:
        for batch in batches(parts, list(columns.values()), AHEAD):
            arrays = [array.cast(type_) for array, type_ in zip(batch.columns, schema.types, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))


def write_csv(path: Path, parts: Sequence[str], columns: Sequence[str]) -> None:
    """Write these columns of all rows to one CSV. A null becomes an empty cell, a list or a struct JSON."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for batch in batches(parts, list(columns), AHEAD):
            writer.writerows(zip(*(_cells(batch[name]) for name in columns), strict=True))


def write_classes(path: Path, classes: Sequence[Class]) -> None:
    """Write the cluster and the answer for each number and folder; the name is empty if it is not sure."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["number", "cluster", "name", "status", "guess", "class_name", "folder"])
        writer.writerows([c.number, c.cluster, c.name, c.status, c.guess, c.title, c.folder] for c in classes)


def write_fiftyone(path: Path, parts: Sequence[str], columns: Sequence[str], titles: Sequence[str]) -> None:
    """Write the `labels.json` of FiftyOneImageClassificationDataset for classes with these titles.

    It maps the path of each image below `data`, without the extension, to the index of its class in `classes`, the
    confidence if known, and all other `columns` that have a value as attributes. In their names dots become `_`, and
    `source_` precedes those that FiftyOne refuses.
    """
    attributes = [name for name in columns if name not in ("file", "class", "class_name", "label", "confidence")]
    names = unique_titles(attributes, _fiftyone_name)
    with path.open("w", encoding="utf-8") as file:
        file.write(f'{{"classes": {to_json(list(titles))},\n"labels": {{')
        comma = "\n"
        for batch in batches(parts, ["file", "class", "confidence", *attributes], AHEAD):
            for row in batch.to_pylist():
                uuid = row["file"].removeprefix("data/").rpartition(".")[0]
                confidence = {} if row["confidence"] is None else {"confidence": row["confidence"]}
                values = {title: row[name] for name, title in names.items() if row[name] is not None}
                label = {"label": row["class"], **confidence, "attributes": values}
                file.write(f"{comma}{to_json(uuid)}: {to_json(label)}")
                comma = ",\n"
        file.write("\n}}\n")


def unique_titles(columns: Sequence[str], rename: Callable[[str], str]) -> dict[str, str]:
    """The new name of each column, different from all others, which `source_` in front ensures."""
    taken, titles = {name for name in columns if rename(name) == name}, dict[str, str]()
    for name in columns:
        title = rename(name)
        while title != name and title in taken:
            title = f"source_{title}"
        taken.add(title)
        titles[name] = title
    return titles


def _fiftyone_name(name: str) -> str:
    name = re.sub(r"[.\0]", "_", name)
    return f"source_{name}" if REFUSED.fullmatch(name) else name


def _cells(column: pa.Array) -> list[Any]:
    """Values as text for a CSV: floats have the fewest digits that identify them, and always a point."""
    if pa.types.is_floating(column.type):
        texts = column.to_numpy(zero_copy_only=False).astype(str).tolist()
        return [None if text == "nan" else text for text in texts]
    values: list[Any] = column.to_pylist()
    if pa.types.is_nested(column.type):
        return [None if value is None else to_json(value) for value in values]
    return values


def to_json(value: Any) -> str:
    """Strict JSON: NaN and infinities become null, values that JSON lacks text."""
    return json.dumps(_strict(value), ensure_ascii=False, default=str)


def _strict(value: Any) -> Any:
    """The value with NaN and infinities, which strict JSON lacks, as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(name): _strict(item) for name, item in value.items()}
    return [_strict(item) for item in value] if isinstance(value, list) else value
