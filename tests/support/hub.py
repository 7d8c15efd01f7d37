"""A local server that speaks as much of the Hugging Face Hub's HTTP API as reading a data set takes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

REPOSITORY = "datasets/me/pictures"


class Hub(ThreadingHTTPServer):
    """The files of one data set. `cut` tells, for the number of a request for bytes, whether its answer breaks off."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.cut: Callable[[int], bool] = lambda number: False
        self.ranges: list[str] = []  # the ranges of bytes that were requested
        self.tokens: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def entry(self, path: str) -> dict[str, Any]:
        content = self.files[path]
        return {"type": "file", "oid": hashlib.sha1(content).hexdigest(), "size": len(content), "path": path}  # noqa: S324 (git's name of a file)

    def tree(self, folder: str) -> list[dict[str, Any]]:
        """The entries of a folder."""
        start = f"{folder}/" if folder else ""
        below = [path for path in self.files if path.startswith(start)]
        folders = {path[len(start) :].partition("/")[0] for path in below if "/" in path[len(start) :]}
        entries = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": start + name} for name in sorted(folders)]
        return entries + [self.entry(path) for path in below if "/" not in path[len(start) :]]


@contextmanager
def serve() -> Iterator[Hub]:
    """The server for the block."""
    hub = Hub()
    Thread(target=hub.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_GET(self) -> None:
        if token := self.headers.get("Authorization"):
            self.server.tokens.add(token)
        path = unquote(urlsplit(self.path).path)
        if match := re.fullmatch(rf"/{REPOSITORY}/resolve/main/(.+)", path):
            self._file(match[1])
        elif match := re.fullmatch(rf"/api/{REPOSITORY}/tree/main/?(.*)", path):
            self._json(self.server.tree(match[1]))
        elif re.fullmatch(rf"/api/{REPOSITORY}(/revision/main)?", path):
            self._json({"id": REPOSITORY.partition("/")[2], "sha": "1" * 40, "siblings": [], "tags": []})
        else:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """The entries of the paths that the body names."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = json.loads(body) if body.startswith("{") else parse_qs(body)
        self._json([self.server.entry(path) for path in form["paths"] if path in self.server.files])

    def _file(self, path: str) -> None:
        if path not in self.server.files:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        content, status = self.server.files[path], 200
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            content, status = content[int(wanted[1]) : int(wanted[2]) + 1 if wanted[2] else None], 206
        cut = False
        if self.command == "GET":
            cut = self.server.cut(len(self.server.ranges))
            self.server.ranges.append(self.headers.get("Range", ""))
        self._send(status, content, {"ETag": f'"{self.server.entry(path)["oid"]}"', "X-Repo-Commit": "1" * 40}, cut)

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str], cut: bool = False) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = self.close_connection or cut

    def log_message(self, format: str, *args: Any) -> None:
        pass
