"""The event log: read back whole, without its torn end, and in little memory."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipelines.engine import event_log
from pipelines.engine.event_log import StepTotals


def at(seconds: float) -> str:
    return (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


def shard(step: str, name: str, time: float, rows: int, error: str | None = None) -> dict[str, object]:
    counts = {} if error else {"rows_in": rows, "rows_out": rows, "rejected": 0}
    return {"time": at(time), "event": "shard", "step": step, "shard": name, "seconds": 2.0, "error": error, **counts}


def log(folder: Path, *events: dict[str, object], torn: str = "") -> Path:
    path = folder / "events.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in events) + torn)
    return path


def test_the_last_time_of_a_recomputed_shard_counts(tmp_path: Path) -> None:
    path = log(
        tmp_path,
        shard("encode", "a", 0, 10),
        shard("fit", "all", 1, 5),
        shard("encode", "b", 2, 10),
        shard("encode", "a", 3, 30),
        shard("encode", "c", 4, 0, "ValueError: no"),
        torn='{"time": "2026-01-01T00:00:09", "event": "shard", "st',
    )
    assert event_log.totals_by_step(path) == {"encode": StepTotals(4.0, 40, 2), "fit": StepTotals(2.0, 5, 1)}
    assert list(event_log.totals_by_step(path)) == ["encode", "fit"]
    assert event_log.totals_by_step(tmp_path / "none") == {}


def test_the_last_step_has_a_pace_and_remaining_time(tmp_path: Path) -> None:
    path = log(
        tmp_path,
        {"time": at(0), "event": "run", "state": "running"},
        {"time": at(0), "event": "step", "step": "encode", "shards": 1, "reused": 0},
        shard("encode", "a", 1, 10),
        {"time": at(10), "event": "step", "step": "project", "shards": 1000, "reused": 7},
        shard("project", "a", 15, 30),
        shard("project", "b", 20, 0, "ValueError: no"),
        {"time": at(21), "event": "run", "state": "interrupted"},
        torn='{"time',
    )
    progress = event_log.last_step(path)
    assert progress is not None
    assert (progress.step, progress.shards, progress.done, progress.failed, progress.rows) == (
        "project",
        1000,
        2,
        1,
        30,
    )
    # 2 of 1,000 shards in 10 seconds, so 998 more in 4,990
    assert progress.sentence(progress.last) == "project: 2/1,000 shards, 3 rows/s, 1:23:10 left, 1 FAILED"


def test_an_event_after_a_cut_off_line_starts_a_new_line(tmp_path: Path) -> None:
    path = log(tmp_path, shard("encode", "a", 0, 10), torn='{"time')
    event_log.end_last_line(path)
    event_log.append(path, "run", state="running")
    assert [event["event"] for event in event_log.read(path)] == ["shard", "run"]
    complete = path.read_bytes()
    event_log.end_last_line(path)
    assert path.read_bytes() == complete
    path.write_bytes(complete[:-1])  # only the end of the line is lost
    event_log.end_last_line(path)
    assert path.read_bytes() == complete


def test_a_run_without_steps_has_no_last_step(tmp_path: Path) -> None:
    step = {"time": at(0), "event": "step", "step": "encode", "shards": 1, "reused": 0}
    assert event_log.last_step(log(tmp_path, step, {"time": at(1), "event": "run", "state": "running"})) is None
    assert event_log.last_step(tmp_path / "none") is None
