"""The target folder of an export on a disk and in a bucket: what counts as finished, and whose files are touched."""

import json
import multiprocessing
import re
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpp.export.dataset import LISTS
from cpp.export.target import FILES, Target, open_target
from cpp.files import filesystem
from cpp.store.lease import LockedError
from tests.support.object_store import ObjectStore

SHARDS = ("00000", "00001")
FINGERPRINT = "0" * 16
NAMES = {f".{shard}-{FINGERPRINT}.parquet" for shard in SHARDS}


@pytest.fixture(params=["disk", "s3"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder that does not exist."""
    if request.param == "s3":
        request.getfixturevalue("s3")
    return f"{tmp_path}/out" if request.param == "disk" else "s3://bucket/out"


def export(where: str, images: int = 3, tars: bool = False) -> Target:
    """A folder with two finished shards, and a file that combines them."""
    target = open_target(where, tars)
    with target.lock():
        target.write_mark({"format": "imagefolder"})
        for shard in SHARDS:
            n_files = min(images, 1) if tars else images
            with target.commit({"list": target.path(LISTS, shard, FINGERPRINT)}) as out:
                target.place((f"cat/{shard}-{row:06d}.jpg", b"jpg") for row in range(0 if tars else images))
                metadata = {FILES: json.dumps([shard, n_files])}
                pq.write_table(pa.table({"row": range(images)}).replace_schema_metadata(metadata), out["list"])
            if tars and n_files:
                put(where, f"{shard}.tar", b"tar")
        put(where, "classes.csv", b"number\n")
    return target


def put(where: str, name: str, data: bytes) -> None:
    fs, path = filesystem.connect(f"{where}/{name}")
    fs.makedirs(path.rpartition("/")[0], exist_ok=True)
    fs.pipe_file(path, data)


def remove(where: str, name: str) -> None:
    fs, path = filesystem.connect(f"{where}/{name}")
    fs.rm_file(path)


def names(where: str) -> set[str]:
    fs, path = filesystem.connect(where)
    paths = {name[len(path) + 1 :] for name in fs.find(path)}
    return {name for name in paths if not name.startswith((".lock", ".lease/"))}


def shards(where: str) -> set[str]:
    """The shards that have a file."""
    return {match[1] for name in names(where) if (match := re.search(r"(?:^|/)\.?(\d{5})(?!\d)", name))}


@pytest.mark.parametrize("tars", [False, True])
def test_finished_shards_are_listed_and_stay(where: str, tars: bool) -> None:
    target = export(where, tars=tars)
    before = names(where)
    assert shards(where) == set(SHARDS)
    assert target.listing(LISTS) == NAMES
    target.clean(SHARDS, NAMES)
    assert names(where) == before


@pytest.mark.parametrize("tars", [False, True])
def test_a_shard_with_a_lost_file_is_not_finished(where: str, tars: bool) -> None:
    target = export(where, tars=tars)
    remove(where, "00000.tar" if tars else "cat/00000-000001.jpg")
    assert target.listing(LISTS) == {f".00001-{FINGERPRINT}.parquet"}


@pytest.mark.parametrize("tars", [False, True])
def test_other_shards_and_lists_and_combined_files_are_removed(where: str, tars: bool) -> None:
    target = export(where, tars=tars)
    target.clean({"00000"}, {f".00000-{FINGERPRINT}.parquet"}, ("classes.csv",))
    assert shards(where) == {"00000"}
    assert "classes.csv" not in names(where)
    target.clean((), ())
    assert names(where) == {"export.json"}
    assert not Path(f"{where}/cat").exists()  # ImageFolder takes an empty folder for a class, and fails


def test_images_without_a_list_are_not_finished(where: str) -> None:
    target = export(where)
    remove(where, f".00001-{FINGERPRINT}.parquet")
    assert target.listing(LISTS) == {f".00000-{FINGERPRINT}.parquet"}


def test_a_shard_without_images_is_finished(where: str) -> None:
    assert export(where, images=0).listing(LISTS) == NAMES


@pytest.mark.parametrize("tars", [False, True])
def test_files_that_no_export_wrote_stay(where: str, tars: bool) -> None:
    target = export(where, tars=tars)
    other = {"cat/mine.jpg", "notes.txt", "a/b/00001-000001.jpg", "cat/00002-000000.jpg" if tars else "mine.tar"}
    for name in other:
        put(where, name, b"mine")
    target.clean((), ())
    assert names(where) == {*other, "export.json", "classes.csv"}


def test_unfinished_files_of_a_killed_export_are_removed(tmp_path: Path) -> None:
    target = export(f"{tmp_path}/out")
    (target.scratch() / "half").write_bytes(b"half")
    with target.lock():
        assert not list(target.scratch().iterdir())
    assert not (tmp_path / "out/.tmp").exists()


def test_a_link_that_a_dead_worker_left_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "source.jpg").write_bytes(b"source")
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/00000-000001.jpg").symlink_to(tmp_path / "source.jpg")
    open_target(str(tmp_path), tars=False).place([("cat/00000-000001.jpg", b"copy")])
    assert (tmp_path / "source.jpg").read_bytes() == b"source"
    assert (tmp_path / "cat/00000-000001.jpg").read_bytes() == b"copy"


def test_a_folder_with_other_files_is_refused_and_not_touched(where: str) -> None:
    put(where, "in/00000.tar", b"the source itself")
    target = open_target(where, tars=True)
    with pytest.raises(PermissionError, match="holds files and is not an export: name a folder that is new or empty"):
        target.check("webdataset")
    put(where, "export.json", json.dumps({"format": "csv"}).encode())
    with pytest.raises(PermissionError, match="holds an export in the format csv"):
        target.check("webdataset")
    for foreign in (b"[]", b"{}", b"no json"):
        put(where, "export.json", foreign)
        with pytest.raises(PermissionError, match="holds files and is not an export"):
            target.check("webdataset")
    assert names(where) == {"in/00000.tar", "export.json"}


def test_a_folder_that_cannot_be_written_is_one_error(tmp_path: Path, s3: ObjectStore) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PermissionError, match="cannot write to the folder .* name with --to one that can be written"):
        open_target(f"{tmp_path}/file/below", tars=True).lock().__enter__()
    with pytest.raises(PermissionError, match="cannot use the folder s3://no-such-bucket/out .*name with --to an"):
        open_target("s3://no-such-bucket/out", tars=True).lock().__enter__()


def test_images_are_uploaded_sixteen_at_a_time(s3: ObjectStore) -> None:
    change, now, most = threading.Condition(), [0], [0]

    def counted(method: str, path: str) -> float:
        with change:
            now[0] += 1
            most[0] = max(most[0], now[0])
            change.notify_all()
            assert change.wait_for(lambda: most[0] >= 16, timeout=60)
        time.sleep(0.1)  # in which another request may start
        with change:
            now[0] -= 1
        return 0.0

    s3.fault = counted
    open_target("s3://bucket/out", tars=False).place((f"cat/00000-{row:06d}.jpg", b"jpg") for row in range(48))
    assert most == [16]
    assert len(names("s3://bucket/out")) == 48


def _lock(where: str, messages: "multiprocessing.Queue[str]") -> None:
    try:
        with open_target(where, tars=False).lock():
            messages.put("locked")
    except LockedError as error:
        messages.put(str(error))


def test_a_second_export_into_a_folder_is_refused(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may stand still
    messages: multiprocessing.Queue[str] = context.Queue()
    with open_target(str(tmp_path), tars=False).lock():
        other = context.Process(target=_lock, args=(str(tmp_path), messages))
        other.start()
        assert f"another run is writing to {tmp_path} (process" in messages.get(timeout=120)
        other.join()


def test_a_second_export_into_a_bucket_is_refused_by_name(s3: ObjectStore, quick: None) -> None:
    with (
        open_target("s3://bucket/out", tars=False).lock(),
        pytest.raises(LockedError, match=r"s3://bucket/out \(process"),
    ):
        open_target("s3://bucket/out", tars=False).lock().__enter__()
    with open_target("s3://bucket/out", tars=False).lock():
        pass
