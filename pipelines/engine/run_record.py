"""Reads `run.json`, the record of the last run in a run folder."""

from __future__ import annotations

import json
from typing import Any

from cpp.files.integrity import damage
from cpp.store.local import Store


def read_run_record(store: Store) -> dict[str, Any]:
    """The content of `run.json`; the state "never started" if it does not exist or is damaged."""
    path = store.log("run.json")
    if not path.exists() or damage(str(path)):
        return {"state": "never started", "failed": []}
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record
