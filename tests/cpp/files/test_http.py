"""Files on the web: a server that fails at first is asked again, and what breaks off is never taken for the whole."""

import contextlib
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import aiohttp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpp.files import filesystem, scratch, slow_servers, tables
from cpp.files import http as web
from cpp.sources import folder, paths, vectors
from cpp.sources.samples import Reason
from cpp.sources.tar import DamagedTarError, TarShard
from tests.support.object_store import disconnect
from tests.support.tars import write_tar

Fault = str | int | None
"""An HTTP status, "cut" off in the middle of the answer, "slow", "close" without an answer, or nothing."""


@dataclass
class Server:
    """Files on the web; `fault` is asked for each request by its number, method and path."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    fault: Callable[[int, str, str], Fault] = lambda number, method, path: None
    headers: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    requests: list[tuple[str, str]] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(web, "WAIT", 0.01)
    forget()
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    http.said = made = Server(f"http://127.0.0.1:{http.server_port}")  # type: ignore[attr-defined]
    Thread(target=http.serve_forever, daemon=True).start()
    yield made
    http.shutdown()
    http.server_close()
    forget()


def forget() -> None:
    """Connections are made anew, with the timeouts that hold now."""
    web.Web.clear_instance_cache()
    disconnect()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        said: Server = self.server.said  # type: ignore[attr-defined]
        number = len(said.requests)
        said.requests.append((self.command, self.path))
        fault = said.fault(number, self.command, self.path)
        status: int = fault if isinstance(fault, int) else 200 if self.path in said.files else 404
        body = said.files.get(self.path, b"") if status == 200 else b""
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked and status == 200 and said.ranges:
            status, body = 206, body[int(asked[1]) : int(asked[2]) + 1]
        if fault == "slow":
            time.sleep(0.5)
        if fault == "close":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | said.headers).items():
            self.send_header(name, value)
        if not said.ranges:
            self.send_header("Accept-Ranges", "none")
        self.end_headers()
        if self.command == "GET":
            with contextlib.suppress(ConnectionError):  # who asked has given up
                self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)
            if fault == "cut":
                self.close_connection = True

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        pass


def once(fault: Fault) -> Callable[[int, str, str], Fault]:
    """The fault for the first two requests of each method for each file."""
    seen: dict[tuple[str, str], int] = {}

    def asked(number: int, method: str, path: str) -> Fault:
        seen[method, path] = seen.get((method, path), 0) + 1
        return fault if seen[method, path] <= 2 else None

    return asked


FAULTS: list[Fault] = [500, 503, 429, "close", "cut", "slow"]


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_that_pass_are_not_noticed(
    server: Server, fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault == "slow":  # only here: elsewhere a busy machine would be taken for a slow server
        monkeypatch.setattr(web, "TIMEOUT", aiohttp.ClientTimeout(sock_read=0.3))
    X = np.arange(12, dtype=np.float32).reshape(6, 2)
    np.save(tmp_path / "X.npy", X)
    pq.write_table(pa.table({"key": ["a", "b"]}), tmp_path / "m.parquet")
    write_tar(tmp_path / "0.tar", [(f"{i}.txt", b"text") for i in range(40)])
    server.files = {f"/{path.name}": path.read_bytes() for path in tmp_path.iterdir()}
    server.fault = once(fault)
    assert [path for path, _ in paths.expand([f"{server.url}/{{0.tar,X.npy}}"])] == [
        f"{server.url}/0.tar",
        f"{server.url}/X.npy",
    ]
    assert vectors.read_vectors(f"{server.url}/X.npy").tolist() == X.tolist()
    assert vectors.read_metadata(f"{server.url}/m.parquet")["key"].to_pylist() == ["a", "b"]
    assert len(list(TarShard(f"{server.url}/0.tar", "").read(1 << 20))) == 40
    server.fault = once(fault)
    (batch,) = tables.batches([f"{server.url}/m.parquet"], ["key"], 1)
    assert batch["key"].to_pylist() == ["a", "b"]
    assert (
        Path(scratch.download(f"{server.url}/m.parquet", scratch.folder())).read_bytes() == server.files["/m.parquet"]
    )


def test_a_server_that_is_silent_or_fails_is_reported_within_seconds(
    server: Server, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The server answers as soon as the line about its silence is out."""
    monkeypatch.setattr(slow_servers, "SILENCE", 0.1)
    printed, reported = Event(), list[str]()
    report = web._Reports.line

    def line(reports: web._Reports, host: str, text: str) -> None:
        report(reports, host, text)
        reported.append(text)
        printed.set()

    monkeypatch.setattr(web._Reports, "line", line)

    def fault(number: int, method: str, path: str) -> Fault:
        if method == "GET" and not reported:
            assert printed.wait(600)
            return 503
        return None

    server.files = {"/a.bin": b"x" * 100}
    server.fault = fault
    with filesystem.open_file(f"{server.url}/a.bin") as file:
        assert file.read() == b"x" * 100
    assert reported[0].startswith("no answer for 0 s, still waiting")
    assert any(re.fullmatch(r"status 503, trying again in \d+ s \(attempt 2 of 8\)", text) for text in reported)
    assert "127.0.0.1: no answer for" in capfd.readouterr().out


def test_single_images_of_a_table_are_requested_without_lines(
    server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    server.fault = lambda number, method, path: 503
    with (
        pytest.raises(OSError, match="did not answer"),
        filesystem.open_file(f"{server.url}/a.jpg", attempts=2) as file,
    ):
        file.read()
    assert capfd.readouterr().out == ""


def big_tar(server: Server, folder: Path) -> list[bytes]:
    """A tar of 12 MB on the server, one and a half times the size of a request; the images in it."""
    images = [bytes([i]) * 200_000 for i in range(60)]
    tar = write_tar(folder / "0.tar", [(f"{i:03d}.jpg", image) for i, image in enumerate(images)])
    server.files["/0.tar"] = Path(tar).read_bytes()
    return images


def test_the_next_block_of_a_tar_is_requested_while_this_one_is_read(server: Server, tmp_path: Path) -> None:
    images, second = big_tar(server, tmp_path), Event()
    server.fault = lambda number, method, path: second.set() if number >= 2 else None  # a HEAD, then the blocks
    reader = TarShard(f"{server.url}/0.tar", "").read(1 << 20)
    assert next(reader).image == images[0]
    assert second.wait(600)
    assert [sample.image for sample in reader] == images[1:]
    assert len(server.requests) == 3  # each block once


def test_a_tar_that_breaks_off_is_read_on_from_the_broken_range(server: Server, tmp_path: Path) -> None:
    images = big_tar(server, tmp_path)
    faults: dict[int, Fault] = {1: "cut", 2: 416, 4: "cut"}  # some servers send 416 in place of 503
    server.fault = lambda number, method, path: faults.get(number)
    assert [sample.image for sample in TarShard(f"{server.url}/0.tar", "").read(1 << 20)] == images
    assert len(server.requests) == 1 + 2 + len(faults)  # HEAD, two ranges, and the repeated ones
    server.fault = lambda number, method, path: "cut" if method == "GET" else None
    with pytest.raises((ConnectionError, DamagedTarError), match=r"0\.tar did not answer after 8 attempts"):
        list(TarShard(f"{server.url}/0.tar", "").read(1 << 20))


def test_a_tar_without_ranges_that_breaks_off_fails_by_name(server: Server, tmp_path: Path) -> None:
    images = big_tar(server, tmp_path)
    server.ranges = False
    assert [sample.image for sample in TarShard(f"{server.url}/0.tar", "").read(1 << 20)] == images
    server.fault = lambda number, method, path: "cut" if method == "GET" else None
    with pytest.raises(ConnectionError, match=r"the answer of http.*/0\.tar broke off"):
        list(TarShard(f"{server.url}/0.tar", "").read(1 << 20))


def test_a_server_that_fails_for_good_is_not_taken_for_one_without_the_file(server: Server) -> None:
    """Of a tar whose table cannot be looked for it is not known that it has none."""
    server.files["/0.tar"] = b"tar"
    assert paths.siblings({"0.tar": f"{server.url}/0.parquet"}) == {}
    assert len(server.requests) == 2  # HEAD and GET: it is not there
    server.fault = lambda number, method, path: 503 if path.endswith(".parquet") else None
    with pytest.raises(ConnectionError, match=r"0\.parquet did not answer after 8 attempts .*503"):
        paths.siblings({"0.tar": f"{server.url}/0.parquet"})


def test_a_server_that_says_when_to_ask_again_is_asked_then(server: Server) -> None:
    server.files["/a.txt"] = b"a"
    server.headers = {"Retry-After": "1"}
    server.fault = lambda number, method, path: 429 if number < 2 else None
    start = time.monotonic()
    assert vectors.read_lines(f"{server.url}/a.txt") == ["a"]
    assert time.monotonic() - start >= 1


def test_images_of_a_table_are_asked_for_three_times_and_dead_ones_once(server: Server) -> None:
    server.files = {"/late.jpg": b"jpg", "/dead.jpg": b"", "/denied.jpg": b""}
    late = once(503)
    faults: dict[str, Fault] = {"/dead.jpg": 500, "/denied.jpg": 403, "/missing.jpg": 404}
    server.fault = lambda number, method, path: faults[path] if path in faults else late(number, method, path)
    names = ["late.jpg", "dead.jpg", "denied.jpg", "missing.jpg"]
    found = list(folder.FolderShard(server.url, "", tuple(names)).read(1 << 20))
    assert [sample.image or sample.reason for sample in found] == [
        b"jpg", Reason.UNREADABLE, Reason.MISSING, Reason.MISSING,
    ]  # fmt: skip
    asked = [path for _, path in server.requests]
    assert [asked.count(f"/{name}") for name in names[1:]] == [4, 2, 2]  # one HEAD each, the rest GET
