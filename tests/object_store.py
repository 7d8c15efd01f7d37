"""A server on this machine that speaks S3 (moto's), in front of which requests are counted and can be made to fail."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

Fault = str | float | None
"""What becomes of a request: an HTTP status, "cut" off in the middle of the answer, seconds of waiting, or nothing."""


class ObjectStore:
    """`requests` are (method, path) as they came; `fault` is asked for each."""

    def __init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self.requests: list[tuple[str, str]] = []
        self.fault: Callable[[str, str], Fault] = lambda method, path: None
        self._idle, self._under_way, self._hurry = threading.Condition(), 0, threading.Event()
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def reset(self) -> None:
        self.requests.clear()
        self.fault = lambda method, path: None

    def settle(self) -> None:
        """Wait for the requests under way, also of programs that are gone: what they write, they write now."""
        self._hurry.set()
        with self._idle:
            assert self._idle.wait_for(lambda: not self._under_way, timeout=60), "requests that do not end"
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
        with self._idle:
            self._under_way += 1
        try:
            return self._answer_one(environ, start)
        finally:
            with self._idle:
                self._under_way -= 1
                self._idle.notify_all()

    def _answer_one(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
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


def _half(body: Iterable[bytes]) -> Iterator[bytes]:
    whole = b"".join(body)
    yield whole[: len(whole) // 2]
    raise ConnectionAbortedError


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"  # a connection for each request would cost more than the request

    def log(self, type: str, message: str, *args: object) -> None:
        pass
