"""Of a group at most `keep` rows stay, evenly spaced, whatever the files; other rows all stay."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cpp.files import tables
from cpp.files.tables import sample_rows
from cpp.files.thinning import spare_rows, stays
from cpp.store.results import shard_of

FILES = [["a", "b", "a", None], ["a", "a", None, "c", "a"], [], ["b", "a"]]


@pytest.mark.parametrize("keep", [1, 2, 3, 5, 100])
def test_exactly_so_many_of_a_group_stay(keep: int) -> None:
    spare = list(spare_rows(lambda: FILES, keep))
    left = [[name for row, name in enumerate(names) if row not in spare[i]] for i, names in enumerate(FILES)]
    remaining = [name for names in left for name in names]
    assert remaining.count(None) == 2
    assert {name: remaining.count(name) for name in "abc"} == {"a": min(6, keep), "b": min(2, keep), "c": 1}


def test_rows_of_earlier_files_leave_less_room() -> None:
    earlier = [["a", "a", None], ["b", "c", "c", "c"]]
    spare = list(spare_rows(lambda: [["a"] * 6, ["b", "c", None, "d"]], 3, earlier))
    assert [rows.tolist() for rows in spare] == [[0, 1, 2, 3, 4], [1]]


def test_rows_that_stay_are_evenly_spaced() -> None:
    (spare,) = spare_rows(lambda: [["v"] * 100], 4)
    assert np.diff(np.setdiff1d(np.arange(100), spare)).tolist() == [25, 25, 25]


def test_the_sample_is_drawn_among_rows_that_stay(tmp_path: Path) -> None:
    paths = []
    for number, n in enumerate((6, 4)):
        X = np.stack([np.arange(n) + 10.0 * number, np.ones(n)], 1)
        path = tmp_path / f"s{number}-{'0' * 16}.parquet"
        tables.write(pa.table({"v": tables.matrix_column(X)}), path)
        paths.append(str(path))
    thinned = tmp_path / "thinned.parquet"
    table = {"shard": ["s0", "s1"], "rows": pa.array([[0, 5], [1]], pa.list_(pa.int64()))}
    tables.write(pa.table(table), thinned)
    among = stays([str(thinned)], paths, shard_of)
    assert among is not None
    assert sample_rows(paths, ["v"], 100, 0, 1, among)[:, 0].tolist() == [1, 2, 3, 4, 10, 12, 13]
    few = sample_rows(paths, ["v"], 3, 0, 1, among)[:, 0].tolist()
    assert len(few) == 3
    assert {*few} <= {1, 2, 3, 4, 10, 12, 13}
    assert stays([], paths, shard_of) is None
    assert stays([str(thinned)], paths[1:], shard_of).tolist() == [True, False, True, True]  # type: ignore[union-attr]
