"""A client of chat endpoints of the OpenAI kind (vLLM, Ollama, llama.cpp): one request, one answer.

It never follows a redirect, so nothing is sent to another server than the configured one. The API key is read from an
environment variable and appears in no message. Knows no clusters.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.util import Retry, Timeout

TRIES = 4  # attempts of one request
BACKOFF = 1.0  # the second attempt follows at once, the n-th after BACKOFF * 2^(n-2) seconds
MAX_WAIT = 60  # seconds that a server's Retry-After header can ask for
TRANSIENT = frozenset({408, 429, 500, 502, 503, 504, 529})  # statuses after which a request is repeated
REFUSED = frozenset({400, 413, 422})  # statuses that can be due to one question: too long, or its pictures not allowed
TIMEOUT = Timeout(connect=10, read=600)  # seconds; a model on a CPU can take minutes for a picture
MAX_BYTES = 1 << 20  # of an answer
MAX_TOKENS = 1000  # of an answer; models that think aloud need most of them
SHOWN = 200  # characters of a server's text in a message

_FIXES = {
    400: "use a model and a server that accept response_format json_schema, and pictures if label.namer.pictures > 0",
    404: "check that label.namer.model is a model of this server and that label.namer.url ends as its API's does (/v1)",
    429: "its limit of requests or its quota is reached: wait, or ask for more",
}


class ChatError(RuntimeError):
    """The endpoint did not answer, or with an error. The message names the setting, the status and the fix."""


class Reply(NamedTuple):
    """The answer as text, the seconds that it took, and the tokens of question and answer; None if unknown.

    A question that the server refuses has no answer, and an `error` that names the setting, the status and the fix.
    """

    answer: str | None
    seconds: float
    tokens: int | None = None
    error: str | None = None


class Chat:
    """A model behind the API at `url`, which ends before `/chat/completions`. Can be used by several threads.

    `key` is the name of the environment variable with the API key. ChatError if it is not set.
    """

    def __init__(self, url: str, model: str, key: str | None, connections: int) -> None:
        self.url, self.model, self.key = f"{url.rstrip('/')}/chat/completions", model, key
        self._secret = _secret(key) if key else ""
        retries = Retry(
            total=TRIES - 1,
            read=1,  # a server that was silent for the whole timeout gets one more attempt
            allowed_methods=None,  # a repeated POST changes nothing on the server
            status_forcelist=TRANSIENT,
            raise_on_status=False,
            backoff_factor=BACKOFF,
            retry_after_max=MAX_WAIT,
        )
        self._pool = urllib3.PoolManager(maxsize=connections, block=True, retries=retries, timeout=TIMEOUT)

    def ask(self, messages: Sequence[Mapping[str, Any]], schema: Mapping[str, Any]) -> Reply:
        """The reply to the messages; the server is asked to make the answer JSON of the schema.

        ChatError if the server does not answer, or with an error that is not due to the question alone.
        """
        body = {
            "model": self.model,
            "messages": messages,
            "temperature": 0,
            "max_tokens": MAX_TOKENS,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": schema},
            },
        }
        headers = {"Content-Type": "application/json"}
        headers |= {"Authorization": f"Bearer {self._secret}"} if self._secret else {}
        start = time.perf_counter()
        try:
            response = self._pool.request(
                "POST", self.url, body=json.dumps(body), headers=headers, redirect=False, preload_content=False
            )
            data = response.read(MAX_BYTES, decode_content=True)  # what is cut off is no JSON
            response.release_conn()
        except HTTPError as error:
            reason = self._shown(str(getattr(error, "reason", None) or error))
            raise ChatError(
                f"label.namer.url: {self.url} does not answer ({reason}): start the server, or correct the address"
            ) from None
        seconds = time.perf_counter() - start
        if response.status in REFUSED:
            return Reply(None, seconds, error=self._error(response.status, data))
        if response.status != 200:
            raise ChatError(self._error(response.status, data))
        return self._reply(data, seconds)

    def _reply(self, data: bytes, seconds: float) -> Reply:
        try:
            answer = json.loads(data)
            text = answer["choices"][0]["message"].get("content") or ""
            tokens = (answer.get("usage") or {}).get("total_tokens")
            text = str(text).encode(errors="replace").decode()  # without lone surrogates, which no file can hold
            return Reply(text, seconds, tokens if isinstance(tokens, int) else None)
        except (ValueError, LookupError, TypeError, AttributeError):
            raise ChatError(
                f"label.namer.url: {self.url} answers with something else than a chat completion "
                f"({self._detail(data)!r}): give the address of an OpenAI-compatible API, which mostly ends with /v1"
            ) from None

    def _error(self, status: int, data: bytes) -> str:
        """What a status means: the setting, the status, the server's message and the fix."""
        if status in (401, 403) and self.key:
            fix = f"check the API key in the environment variable {self.key}"
        elif status in (401, 403):
            fix = "set label.namer.key to the name of the environment variable that holds the API key"
        elif 300 <= status < 400:
            fix = "redirects are not followed, so that nothing goes to another server: give the final address"
        else:
            fix = _FIXES.get(status, "see the log of the server")
        tries = f" after {TRIES} attempts" if status in TRANSIENT else ""
        return (
            f"label.namer.url: {self.url} answers with status {status}{tries} for the model {self.model!r} "
            f"({self._detail(data) or 'without a message'}): {fix}"
        )

    def _detail(self, data: bytes) -> str:
        """The message of an error in the forms that servers use, or the beginning of what they sent."""
        text = data.decode(errors="replace")
        try:
            answer = json.loads(text)
            error = answer.get("error", answer)
            text = str(error["message"] if isinstance(error, dict) else error)
        except (ValueError, LookupError, AttributeError):
            pass
        return self._shown(text)

    def _shown(self, text: str) -> str:
        """A text of a server in one short line, without the API key."""
        if self._secret:
            text = text.replace(self._secret, "***")
        line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return line if len(line) <= SHOWN else f"{line[:SHOWN]}..."


def _secret(variable: str) -> str:
    value = os.environ.get(variable, "").strip()
    if not value:
        raise ChatError(
            f"label.namer.key: the environment variable {variable} is not set where the run computes: put the API key "
            "there, or set label.namer.key to null"
        )
    if not (value.isascii() and value.isprintable()):  # http.client would repeat the value in its error
        raise ChatError(
            f"label.namer.key: the environment variable {variable} holds characters that no API key has: set it again"
        )
    return value
