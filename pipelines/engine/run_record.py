"""Reads and writes `run.json`, the record of the last run in a run folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from cpp.files.integrity import damage
from cpp.store.local import Store

NAME = "run.json"


def read_run_record(store: Store) -> dict[str, Any]:
    """The record; one with the state "never started" if the file does not exist or is damaged."""
    path = store.log(NAME)
    if not path.exists() or damage(str(path)):
        return {"state": "never started", "failed": []}
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def write_run_record(store: Store, record: Mapping[str, Any]) -> None:
    """Replace the record at once, so that no reader sees a part of it."""
    new = store.root / "run.new"
    new.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    os.replace(new, store.root / NAME)
