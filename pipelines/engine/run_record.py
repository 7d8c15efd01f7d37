"""What a run says of itself in `run.json`."""

from __future__ import annotations

import json
from typing import Any

from cpp.files.integrity import damage
from cpp.store.local import Store


def read_run_record(store: Store) -> dict[str, Any]:
    """What `run.json` says of the last run."""
    path = store.log("run.json")
    if not path.exists() or damage(str(path)):
        return {"state": "never started", "failed": []}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
