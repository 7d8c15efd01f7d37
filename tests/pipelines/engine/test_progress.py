"""What a person sees: every shard of a few, some of many, every one that fails; the event log has all."""

import io
import json
import re
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from cpp.files.tables import Counts
from pipelines.commands.terminal import print_table
from pipelines.engine.executor import TaskResult
from pipelines.engine.progress import FEW, Progress


def report_step(
    folder: Path, shards: int, failed: frozenset[int] = frozenset()
) -> tuple[list[str], list[dict[str, object]]]:
    """The lines and events that a step with `shards` shards writes."""
    screen = io.StringIO()
    (folder / "events.jsonl").write_text('{"torn')  # by a run that was killed
    with Progress(folder, Console(file=screen, width=200)) as progress:
        progress.start_step("encode", shards, 0)
        assert "to do" in (folder / "run.log").read_text()  # flushed at once, for readers and in case the run is killed
        for i in range(shards):
            counts, error = (None, "ValueError: no [key]") if i in failed else (Counts(10, 8, 2), None)
            progress.finish_shard(TaskResult(f"{i:05d}", 0.1, counts, error), "key")
        assert progress._step.rows == 10 * (shards - len(failed))  # input rows, for the rate
        progress.finish_step()
    lines = (folder / "run.log").read_text().splitlines()
    assert screen.getvalue().splitlines() == [line.split(" ", 1)[1] for line in lines]  # a log is of many days
    assert all(datetime.fromisoformat(" ".join(line.split()[:2])) for line in lines)
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()[1:]]
    assert events[0]["event"] == "step"
    return lines, [event for event in events if event["event"] == "shard"]


def test_each_of_few_shards_has_a_line(tmp_path: Path) -> None:
    lines, events = report_step(tmp_path, FEW)
    assert len(lines) == 1 + FEW
    assert [" left)" in line for line in lines[-2:]] == [True, False]
    assert len(events) == FEW


def test_of_many_shards_only_first_last_and_failed_have_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.engine.progress.EVERY", 3600.0)  # on a busy machine 500 shards can take ten seconds
    lines, events = report_step(tmp_path, 500, frozenset({77}))
    assert [line.split()[3] for line in lines[1:]] == ["00000:", "00077:", "00499:"]
    assert "00000: 10 rows, 2 rejected in 0.1 s (1/500 shards, " in lines[1]
    assert "FAILED: ValueError: no [key]" in lines[2]
    assert {i: event["error"] for i, event in enumerate(events) if event["error"]} == {77: "ValueError: no [key]"}
    assert [event["shard"] for event in events] == [f"{i:05d}" for i in range(500)]


def test_a_step_whose_only_shard_takes_long_reports_that_it_is_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.engine.progress.SILENT", 0.001)
    reminded = threading.Event()

    class Screen(Console):
        def print(self, *objects: Any, **options: Any) -> None:
            if "running for" in str(objects):
                reminded.set()

    with Progress(tmp_path, Screen()) as progress:
        progress.start_step("partition", 1, 0)
        assert reminded.wait(60)
        progress.finish_shard(TaskResult("all", 0.1, Counts(10, 10)), "key")
        progress.finish_step()
    lines = (tmp_path / "run.log").read_text().splitlines()
    assert re.search(r"partition: running for (< 1|\d+) s, 0 of 1 shards done$", lines[1])


def test_control_sequences_are_shown_and_not_executed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Keys are of tars from anywhere: an escape sequence among them could write over what a terminal shows."""
    evil = "\x1b[2J\x07:cat:[b]é"
    table = Table("image")
    table.add_row(evil)
    print_table(table)
    with Progress(tmp_path) as progress:
        progress.line(evil)
    outputs = [capsys.readouterr().out, (tmp_path / "run.log").read_text()]
    assert [text.count(r"\x1b[2J\x07:cat:[b]é") for text in outputs] == [2, 1]
    assert not any("\x1b" in text for text in outputs)
