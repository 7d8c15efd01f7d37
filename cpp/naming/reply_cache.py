"""Replies of a chat endpoint on disk: a folder with one JSON file for each request, named by the request's hash.

A file is put in place by a rename as soon as its reply has come, so replies survive an interruption. Does not know the
endpoint.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from cpp.naming.chat import Reply
from cpp.store.results import fingerprint


def request_hash(url: str, model: str, messages: Sequence[object]) -> str:
    """The hash of a request: of the endpoint, the model, and the messages with their pictures."""
    return fingerprint(url, model, messages)


def read(folder: Path | None, request: str) -> Reply | None:
    """The reply to a request; None if it is not there, or its file is damaged."""
    if folder is None:
        return None
    try:
        return Reply(**json.loads((folder / f"{request}.json").read_bytes())["reply"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def write(folder: Path | None, request: str, question: str, reply: Reply) -> None:
    """Keep a reply with the text of its question."""
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{request}.json"
    scratch = path.with_suffix(f".{os.getpid()}.new")
    text = json.dumps({"question": question, "reply": reply._asdict()}, ensure_ascii=False, indent=1)
    scratch.write_text(f"{text}\n", encoding="utf-8")
    os.replace(scratch, path)
