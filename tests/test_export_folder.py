"""The folder of an export: files appear whole, only what is finished stays, and nothing of others is touched."""

import json
import multiprocessing
import os
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpp.export_folder import Folder
from cpp.store import LockedError

KEYS = {"00000": "0" * 16, "00001": "1" * 16}


def export(path: Path, images: int = 3, one_file: bool = False) -> Folder:
    """A folder with two shards that are done, and a file made of both."""
    folder = Folder(path, one_file)
    path.mkdir(exist_ok=True)
    folder.say({"format": "imagefolder"})
    for shard, key in KEYS.items():
        names = [f"cat/{shard}-{row:06d}.jpg" for row in range(images)]
        if one_file:
            names = [f"{shard}.tar/{row}.jpg" for row in range(images)]
            (path / f"{shard}.tar").write_bytes(b"tar")
        else:
            for name in names:
                new = folder.scratch(shard)
                new.write_bytes(b"jpg")
                folder.place(new, name)
        with folder.writing(folder.part(shard, key).name) as new:
            pq.write_table(pa.table({"file": pa.array(names, pa.string())}), new)
    (path / "classes.csv").write_text("number\n")
    return folder


def names(path: Path) -> set[str]:
    return {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()}


def shards(path: Path) -> set[str]:
    """Shards that anything is there of."""
    return {match[1] for name in names(path) if (match := re.search(r"(?:^|/)(?:\.|\.new-)?(\d{5})(?!\d)", name))}


@pytest.mark.parametrize("one_file", [False, True])
def test_what_is_finished_stays(tmp_path: Path, one_file: bool) -> None:
    folder = export(tmp_path, one_file=one_file)
    before = names(tmp_path)
    assert shards(tmp_path) == set(KEYS)
    assert folder.clean(KEYS, ("classes.csv",)) == set(KEYS)
    assert names(tmp_path) == before


@pytest.mark.parametrize("one_file", [False, True])
def test_other_settings_and_lost_files_take_a_shard_away_and_what_is_made_of_all(
    tmp_path: Path, one_file: bool
) -> None:
    folder = export(tmp_path, one_file=one_file)
    assert folder.clean({**KEYS, "00001": "2" * 16}, ("classes.csv",)) == {"00000"}
    assert shards(tmp_path) == {"00000"}
    assert "classes.csv" not in names(tmp_path)
    os.unlink(next(tmp_path.rglob("00000.tar" if one_file else "00000-000001.jpg")))
    assert folder.clean(KEYS, ()) == set()
    assert names(tmp_path) == {"export.json"}
    assert not (tmp_path / "cat").exists()  # ImageFolder takes an empty folder for a class, and fails


def test_images_that_a_killed_export_left_go(tmp_path: Path) -> None:
    folder = export(tmp_path)
    folder.part("00001", KEYS["00001"]).unlink()
    folder.scratch("00001").write_bytes(b"half")
    assert folder.clean(KEYS, ()) == {"00000"}
    assert shards(tmp_path) == {"00000"}


def test_shards_that_are_no_longer_there_go(tmp_path: Path) -> None:
    assert export(tmp_path).clean({"00000": KEYS["00000"]}, ()) == {"00000"}
    assert shards(tmp_path) == {"00000"}


def test_a_shard_without_images_is_done(tmp_path: Path) -> None:
    assert export(tmp_path, images=0).clean(KEYS, ()) == set(KEYS)


def test_what_is_not_of_an_export_stays(tmp_path: Path) -> None:
    folder = export(tmp_path)
    (tmp_path / "cat/mine.jpg").write_bytes(b"mine")
    (tmp_path / "notes.txt").write_text("mine")
    folder.clean({}, ())
    assert names(tmp_path) == {"cat/mine.jpg", "notes.txt", "export.json", "classes.csv"}


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = Folder(tmp_path, False)

    def broken() -> None:
        with folder.writing("a.csv") as path:
            path.write_text("half")
            raise RuntimeError("disk")

    with pytest.raises(RuntimeError, match="disk"):
        broken()
    assert list(tmp_path.iterdir()) == []


def test_a_link_that_a_dead_worker_left_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "source.jpg").write_bytes(b"source")
    folder = Folder(tmp_path / "out", False)
    folder.path.mkdir()
    folder.scratch("00000").symlink_to(tmp_path / "source.jpg")
    folder.scratch("00000").write_bytes(b"copy")
    assert (tmp_path / "source.jpg").read_bytes() == b"source"


def test_a_folder_with_something_else_is_refused_and_not_touched(tmp_path: Path) -> None:
    (tmp_path / "00000.tar").write_bytes(b"the source itself")
    with pytest.raises(PermissionError, match="holds files and is not an export: name a folder that is new or empty"):
        Folder(tmp_path, True).claim("webdataset").__enter__()
    (tmp_path / "export.json").write_text(json.dumps({"format": "csv"}))
    with pytest.raises(PermissionError, match="holds an export in the format csv"):
        Folder(tmp_path, True).claim("webdataset").__enter__()
    for foreign in ("[]", "{}", "no json"):
        (tmp_path / "export.json").write_text(foreign)
        with pytest.raises(PermissionError, match="holds files and is not an export"):
            Folder(tmp_path, True).claim("webdataset").__enter__()
    assert (tmp_path / "00000.tar").read_bytes() == b"the source itself"
    (tmp_path / "file").write_text("")
    with pytest.raises(PermissionError, match="cannot write to the folder"):
        Folder(tmp_path / "file/below", True).claim("webdataset").__enter__()


def _claim(path: Path, said: "multiprocessing.Queue[str]") -> None:
    try:
        with Folder(path, False).claim("csv"):
            said.put("mine")
    except LockedError as error:
        said.put(str(error))


def test_two_exports_into_one_folder_are_one_too_many(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    said: multiprocessing.Queue[str] = context.Queue()
    with Folder(tmp_path, False).claim("csv"):
        other = context.Process(target=_claim, args=(tmp_path, said))
        other.start()
        assert "another export is writing to" in said.get(timeout=20)
        other.join()
