"""Keys of tars are plain, their own, and as they were where they can be; JSON is JSON."""

import json
import math
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest

from cpp.export.tables import to_json
from cpp.export.target import Target
from cpp.export.webdataset import PLAIN, sample_keys, write


def test_plain_keys_stay() -> None:
    keys = ["000000012", "a-b_C", "x" * 80]
    assert sample_keys(keys) == keys


@pytest.mark.parametrize("key", ["a.b", "../../x", "/etc/passwd", "", "x" * 81, "ключ", "a b", "a\nb", ".", "a/b.jpg"])
def test_others_are_called_by_their_row(key: str) -> None:
    assert sample_keys(["first", key]) == ["first", "row-000001"]


def test_no_two_samples_have_one_key() -> None:
    """Neither by repeating, nor by case, nor by looking like a key of ours."""
    keys = ["a", "a", "A", "row-000001", "ROW-000002", "row-000000", "b", "b.c", "row-000007_"]
    found = sample_keys(keys)
    assert len({key.casefold() for key in found}) == len(keys)
    assert all(PLAIN.fullmatch(key) for key in found)
    assert [k for k, own in zip(found, keys, strict=True) if k == own] == [
        "row-000001", "ROW-000002", "row-000000", "b", "row-000007_",
    ]  # fmt: skip


def test_json_has_no_nan() -> None:
    value = {"a": math.nan, "b": [math.inf, 1.5, {"c": -math.inf}], "d": "text", "e": None}
    said = to_json(value)
    assert json.loads(said, parse_constant=pytest.fail) == {
        "a": None,
        "b": [None, 1.5, {"c": None}],
        "d": "text",
        "e": None,
    }


def test_a_tar_has_the_image_first_and_equal_bytes_every_time(tmp_path: Path) -> None:
    rows = pa.table({"key": ["a", "b c"], "class": [0, 1]})
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        images = [(0, b"first", "jpg"), (1, b"second", "png")]
        files = write(Target(str(folder), tars=True), "00000", images, rows, pa.table({}))
    assert files == {0: "00000.tar/a.jpg", 1: "00000.tar/row-000001.png"}
    with tarfile.open(tmp_path / "one" / "00000.tar") as tar:
        members = tar.getmembers()
    assert [m.name.rpartition(".")[2] for m in members] == ["jpg", "cls", "json", "png", "cls", "json"]
    assert {(m.mtime, m.mode, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0o644, 0, 0, "", "")}
    assert (tmp_path / "one" / "00000.tar").read_bytes() == (tmp_path / "two" / "00000.tar").read_bytes()
