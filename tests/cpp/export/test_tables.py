"""Tables say exactly what the rows are, in forms that readers that guess do not misread."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cpp.export.classes import Class
from cpp.export.rows import Layer, schema
from cpp.export.tables import write_classes, write_csv, write_fiftyone, write_parquet

LAYER = Layer("cluster", ("cluster",), main=True)
HOSTILE = ["a,b", 'q"x', "line\nbreak", "=1+1", "", "猫", "\r", "000012"]


def part(path: Path, n: int, confidence: list[float | None]) -> str:
    table = {
        "file": [f"data/00000-{i:06d}.jpg" for i in range(n)],
        "key": [HOSTILE[i % len(HOSTILE)] for i in range(n)],
        "class": [i % 2 for i in range(n)],
        "class_name": ["cat" if i % 2 == 0 else "cluster-7" for i in range(n)],
        "label": ["cat" if i % 2 == 0 else None for i in range(n)],
        "confidence": confidence,
        "cluster": [i % 2 for i in range(n)],
        "score": np.linspace(0, 1, n, dtype=np.float32),
        "margin": np.full(n, 0.1, np.float32),
        "image_shard": ["s.tar"] * n,
    }
    pq.write_table(pa.table(table, schema=schema(LAYER, files=True)), path)
    return str(path)


def test_parts_become_one_parquet_and_one_csv(tmp_path: Path) -> None:
    parts = [part(tmp_path / "1", 8, [0.1, None] * 4), part(tmp_path / "2", 3, [None] * 3)]
    expected = pa.concat_tables(pq.read_table(path) for path in parts)
    names = expected.schema.names
    write_parquet(tmp_path / "p", parts, expected.schema, {name: name for name in names})
    assert pq.read_table(tmp_path / "p").equals(expected)
    write_csv(tmp_path / "c", parts, names)
    frame = pd.read_csv(
        tmp_path / "c", dtype={"key": str}, keep_default_na=False, na_values={"label": [""], "confidence": [""]}
    )
    assert frame["key"].tolist() == expected["key"].to_pylist()
    assert frame["confidence"].astype(np.float32).fillna(-1).tolist() == [
        -1 if value is None else value for value in expected["confidence"].to_pylist()
    ]
    assert frame["label"].astype(object).where(frame["label"].notna(), None).tolist() == expected["label"].to_pylist()


def test_a_float_is_never_written_as_a_whole_number(tmp_path: Path) -> None:
    """`datasets` takes the kinds of columns from the first 10,000 rows, and fails where later ones are of another."""
    write_csv(tmp_path / "c", [part(tmp_path / "1", 2, [1.0, 0.1])], ["confidence", "cluster"])
    assert (tmp_path / "c").read_text().split() == ["confidence,cluster", "1.0,0", "0.1,1"]


def test_classes_lead_back(tmp_path: Path) -> None:
    found = [
        Class(0, 3, 'a,"b"/c', "general", "b", 'a,"b"/c', "a,_b__c"),
        Class(1, 7, None, "unsure", "cat", "cluster-7", "cluster-7"),
    ]
    write_classes(tmp_path / "c", found)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "c").read_text())))
    assert list(rows[0]) == ["number", "cluster", "name", "status", "guess", "class_name", "folder"]
    assert [tuple(row.values()) for row in rows] == [
        tuple(str(value or "") if value != 0 else "0" for value in c[:-1]) for c in found
    ]


def test_fiftyone_labels_are_as_its_documentation_has_them(tmp_path: Path) -> None:
    """https://docs.voxel51.com, FiftyOneImageClassificationDataset: the uuid is the path below data/, no extension."""
    columns = schema(LAYER, files=True).names
    write_fiftyone(tmp_path / "l", [part(tmp_path / "1", 3, [0.5, None, 1.0])], columns, ["cat", "cluster-7"])
    said = json.loads((tmp_path / "l").read_text())
    assert said["classes"] == ["cat", "cluster-7"]
    assert list(said["labels"]) == ["00000-000000", "00000-000001", "00000-000002"]
    assert said["labels"]["00000-000000"]["confidence"] == 0.5
    assert "confidence" not in said["labels"]["00000-000001"]
    assert [target["label"] for target in said["labels"].values()] == [0, 1, 0]
    reserved = {"label", "confidence", "id", "tags", "logits"}  # fields that a Classification has already
    assert all(not reserved & set(target["attributes"]) for target in said["labels"].values())
    write_fiftyone(tmp_path / "none", [], columns, [])
    assert json.loads((tmp_path / "none").read_text()) == {"classes": [], "labels": {}}
