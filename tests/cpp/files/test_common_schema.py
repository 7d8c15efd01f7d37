"""Shards whose metadata differs get one schema, by the documented rule."""

from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cpp.files import tables
from cpp.files.common_schema import common_schema, conform

LARGE = 2**53 + 1
CENT, DAY, FAR = Decimal("0.01"), datetime(2026, 1, 2), datetime(9999, 1, 1)
NS = pa.timestamp("ns")
LIST = pa.list_(pa.string())


def written(folder: Path, *columns: Any) -> list[str]:
    """A file with the column `x` for each of `columns`; None for a file without it, [] for one without rows."""
    paths = []
    for i, column in enumerate(columns):
        path = folder / f"{i}.parquet"
        x = {} if column is None else {"x": column}
        tables.write(pa.table({"key": pa.array(["k"] * len(column if column is not None else "k")), **x}), path)
        paths.append(str(path))
    return paths


@pytest.mark.parametrize(
    ("columns", "type_", "values"),
    [
        ([pa.array([5]), pa.array([5.5])], pa.float64(), [5.0, 5.5]),
        ([pa.array([LARGE]), pa.array([5.5])], pa.string(), [str(LARGE), "5.5"]),
        ([pa.array([1], pa.int32()), pa.array([2], pa.int64())], pa.int64(), [1, 2]),
        ([pa.array([1]), pa.array(["x"])], pa.string(), ["1", "x"]),
        ([pa.array([True]), pa.array([1])], pa.string(), ["true", "1"]),
        ([pa.array([["a", "é"]], LIST), pa.array(["x"])], LIST, [["a", "é"], ["x"]]),
        ([pa.array([["a", "é"]], LIST), pa.array([1])], pa.string(), ['["a", "\\u00e9"]', "1"]),
        ([pa.array([["a"]], LIST), pa.array([None], pa.string())], LIST, [["a"], None]),
        ([pa.array([None], pa.string()), pa.array([0.5])], pa.float64(), [None, 0.5]),
        ([pa.nulls(1), pa.array([0.5])], pa.float64(), [None, 0.5]),
        ([pa.array([], pa.string()), pa.array([3])], pa.int64(), [3]),
        ([None, pa.array(["hello"])], pa.string(), [None, "hello"]),
        ([pa.array([None], pa.string()), pa.array([None], pa.string())], pa.string(), [None, None]),
        ([pa.array(["a"]).dictionary_encode(), pa.array(["b"])], pa.string(), ["a", "b"]),
        ([pa.array([DAY], pa.timestamp("ms")), pa.array([DAY], NS)], NS, [DAY, DAY]),
        ([pa.array([FAR], pa.timestamp("ms")), pa.array([DAY], NS)], pa.string(), [f"{FAR}.000", f"{DAY}.000000000"]),
        (
            [pa.array([DAY], pa.timestamp("ms", "UTC")), pa.array([DAY], NS)],
            pa.string(),
            [f"{DAY}.000Z", f"{DAY}.000000000"],
        ),
        ([pa.array([DAY.date()]), pa.array(["x"])], pa.string(), ["2026-01-02", "x"]),
        ([pa.array([CENT]), pa.array([CENT], pa.decimal128(20, 5))], pa.decimal128(20, 5), [CENT, CENT]),
        ([pa.array([CENT], pa.decimal128(38, 2)), pa.array([7])], pa.decimal128(38, 2), [CENT, 7]),
    ],
)
def test_types_widen_and_end_as_text(tmp_path: Path, columns: list[Any], type_: pa.DataType, values: list[Any]) -> None:
    for number, order in enumerate((1, -1)):
        (tmp_path / str(number)).mkdir()
        paths = written(tmp_path / str(number), *columns[::order])
        schema = common_schema(paths)
        assert schema.field("x").type == type_
        parts = [conform(tables.read(path), schema) for path in paths]
        assert pa.concat_tables([table for table, _ in parts])["x"].to_pylist() == values[::order]
        assert [lost for _, lost in parts] == [{}] * len(paths)


def test_a_type_that_all_shards_declare_is_kept_without_values(tmp_path: Path) -> None:
    empty = pa.array([None], pa.float32())
    assert common_schema(written(tmp_path, empty, empty, None)).field("x").type == pa.float32()


def test_values_without_a_place_are_counted() -> None:
    schema = pa.schema([("n", pa.int64()), ("t", pa.string())])
    table = pa.table({"n": [1.0, 2.5, None], "more": ["a", None, "b"]})
    fitted, lost = conform(table, schema)
    assert fitted.to_pydict() == {"n": [1, None, None], "t": [None, None, None]}
    assert lost == {"n": 1, "more": 2}
