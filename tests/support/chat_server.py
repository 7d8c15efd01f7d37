"""A chat endpoint of the OpenAI kind on loopback, for tests of the namer: answers as a function of the question."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, NamedTuple, Self


class Answer(NamedTuple):
    """What the server sends back: a status, a body, and further headers."""

    status: int
    body: bytes
    headers: Mapping[str, str] = MappingProxyType({})


def completion(text: str | None, tokens: int = 17) -> Answer:
    """A chat completion with this text."""
    body = {"choices": [{"message": {"role": "assistant", "content": text}}], "usage": {"total_tokens": tokens}}
    return Answer(200, json.dumps(body).encode())


def failure(status: int, message: str = "", **headers: str) -> Answer:
    """An error in the form of OpenAI."""
    return Answer(status, json.dumps({"error": {"message": message}}).encode(), headers)


class ChatServer:
    """A context manager. `answer` maps the body of a request to an `Answer`; `requests` has the bodies in order.

    `headers` has the headers of the last request, `paths` the paths of all.
    """

    def __init__(self, answer: Callable[[dict[str, Any]], Answer]) -> None:
        self.answer, self.requests, self.paths = answer, list[dict[str, Any]](), list[str]()
        self.headers: dict[str, str] = {}
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(handler) -> None:  # noqa: N805 (self is the server)
                body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
                with lock:
                    self.requests.append(body)
                    self.paths.append(handler.path)
                    self.headers = dict(handler.headers)
                    answer = self.answer(body)
                handler.send_response(answer.status)
                for name, value in {**answer.headers, "Content-Length": str(len(answer.body))}.items():
                    handler.send_header(name.replace("_", "-"), value)
                handler.end_headers()
                handler.wfile.write(answer.body)

            def log_message(handler, *args: object) -> None:  # noqa: N805
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def question(body: dict[str, Any]) -> str:
    """The text of the question in the body of a request."""
    content = body["messages"][-1]["content"]
    return str(content if isinstance(content, str) else content[0]["text"])
