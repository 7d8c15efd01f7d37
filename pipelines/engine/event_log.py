"""What happened, for people and for programs: `run.log` and `events.jsonl`. Nothing in a run depends on them.

`events.jsonl` has one JSON object a line, the oldest first, over all runs of the folder. All have `time` (ISO 8601, in
UTC) and `event`:
  run    state: running, done, failed or interrupted
  step   step, shards (to do), reused (done already): a step starts
  shard  step, shard, key (fingerprint), seconds, error (null, or what went wrong), and where it went well rows_in,
         rows_out, rejected: a shard of the step ended
A line that is cut off is the last of a run that was killed.
"""

from __future__ import annotations

import json
import platform
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
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


def utc_now() -> str:
    """The time as ISO 8601, in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def append(path: Path, event: str, **fields: Any) -> None:
    """Add one event to a JSON-lines file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"time": utc_now(), "event": event, **fields}) + "\n")


def end_last_line(path: Path) -> None:
    """End the last line of a log whose writer was killed within it, so that the next event has a line of its own."""
    if path.exists() and path.stat().st_size:
        with path.open("r+b") as file:
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")


class StepTotals(NamedTuple):
    """What a step took: seconds of work, rows that came in, shards; over the last time that each shard was computed."""

    seconds: float
    rows: int
    shards: int


def seconds_by_step(path: Path) -> dict[str, float]:
    """Seconds of work of each step."""
    return {step: spent.seconds for step, spent in totals_by_step(path).items()}


def totals_by_step(path: Path) -> dict[str, StepTotals]:
    """What each step took, in the order in which they were first worked on. Keeps some 16 bytes a shard and step."""
    number: dict[str, int] = {}
    last: dict[str, tuple[array[float], array[int]]] = {}  # seconds, negative where there are none, and rows; by shard
    for event in read(path):
        if event.get("event") != "shard" or event.get("error") is not None:
            continue
        at = number.setdefault(event["shard"], len(number))
        seconds, rows = last.setdefault(event["step"], (array("d"), array("q")))
        missing = at + 1 - len(seconds)
        seconds.extend([-1.0] * missing)
        rows.extend([0] * missing)
        seconds[at], rows[at] = event["seconds"], event.get("rows_in", 0)
    return {
        step: StepTotals(sum(s for s in seconds if s >= 0), sum(rows), sum(s >= 0 for s in seconds))
        for step, (seconds, rows) in last.items()
    }


def read(path: Path, start: int = 0) -> Iterator[dict[str, Any]]:
    """The events of a log from the byte `start` on; none where there is no log."""
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(start)
        for line in file:
            try:
                event = json.loads(line)
            except ValueError:  # the last line of a run that was killed
                continue
            yield event


@dataclass
class StepProgress:
    """The last step that was started: `shards` to do, of which `done` ended, `failed` of them badly; times in UTC."""

    step: str
    shards: int
    reused: int
    started: datetime
    last: datetime
    done: int = 0
    failed: int = 0
    rows: int = 0

    def sentence(self, until: datetime | None = None) -> str:
        """How far it is, and up to now, or to `until`, how fast."""
        seconds = max(((until or datetime.now(UTC)) - self.started).total_seconds(), 1e-3)
        said = f"{self.step}: {format_pace(self.done, self.shards, self.rows, seconds)}"
        return said + (f", {self.failed:,} FAILED" if self.failed else "")


def last_step(path: Path) -> StepProgress | None:
    """What the log says of the step that was started last, None where its last run has started none."""
    start = at = 0
    if path.exists():
        with path.open("rb") as file:
            for line in file:
                new = b'"event": "run"' in line and b'"running"' in line
                start = at if new or b'"event": "step"' in line else start
                at += len(line)
    found: StepProgress | None = None
    for event in read(path, start):
        time = datetime.fromisoformat(event["time"])
        if event["event"] == "step":
            found = StepProgress(event["step"], event["shards"], event["reused"], time, time)
        elif event["event"] == "shard" and found:
            found.done, found.last = found.done + 1, time
            found.failed += event["error"] is not None
            found.rows += event.get("rows_in", 0)
    return found


def format_pace(done: int, shards: int, rows: int, seconds: float) -> str:
    """Shards done, rows a second and the time left, in words."""
    left = f", {timedelta(seconds=round(seconds / done * (shards - done)))} left" if 0 < done < shards else ""
    return f"{done:,}/{shards:,} shards, {rows / seconds:,.0f} rows/s{left}"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results can depend on, as far as they are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
