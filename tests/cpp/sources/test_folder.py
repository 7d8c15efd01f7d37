"""Texts and tables beside the images of a folder become their captions and metadata."""

import json
from pathlib import Path
from typing import Any

import pytest

from cpp.sources import ignored as reasons
from cpp.sources import shards as sources
from cpp.sources.ignored import FileCounts
from cpp.sources.samples import Reason
from cpp.sources.shards import Images, iter_shards, read_images, read_samples
from tests.support.tars import JPEG, write_images


def rows(folder: Path, **settings: Any) -> dict[str, tuple[Reason | None, dict[str, Any]]]:
    shards = sources.shards(Images("folder", (str(folder),), **settings)).values()
    return {s.key: (s.reason, s.metadata) for shard in shards for s in read_samples(shard)}


def test_texts_beside_an_image_are_its_caption_and_metadata(tmp_path: Path) -> None:
    write_images(tmp_path, ["a.jpg", "b.png", "d/c.jpg", "d/e.jpg", "f.jpg"])
    for name, text in {
        "a.txt": "a cat\n", "a.json": '{"n": 1, "caption": "other"}', "b.caption": "tags", "d/c.jpg.json": '{"n": 2}',
        "d/a.txt": "of no image", "f.txt": "\ufefff",
    }.items():  # fmt: skip
        (tmp_path / name).write_text(text)
    assert (
        rows(tmp_path, labels=True)
        == {
            "a.jpg": (None, {"label": None, "caption": "a cat", "n": 1, "source_caption": "other"}),
            "b.png": (None, {"label": None, "caption": "tags"}),
            "d/c.jpg": (None, {"label": "d", "n": 2}),
            "d/e.jpg": (None, {"label": "d"}),
            "f.jpg": (None, {"label": None, "caption": "f"}),
        }
        or rows(tmp_path, labels=True)["a.jpg"][1]["source_caption"] == "a cat"
    )
    counts = FileCounts()
    list(iter_shards(Images("folder", (str(tmp_path),)), counts))
    assert counts.first == {f"{reasons.NO_PICTURE} (.txt)": "d/a.txt"}


def test_texts_that_cannot_be_read_reject_their_image(tmp_path: Path) -> None:
    write_images(tmp_path, ["a.jpg", "b.jpg"])
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "b.json").write_text("[1]")
    assert {key: reason for key, (reason, _) in rows(tmp_path).items()} == {
        "a.jpg": Reason.BAD_TEXT,
        "b.jpg": Reason.BAD_JSON,
    }


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_tables_of_image_folders_give_metadata_and_name_missing_images(tmp_path: Path, kind: str) -> None:
    write_images(tmp_path, ["train/1.jpg", "train/x/2.jpg", "train/3.jpg", "test/1.jpg"])
    table = [{"file_name": "1.jpg", "text": "one, 1"}, {"file_name": "./x/2.jpg", "text": "two"}]
    table += [{"file_name": "4.jpg", "text": "missing"}]
    lines = ["file_name,text", *(f'{row["file_name"]},"{row["text"]}"' for row in table)]
    text = "\n".join(lines if kind == "csv" else [*map(json.dumps, table), ""])
    (tmp_path / f"train/metadata.{kind}").write_text(text)
    expected = {
        "test/1.jpg": (None, {}),
        "train/1.jpg": (None, {"text": "one, 1"}),
        "train/3.jpg": (None, {}),
        "train/4.jpg": (Reason.MISSING, {"text": "missing"}),
        "train/x/2.jpg": (None, {"text": "two"}),
    }
    assert rows(tmp_path) == expected
    for size in (1, 2, 3):
        assert rows(tmp_path, shard_size=size) == expected


def test_a_table_of_something_else_is_no_metadata_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    write_images(tmp_path, ["1.jpg"])
    (tmp_path / "metadata.jsonl").write_text('{"other": 1}\n')
    assert rows(tmp_path) == {"1.jpg": (None, {})}
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "1.jpg"}\n{"file_name": \n')
    with pytest.raises(ValueError, match=r"metadata\.jsonl cannot be read after row 1 .*: correct or remove it"):
        rows(tmp_path)
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "1.jpg"}\n{"text": "x"}\n')
    with pytest.raises(ValueError, match=r"metadata\.jsonl: row 2 has no text in file_name"):
        rows(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "metadata.csv",
            "file_name,a\n1.jpg\n",
            "cannot be read after row 0 .it has more or fewer fields than the header",
        ),
        ("metadata.csv", "file_name,a,a\n1.jpg,1,2\n", "cannot be read after row 0 .several columns have one name"),
        (
            "metadata.jsonl",
            '{"file_name": "1.jpg", "a": "\\ud800"}\n',
            r"row 1 has '\\ud800', half of a surrogate pair",
        ),
        ("metadata.jsonl", '{"file_name": "\\ud800.jpg"}\n', r"row 1 has '\\ud800\.jpg', half of a surrogate pair"),
    ],
)
def test_rows_of_tables_that_cannot_be_read_are_errors(tmp_path: Path, name: str, text: str, message: str) -> None:
    write_images(tmp_path, ["1.jpg"])
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        rows(tmp_path)


def test_a_table_without_file_names_is_left_out_with_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(tmp_path, ["1.jpg"])
    (tmp_path / "metadata.csv").write_text("file_name;a\n1.jpg;1\n")
    assert rows(tmp_path) == {"1.jpg": (None, {})}
    assert capsys.readouterr().out == f"{tmp_path}/metadata.csv has no column file_name and is left out\n"


def test_a_link_to_itself_is_a_missing_image(tmp_path: Path) -> None:
    write_images(tmp_path, ["1.jpg"])
    (tmp_path / "2.jpg").symlink_to("2.jpg")
    assert rows(tmp_path) == {"1.jpg": (None, {}), "2.jpg": (Reason.MISSING, {})}


def test_a_changed_text_changes_the_shard_of_its_image(tmp_path: Path) -> None:
    write_images(tmp_path, [f"{i}.jpg" for i in range(9)])
    images = Images("folder", (str(tmp_path),), shard_size=3)
    before = sources.shards(images)
    (tmp_path / "4.txt").write_text("new")
    changed = [name for name, shard in sources.shards(images).items() if shard != before[name]]
    assert [before[name].names for name in changed if "4.jpg" in before[name].names]  # type: ignore[union-attr]
    assert len(changed) == 1
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "1.jpg"}\n')
    assert all(shard != before[name] for name, shard in sources.shards(images).items())


@pytest.mark.parametrize(
    "name",
    ["a::b.jpg", "t::u/v.jpg", "x::y", "c%20d.jpg", "#e.jpg", "~f.jpg", " g .jpg", "h\ni.jpg", "[j].jpg", "{k,l}.jpg"],
)
def test_any_name_of_a_file_is_read(tmp_path: Path, name: str) -> None:
    (shard,) = sources.shards(Images("folder", (write_images(tmp_path, [name]),))).values()
    assert [(s.key, s.image) for s in read_samples(shard)] == [(name, JPEG + name.encode())]
    assert read_images(shard.path, [name]) == {name: JPEG + name.encode()}


def test_images_of_a_folder_that_is_gone_are_none() -> None:
    assert read_images("/nowhere/photos", ["a.jpg"]) == {}


def test_images_are_the_bytes_of_their_files(tmp_path: Path) -> None:
    write_images(tmp_path, ["a.jpg", "b"])
    (shard,) = sources.shards(Images("folder", (str(tmp_path),))).values()
    assert [s.image for s in read_samples(shard)] == [JPEG + b"a.jpg", JPEG + b"b"]
