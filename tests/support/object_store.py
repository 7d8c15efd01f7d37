"""A server on this machine that speaks S3 (moto's), in front of which requests are counted and can be made to fail."""

from __future__ import annotations

import select
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import fsspec
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

from cpp.files import filesystem

Fault = str | float | None
"""What becomes of a request: an HTTP status, "cut" off in the middle of the answer, seconds of waiting, or nothing."""


class ObjectStore:
    """`requests` are (method, path) as they came; `fault` is asked for each."""

    def __init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self.requests: list[tuple[str, str]] = []
        self.fault: Callable[[str, str], Fault] = lambda method, path: None
        self._hurry = threading.Event()
        self._server = _Server("127.0.0.1", 0, self._answer, _Quiet)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def reset(self) -> None:
        self.requests.clear()
        self.fault = lambda method, path: None

    def settle(self) -> None:
        """Wait for all requests that were sent, also by programs that are gone: what they write, they write now."""
        self._hurry.set()
        with self._server.idle:
            assert self._server.idle.wait_for(self._server.settled, timeout=60), "requests that do not end"
        self._hurry.clear()

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs to use it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "AKIAOFNOBODY",
            "AWS_SECRET_ACCESS_KEY": "a-secret-of-nobody",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def counts(self) -> Counter[str]:
        return Counter(method for method, _ in self.requests)

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append((method, path))
        fault = self.fault(method, path)
        if isinstance(fault, float):
            self._hurry.wait(fault)
        elif fault == "cut":
            return _half(self._app(environ, start))
        elif fault is not None:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            code = {"500": "InternalError", "503": "SlowDown", "403": "AccessDenied"}[fault]
            body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>made up</Message></Error>".encode()
            start(f"{fault} {code}", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
            return [] if method == "HEAD" else [body]  # else a client takes it for the next answer
        return self._app(environ, start)  # type: ignore[no-any-return]


def disconnect() -> None:
    """Drop the connections, so that the next ones read the environment and OPTIONS again."""
    filesystem._connection.cache_clear()
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def _half(body: Iterable[bytes]) -> Iterator[bytes]:
    whole = b"".join(body)
    yield whole[: len(whole) // 2]
    raise ConnectionAbortedError


class _Server(ThreadedWSGIServer):
    """It knows of every request from when it was sent until it has ended."""

    daemon_threads = True

    def __init__(self, *how: Any) -> None:
        self.idle, self.under_way, self._open = threading.Condition(), 0, set[socket.socket]()
        super().__init__(*how)

    def settled(self) -> bool:
        """Whether none is under way or unread, and nobody has come or gone unnoticed."""
        unread = select.poll()
        for one in (self.socket, *self._open):
            unread.register(one, select.POLLIN)
        return not unread.poll(0) and not self.under_way

    def get_request(self) -> Any:
        with self.idle:
            found = super().get_request()
            self._open.add(found[0])
        return found

    def shutdown_request(self, request: Any) -> None:
        with self.idle:
            self._open.discard(request)
            self.idle.notify_all()
        super().shutdown_request(request)


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"  # a connection for each request would cost more than the request
    server: _Server

    def handle_one_request(self) -> None:
        self.connection.recv(1, socket.MSG_PEEK)  # until there is one: it is under way before it is read
        with self.server.idle:
            self.server.under_way += 1
        try:
            super().handle_one_request()
        finally:
            with self.server.idle:
                self.server.under_way -= 1
                self.server.idle.notify_all()

    def log(self, type: str, message: str, *args: object) -> None:
        pass
