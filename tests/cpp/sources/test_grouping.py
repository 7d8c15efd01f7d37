"""Every picture of a tar is a sample or a rejected row, once, with its own texts, however the names are written."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpp.sources.samples import Reason
from cpp.sources.shards import read_images
from tests.support.tars import JPEG, samples, write_tar

Row = tuple[str, Reason | None, dict[str, Any]]


def rows(folder: Path, *names: str) -> list[Row]:
    """The rows of a tar with these members; the content of a text is its name."""
    members = [(name, JPEG if name.lower().endswith(("jpg", "png")) else name.encode()) for name in names]
    return [(s.key, s.reason, s.metadata) for s in samples(write_tar(folder / "a.tar", members))]


def test_the_case_of_a_key_is_kept_and_joins_the_table(tmp_path: Path) -> None:
    pq.write_table(pa.table({"key": ["DSC_1.By_Ann", None], "n": [7, 8]}), tmp_path / "a.parquet")
    assert rows(tmp_path, "DSC_1.By_Ann.JPG") == [("DSC_1.By_Ann", None, {"n": 7})]


@pytest.mark.parametrize("names", [("i.back.jpg", "i.jpg", "i.txt"), ("i.jpg", "i.txt", "i.back.jpg")])
def test_further_pictures_of_a_sample_are_rejected_rows(tmp_path: Path, names: tuple[str, ...]) -> None:
    assert rows(tmp_path, *names) == [("i", None, {"caption": "i.txt"}), ("i.back", Reason.ANOTHER, {})]


def test_many_frames_of_one_name_are_samples_wherever_the_plain_name_is(tmp_path: Path) -> None:
    frames = [f"clip.{i:03d}.jpg" for i in range(30)]
    expected = {"clip", *(name.removesuffix(".jpg") for name in frames)}
    assert {row[:2] for row in rows(tmp_path, *frames, "clip.jpg")} == {(key, None) for key in expected}
    assert {row[0] for row in rows(tmp_path, "clip.jpg", *frames)} == expected


def test_one_picture_and_texts_of_other_names_are_one_sample(tmp_path: Path) -> None:
    assert rows(tmp_path, "s.input.jpg", "s.output.txt") == [("s", None, {"output": "s.output.txt"})]
    assert rows(tmp_path, "s.jpg", "s.mask.cls", "s.txt") == [
        ("s", None, {"caption": "s.txt", "mask": "s.mask.cls"}),
    ]


def test_several_pictures_share_the_text_of_their_sample(tmp_path: Path) -> None:
    assert rows(tmp_path, "p.1.jpg", "p.2.jpg", "p.txt", "p.2.txt") == [
        ("p.1", None, {"caption": "p.txt"}),
        ("p.2", None, {"caption": "p.2.txt", "source_caption": "p.txt"}),
    ]


@pytest.mark.parametrize(
    "names",
    [
        ("a.jpg", "b.jpg", "a.txt", "b.txt", "b.cls"),
        ("a.txt", "b.txt", "b.cls", "a.jpg", "b.jpg"),
        ("a.txt", "b.jpg", "a.jpg", "b.cls", "b.txt"),
    ],
)
def test_texts_need_not_lie_beside_their_picture(tmp_path: Path, names: tuple[str, ...]) -> None:
    assert sorted(rows(tmp_path, *names)) == [
        ("a", None, {"caption": "a.txt"}),
        ("b", None, {"caption": "b.txt", "label": "b.cls"}),
    ]


def test_texts_without_a_picture_are_rejected_rows_at_the_end(tmp_path: Path) -> None:
    assert rows(tmp_path, "a.txt", "b.jpg", "b.txt", "c.json", "d.mp4") == [
        ("b", None, {"caption": "b.txt"}),
        ("a", Reason.NO_IMAGE, {"caption": "a.txt"}),
        ("c", Reason.NO_IMAGE, {}),
        ("d", Reason.NO_IMAGE, {}),
    ]


def test_what_is_a_picture_is_told_by_name_and_else_by_the_first_bytes(tmp_path: Path) -> None:
    members = [("a.gif", b"x"), ("b", JPEG), ("c.JPG_large", JPEG), ("d.heic", b"x"), ("e.dng", b"x"), ("f.jfif", b"x")]
    tar = write_tar(tmp_path / "a.tar", [*members, ("g", b"text"), ("h.mp4", JPEG)])
    assert [(s.key, s.image, s.reason) for s in samples(tar)] == [
        ("a", b"x", None),
        ("b", JPEG, None),
        ("c", JPEG, None),
        ("d", b"x", None),
        ("e", None, Reason.RAW),
        ("f", b"x", None),
        ("g", None, Reason.NO_IMAGE),
        ("h", None, Reason.NO_IMAGE),
    ]
    assert read_images(tar, ["b", "c"]) == {"b": JPEG, "c": JPEG}
