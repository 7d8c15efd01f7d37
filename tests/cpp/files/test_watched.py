"""A bucket that accepts a request and does not answer is named, with what waits for it, while it is silent."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cpp.files import filesystem, scratch
from cpp.store.object_store import Bucket
from tests.support.object_store import ObjectStore
from tests.support.stalls import Stall

FOLDER, ADDRESS = "s3://bucket/run", "s3://bucket/run/a.tar"
STORE = Bucket(FOLDER)._objects


@pytest.mark.parametrize(
    ("operation", "address"),
    [
        (lambda file: list(filesystem.list_folder(FOLDER)), FOLDER),
        (lambda file: scratch.download(ADDRESS, scratch.folder()), ADDRESS),
        (lambda file: STORE.put(file, "a.tar"), ADDRESS),
        (lambda file: STORE.write(b"new", "a.tar"), ADDRESS),
        (lambda file: STORE.remove(["a.tar"]), ADDRESS),
        (lambda file: STORE.below(""), FOLDER),
    ],
)
def test_an_operation_on_a_stalled_bucket_is_reported(
    operation: Callable[[Path], object], address: str, s3: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    filesystem.connect(ADDRESS)[0].pipe_file("bucket/run/a.tar", b"content")
    (tmp_path / "a.tar").write_bytes(b"new")
    stall = Stall(monkeypatch)
    s3.fault = lambda method, path: stall.wait()
    operation(tmp_path / "a.tar")
    assert stall.lines[0] == ("s3", f"{address} has taken N s, still waiting")


@pytest.mark.parametrize("ahead", [False, True])
def test_the_read_of_a_file_in_a_stalled_bucket_is_reported(
    ahead: bool, s3: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    filesystem.connect(ADDRESS)[0].pipe_file("bucket/run/a.tar", b"content")
    with filesystem.open_file(ADDRESS, ahead=ahead) as file:
        stall = Stall(monkeypatch)
        s3.fault = lambda method, path: stall.wait()
        assert file.read() == b"content"
    assert stall.lines[0] == ("s3", f"{ADDRESS} has taken N s, still waiting")


def test_a_bucket_that_answers_is_not_reported(s3: ObjectStore, capfd: pytest.CaptureFixture[str]) -> None:
    STORE.write(b"content", "a.tar")
    with filesystem.open_file(ADDRESS) as file:
        assert file.read() == b"content"
    assert capfd.readouterr().out == ""
