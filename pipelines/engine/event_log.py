"""The logs of a run folder: `run.json`, the record of the last run, and `events.jsonl`, the events of all runs.

The event log has one JSON object per line, oldest first.

Every event has `time` (ISO 8601, UTC) and `event`:
  run    state (running, done, failed or interrupted): a run started or ended
  step   step, shards (to do), reused (done before): a step started
  shard  step, shard, key (fingerprint), seconds, error (null or a message) and, without an error, rows_in, rows_out,
         rejected: a task ended
The last line may be cut off if the run was killed. No result depends on the log.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from cpp.files.integrity import damage
from cpp.store.local import Store
from pipelines.config.run_folder import RECORD


def utc_now() -> str:
    """The current UTC time as ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def append(path: Path, event: str, **fields: Any) -> None:
    """Append one event."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"time": utc_now(), "event": event, **fields}) + "\n")


def end_last_line(path: Path) -> None:
    """End a last line that was cut off, so that the next event starts on a new line."""
    if path.exists() and path.stat().st_size:
        with path.open("r+b") as file:
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of a log, without lines that were cut off. Yield nothing if the file does not exist."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                event = json.loads(line)
            except ValueError:  # the process was killed while it wrote this line
                continue
            yield event


class StepTotals(NamedTuple):
    """Seconds of work, input rows and shards of a step. A shard that was computed twice counts the last time only."""

    seconds: float
    rows: int
    shards: int


def totals_by_step(path: Path) -> dict[str, StepTotals]:
    """Totals of each step, in the order in which the steps first ran. Uses 16 bytes of memory per shard and step."""
    index: dict[str, int] = {}  # shard -> position in the arrays
    last: dict[str, tuple[array[float], array[int]]] = {}  # step -> seconds (negative: not computed) and rows by shard
    for event in read(path):
        if event.get("event") != "shard" or event.get("error") is not None:
            continue
        i = index.setdefault(event["shard"], len(index))
        seconds, rows = last.setdefault(event["step"], (array("d"), array("q")))
        missing = i + 1 - len(seconds)
        seconds.extend([-1.0] * missing)
        rows.extend([0] * missing)
        seconds[i], rows[i] = event["seconds"], event.get("rows_in", 0)
    return {
        step: StepTotals(sum(s for s in seconds if s >= 0), sum(rows), sum(s >= 0 for s in seconds))
        for step, (seconds, rows) in last.items()
    }


@dataclass
class StepProgress:
    """Progress of one step: of `shards` to do, `done` have ended, `failed` of them with an error. Times are in UTC."""

    step: str
    shards: int
    started: datetime
    last: datetime
    done: int = 0
    failed: int = 0
    rows: int = 0

    def add(self, time: datetime, failed: bool, rows: int) -> None:
        """Count a shard that ended at `time`."""
        self.last, self.done, self.failed, self.rows = time, self.done + 1, self.failed + failed, self.rows + rows

    def pace(self, until: datetime) -> str:
        """Format shards done, rows per second and the remaining time."""
        seconds, left = max((until - self.started).total_seconds(), 1e-3), ""
        if 0 < self.done < self.shards:
            left = f", {timedelta(seconds=round(seconds / self.done * (self.shards - self.done)))} left"
        return f"{self.done:,}/{self.shards:,} shards, {self.rows / seconds:,.0f} rows/s{left}"

    def sentence(self, until: datetime | None = None) -> str:
        """Describe progress and pace from the start of the step to `until`, by default now."""
        failures = f", {self.failed:,} FAILED" if self.failed else ""
        return f"{self.step}: {self.pace(until or datetime.now(UTC))}{failures}"


def last_step(path: Path) -> StepProgress | None:
    """Progress of the step that the last run started last; None if that run has started no step."""
    progress: StepProgress | None = None
    for event in read(path):
        time = datetime.fromisoformat(event["time"])
        if event["event"] == "run" and event["state"] == "running":
            progress = None
        elif event["event"] == "step":
            progress = StepProgress(event["step"], event["shards"], time, time)
        elif event["event"] == "shard" and progress:
            progress.add(time, event["error"] is not None, event.get("rows_in", 0))
    return progress


def read_run_record(store: Store) -> dict[str, Any]:
    """The record; one with the state "never started" if the file does not exist or is damaged."""
    path = store.log(RECORD)
    if not path.exists() or damage(str(path)):
        return {"state": "never started", "failed": []}
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def write_run_record(store: Store, record: Mapping[str, Any]) -> None:
    """Replace the record at once, so that no reader sees a part of it."""
    new = store.root / "run.new"
    new.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    os.replace(new, store.root / RECORD)
