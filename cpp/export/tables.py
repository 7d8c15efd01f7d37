"""The tables of an export, streamed from the rows of all shards. Knows no images.

Lines of a CSV end in CR LF (RFC 4180): with other line ends `csv` does not quote a carriage return in a key.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cpp.export.classes import Class
from cpp.export.rows import Layer
from cpp.files.tables import batches

AHEAD = 2  # files to prefetch


def write_parquet(path: Path, parts: Sequence[str], schema: pa.Schema) -> None:
    """Write all rows to one file."""
    with pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True) as writer:
        for batch in batches(parts, schema.names, AHEAD):
            writer.write_batch(batch.replace_schema_metadata(None))


def write_csv(path: Path, parts: Sequence[str], columns: Mapping[str, str]) -> None:
    """Write all rows to one CSV; `columns` maps headings to columns. A null becomes an empty cell."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for batch in batches(parts, list(columns.values()), AHEAD):
            writer.writerows(zip(*(_cells(batch[name]) for name in columns.values()), strict=True))


def write_classes(path: Path, classes: Sequence[Class]) -> None:
    """Write the cluster and the answer for each number and folder; the name is empty if it is not sure."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["number", "cluster", "name", "status", "guess", "class_name", "folder"])
        writer.writerows([c.number, c.cluster, c.name, c.status, c.guess, c.title, c.folder] for c in classes)


def write_fiftyone(path: Path, parts: Sequence[str], classes: Sequence[Class], layer: Layer) -> None:
    """Write the `labels.json` of FiftyOneImageClassificationDataset.

    It maps the path of each image below `data`, without the extension, to the index of its class in `classes`, the
    confidence if known, and attributes.
    """
    attributes = ["key", *layer.columns, "score", "margin"]
    with path.open("w", encoding="utf-8") as file:
        file.write(f'{{"classes": {_json([c.title for c in classes])},\n"labels": {{')
        comma = "\n"
        for batch in batches(parts, ["file", "class", "confidence", *attributes], AHEAD):
            for row in batch.to_pylist():
                uuid = row["file"].removeprefix("data/").rpartition(".")[0]
                confidence = {} if row["confidence"] is None else {"confidence": row["confidence"]}
                label = {"label": row["class"], **confidence, "attributes": {name: row[name] for name in attributes}}
                file.write(f"{comma}{_json(uuid)}: {_json(label)}")
                comma = ",\n"
        file.write("\n}}\n")


def _cells(column: pa.Array) -> list[Any]:
    """Values as text for a CSV: floats have the fewest digits that identify them, and always a point."""
    if not pa.types.is_floating(column.type):
        values: list[Any] = column.to_pylist()
        return values
    texts = column.to_numpy(zero_copy_only=False).astype(str).tolist()
    return [None if text == "nan" else text for text in texts]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
