"""Metadata of rows become Arrow columns of one kind."""

from typing import Any

import pyarrow as pa

from cpp.sources.samples import merge_metadata, metadata_columns, read_json, read_label


def test_metadata_become_columns_of_one_kind() -> None:
    rows: list[dict[str, Any]] = [
        {"key": "a", "n": 1, "x": 1, "text": "t", "list": ["u"], "mixed": 1, "score": 0.5, "none": None, "big": 2**60},
        {"key": "b", "n": None, "x": 0.5, "list": [], "mixed": "one", "ok": True, "big": 0.5},
    ]
    found = pa.table(metadata_columns(["a", "b"], rows))
    assert {f.name: str(f.type) for f in found.schema} == {
        "n": "int64",
        "x": "double",
        "text": "string",
        "list": "list<item: string>",
        "mixed": "string",
        "source_score": "double",
        "none": "string",
        "big": "string",
        "ok": "bool",
    }
    assert found["mixed"].to_pylist() == ["1", "one"]
    assert found["list"].to_pylist() == [["u"], []]
    assert pa.table(metadata_columns(["a"], [{"key": "other"}])).to_pydict() == {"source_key": ["other"]}
    layer = pa.table(metadata_columns(["a"], [{"cluster_20": 7, "cluster_x": 8}]))  # the cluster of a layer is ours
    assert layer.column_names == ["source_cluster_20", "cluster_x"]


def test_what_json_can_say_is_kept() -> None:
    found = read_json(
        b'{"a": {"b": [1, "\\u00e9"]}, "c": [1, 2], "d": ["x"], "e": 1e400, "f": 123456789012345678901234}'
    )
    assert found == {
        "a": '{"b": [1, "é"]}',
        "c": "[1, 2]",
        "d": ["x"],
        "e": float("inf"),
        "f": "123456789012345678901234",
    }
    assert [read_label(data) for data in (b"7\n", b" cat ", b"9" * 30)] == [7, "cat", "9" * 30]
    assert merge_metadata({"caption": "a", "x": 1}, {"caption": "b", "x": 1}) == {
        "caption": "a",
        "x": 1,
        "source_caption": "b",
    }
