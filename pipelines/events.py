"""What happened, for people and for programs: `run.log` and `events.jsonl`. Nothing in a run depends on them."""

from __future__ import annotations

import json
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

PACKAGES = (
    "cpp-at-scale",
    "torch",
    "faiss-gpu",
    "faiss-cpu",
    "open_clip_torch",
    "webdataset",
    "pyarrow",
    "ray",
    "scikit-learn",
)


def now() -> str:
    """The time as ISO 8601, in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def append(path: Path, event: str, **fields: Any) -> None:
    """Add one event to a JSON-lines file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"time": now(), "event": event, **fields}) + "\n")


class Spent(NamedTuple):
    """What a step took: seconds of work, rows that came in, shards; over the last time that each shard was computed."""

    seconds: float
    rows: int
    shards: int


def seconds_by_step(path: Path) -> dict[str, float]:
    """Seconds of work of each step."""
    return {step: spent.seconds for step, spent in spent_by_step(path).items()}


def spent_by_step(path: Path) -> dict[str, Spent]:
    """What each step took, in the order in which they were first worked on."""
    last: dict[tuple[str, str], Spent] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                event = json.loads(line)
            except json.JSONDecodeError:  # the last line of a run that was killed
                continue
            if event.get("event") == "shard" and event.get("error") is None:
                last[event["step"], event["shard"]] = Spent(event["seconds"], event.get("rows_in", 0), 1)
    total: dict[str, Spent] = {}
    for (step, _), spent in last.items():
        before = total.get(step, Spent(0.0, 0, 0))
        total[step] = Spent(before.seconds + spent.seconds, before.rows + spent.rows, before.shards + spent.shards)
    return total


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results can depend on, as far as they are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
