"""The folder of an export, on a disk and in a bucket: files appear whole, and nothing of others is touched."""

import json
import multiprocessing
import re
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpp.export.dataset import open_folder
from cpp.export.folder import Folder
from cpp.files import filesystem
from cpp.store.lease import LockedError
from tests.support.object_store import ObjectStore

KEYS = {"00000": "0" * 16, "00001": "1" * 16}


@pytest.fixture(params=["disk", "s3"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder that is not there yet."""
    if request.param == "s3":
        request.getfixturevalue("s3")
    return f"{tmp_path}/out" if request.param == "disk" else "s3://bucket/out"


def export(where: str, images: int = 3, one_file: bool = False) -> Folder:
    """A folder with two shards that are done, and a file made of both."""
    folder = open_folder(where, one_file)
    with folder.claim("imagefolder"):
        folder.write_mark({"format": "imagefolder"})
    for shard, key in KEYS.items():
        names = [f"cat/{shard}-{row:06d}.jpg" for row in range(images)]
        if one_file:
            names = [f"{shard}.tar/{row}.jpg" for row in range(images)]
            put(where, f"{shard}.tar", b"tar")
        else:
            folder.place(shard, [(name, b"jpg") for name in names])
        with folder.writing(folder.part(shard, key)) as new:
            pq.write_table(pa.table({"file": pa.array(names, pa.string())}), new)
    put(where, "classes.csv", b"number\n")
    return folder


def put(where: str, name: str, data: bytes) -> None:
    fs, path = filesystem.connect(f"{where}/{name}")
    fs.makedirs(path.rpartition("/")[0], exist_ok=True)
    fs.pipe_file(path, data)


def rm(where: str, name: str) -> None:
    fs, path = filesystem.connect(f"{where}/{name}")
    fs.rm_file(path)


def names(where: str) -> set[str]:
    fs, path = filesystem.connect(where)
    found = {name[len(path) + 1 :] for name in fs.find(path)}
    return {name for name in found if not name.startswith((".lock", ".lease/"))}


def shards(where: str) -> set[str]:
    """Shards that anything is there of."""
    return {match[1] for name in names(where) if (match := re.search(r"(?:^|/)(?:\.|\.new-)?(\d{5})(?!\d)", name))}


@pytest.mark.parametrize("one_file", [False, True])
def test_what_is_finished_stays(where: str, one_file: bool) -> None:
    folder = export(where, one_file=one_file)
    before = names(where)
    assert shards(where) == set(KEYS)
    assert folder.clean(KEYS, ("classes.csv",)) == set(KEYS)
    assert names(where) == before


@pytest.mark.parametrize("one_file", [False, True])
def test_other_settings_and_lost_files_take_a_shard_away_and_what_is_made_of_all(where: str, one_file: bool) -> None:
    folder = export(where, one_file=one_file)
    assert folder.clean({**KEYS, "00001": "2" * 16}, ("classes.csv",)) == {"00000"}
    assert shards(where) == {"00000"}
    assert "classes.csv" not in names(where)
    rm(where, "00000.tar" if one_file else "cat/00000-000001.jpg")
    assert folder.clean(KEYS, ()) == set()
    assert names(where) == {"export.json"}
    assert not Path(f"{where}/cat").exists()  # ImageFolder takes an empty folder for a class, and fails


def test_images_that_a_killed_export_left_go(where: str) -> None:
    folder = export(where)
    rm(where, folder.part("00001", KEYS["00001"]))
    put(where, ".new-00001", b"half")
    assert folder.clean(KEYS, ()) == {"00000"}
    assert shards(where) == {"00000"}


def test_shards_that_are_no_longer_there_go(where: str) -> None:
    assert export(where).clean({"00000": KEYS["00000"]}, ()) == {"00000"}
    assert shards(where) == {"00000"}


def test_a_shard_without_images_is_done(where: str) -> None:
    assert export(where, images=0).clean(KEYS, ()) == set(KEYS)


def test_what_is_not_of_an_export_stays(where: str) -> None:
    folder = export(where)
    for name in ("cat/mine.jpg", "notes.txt", "a/b/00001-000001.jpg"):
        put(where, name, b"mine")
    folder.clean({}, ())
    assert names(where) == {"cat/mine.jpg", "notes.txt", "a/b/00001-000001.jpg", "export.json", "classes.csv"}


def test_a_file_appears_whole_or_not_at_all(where: str) -> None:
    folder = export(where)
    before = names(where)

    def broken() -> None:
        with folder.writing("a.csv") as path:
            path.write_text("half")
            raise RuntimeError("disk")

    with pytest.raises(RuntimeError, match="disk"):
        broken()
    assert names(where) == before


def test_a_link_that_a_dead_worker_left_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "source.jpg").write_bytes(b"source")
    (tmp_path / ".new-00000").symlink_to(tmp_path / "source.jpg")
    Folder(str(tmp_path), False).place("00000", [("cat/00000-000001.jpg", b"copy")])
    assert (tmp_path / "source.jpg").read_bytes() == b"source"
    assert (tmp_path / "cat/00000-000001.jpg").read_bytes() == b"copy"


def test_a_folder_with_something_else_is_refused_and_not_touched(where: str) -> None:
    put(where, "in/00000.tar", b"the source itself")
    with pytest.raises(PermissionError, match="holds files and is not an export: name a folder that is new or empty"):
        open_folder(where, True).claim("webdataset").__enter__()
    put(where, "export.json", json.dumps({"format": "csv"}).encode())
    with pytest.raises(PermissionError, match="holds an export in the format csv"):
        open_folder(where, True).claim("webdataset").__enter__()
    for foreign in (b"[]", b"{}", b"no json"):
        put(where, "export.json", foreign)
        with pytest.raises(PermissionError, match="holds files and is not an export"):
            open_folder(where, True).claim("webdataset").__enter__()
    assert names(where) == {"in/00000.tar", "export.json"}


def test_folders_that_cannot_be_written_are_one_error(tmp_path: Path, s3: ObjectStore) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PermissionError, match="cannot write to the folder"):
        open_folder(f"{tmp_path}/file/below", True).claim("webdataset").__enter__()
    with pytest.raises(PermissionError, match="cannot use the folder s3://no-such-bucket/out .*name with --to one in"):
        open_folder("s3://no-such-bucket/out", True).claim("webdataset").__enter__()


def test_images_go_to_a_bucket_sixteen_at_a_time(s3: ObjectStore) -> None:
    change, now, most = threading.Condition(), [0], [0]

    def counted(method: str, path: str) -> float:
        with change:
            now[0] += 1
            most[0] = max(most[0], now[0])
            change.notify_all()
            assert change.wait_for(lambda: most[0] >= 16, timeout=60)
        time.sleep(0.1)  # in which there may be one more
        with change:
            now[0] -= 1
        return 0.0

    s3.fault = counted
    open_folder("s3://bucket/out", False).place("00000", [(f"cat/00000-{row:06d}.jpg", b"jpg") for row in range(48)])
    assert most == [16]
    assert len(names("s3://bucket/out")) == 48


def _claim(where: str, said: "multiprocessing.Queue[str]") -> None:
    try:
        with open_folder(where, False).claim("csv"):
            said.put("mine")
    except LockedError as error:
        said.put(str(error))


def test_two_exports_into_one_folder_are_one_too_many(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may stand still
    said: multiprocessing.Queue[str] = context.Queue()
    with Folder(str(tmp_path), False).claim("csv"):
        other = context.Process(target=_claim, args=(str(tmp_path), said))
        other.start()
        assert "another export is writing to" in said.get(timeout=120)
        other.join()


def test_a_second_export_into_a_bucket_is_refused_by_name(s3: ObjectStore, quick: None) -> None:
    with (
        open_folder("s3://bucket/out", False).claim("csv"),
        pytest.raises(LockedError, match=r"s3://bucket/out \(process"),
    ):
        open_folder("s3://bucket/out", False).claim("csv").__enter__()
    with open_folder("s3://bucket/out", False).claim("csv"):
        pass
