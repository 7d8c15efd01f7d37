"""The tables of an export, made of the rows of all shards while they pass by. Knows no images.

A CSV has lines that end as RFC 4180 has it: with others `csv` does not quote a carriage return in a key.
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

AHEAD = 2  # files that are read ahead


def write_parquet(path: Path, parts: Sequence[str], schema: pa.Schema) -> None:
    """All rows in one file."""
    with pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True) as writer:
        for batch in batches(parts, schema.names, AHEAD):
            writer.write_batch(batch.replace_schema_metadata(None))


def write_csv(path: Path, parts: Sequence[str], columns: Mapping[str, str]) -> None:
    """All rows in one CSV; `columns` maps titles to columns. What is null is empty."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for batch in batches(parts, list(columns.values()), AHEAD):
            writer.writerows(zip(*(_cells(batch[name]) for name in columns.values()), strict=True))


def write_classes(path: Path, classes: Sequence[Class]) -> None:
    """The way back from a number or a folder to a cluster and its name, which is empty where it is not sure."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["number", "cluster", "name", "class_name", "folder"])
        writer.writerows([c.number, c.cluster, c.name, c.title, c.folder] for c in classes)


def write_fiftyone(path: Path, parts: Sequence[str], classes: Sequence[Class], layer: Layer) -> None:
    """The `labels.json` of FiftyOneImageClassificationDataset: for the path below `data` of each image, without its
    extension, the place of its class in `classes`, the confidence where it is known, and attributes.
    """
    more = ["key", *layer.columns, "score", "margin"]
    with path.open("w", encoding="utf-8") as file:
        file.write(f'{{"classes": {_json([c.title for c in classes])},\n"labels": {{')
        comma = "\n"
        for batch in batches(parts, ["file", "class", "confidence", *more], AHEAD):
            for row in batch.to_pylist():
                uuid = row["file"].removeprefix("data/").rpartition(".")[0]
                sure = {} if row["confidence"] is None else {"confidence": row["confidence"]}
                said = {"label": row["class"], **sure, "attributes": {name: row[name] for name in more}}
                file.write(f"{comma}{_json(uuid)}: {_json(said)}")
                comma = ",\n"
        file.write("\n}}\n")


def _cells(column: pa.Array) -> list[Any]:
    """Values as a CSV says them: floats with the fewest digits that tell them apart, and always with a point."""
    if not pa.types.is_floating(column.type):
        values: list[Any] = column.to_pylist()
        return values
    texts = column.to_numpy(zero_copy_only=False).astype(str).tolist()
    return [None if text == "nan" else text for text in texts]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
