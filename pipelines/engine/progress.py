"""Shows the progress of a run: a bar in a terminal, lines in the terminal and in `run.log`, events in `events.jsonl`.

Each shard of a step has a line; a step with many shards has one every few seconds, and one for each failed shard. While
no shard ends, a line every minute tells how long the step has been running.
"""

from __future__ import annotations

import math
import re
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.text import Text

from cpp.files.quantities import format_duration
from pipelines.engine import event_log
from pipelines.engine.event_log import StepProgress
from pipelines.engine.executor import TaskResult

FEW = 100  # shards of a step up to which each has a line
EVERY = 10.0  # seconds between two lines of a step with more shards
SILENT = 60.0  # seconds in which no shard ends, after which a line tells that the step is running
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


class Screen(Console):
    """A console that prints keys and messages as they are: no control sequences, no emoji codes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Render a string without control characters."""
        return super().render_str(_escape_controls(text), **options)


class Progress:
    """Progress of the steps of one run, on the terminal and in the files of the folder `root`. A context manager."""

    def __init__(self, root: Path, console: Console | None = None) -> None:
        self.events = root / "events.jsonl"
        event_log.end_last_line(self.events)
        self._log = (root / "run.log").open("a", encoding="utf-8")
        self._console = console or Screen(soft_wrap=True)
        columns = (
            "{task.description}", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), "{task.fields[rate]}",
        )  # fmt: skip
        self._bar = Bar(*columns, console=self._console, transient=True, disable=not self._console.is_terminal)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()
        self._log.close()

    def line(self, text: str) -> None:
        """Print one line with the time, and append it to `run.log`."""
        now = datetime.now()
        self._console.print(f"{now:%H:%M:%S} {text}", markup=False)
        self._log.write(f"{now:%Y-%m-%d %H:%M:%S} {_escape_controls(text)}\n")
        self._log.flush()

    def start_step(self, step: str, shards: int, reused: int) -> None:
        """Report that a step starts on `shards` shards and reuses the results of `reused` others."""
        now = datetime.now(UTC)
        self._step, self._last_line = StepProgress(step, shards, now, now), -math.inf
        self._task = self._bar.add_task(step, total=shards, rate="")
        already = f", {reused:,} done already" if reused else ""
        self.line(f"{step}: {shards:,} {'shard' if shards == 1 else 'shards'} to do{already}")
        event_log.append(self.events, "step", step=step, shards=shards, reused=reused)
        self._ended = threading.Event()
        self._reminder = threading.Thread(target=self._remind, args=(self._step, self._ended), daemon=True)
        self._reminder.start()

    def _remind(self, step: StepProgress, ended: threading.Event) -> None:
        """Print a line for every `SILENT` seconds in which no shard of the step ends, until the step has `ended`."""
        done = step.done
        while not ended.wait(SILENT):
            if step.done == done:
                running = format_duration((datetime.now(UTC) - step.started).total_seconds())
                self.line(f"{step.step}: running for {running}, {done:,} of {step.shards:,} shards done")
            done = step.done

    def finish_shard(self, result: TaskResult, fingerprint: str) -> None:
        """Report the result of a shard."""
        counts, step, now = result.counts, self._step, time.monotonic()
        step.add(datetime.now(UTC), result.error is not None, counts.rows_in if counts else 0)
        rate = step.pace(step.last)
        self._bar.update(self._task, advance=1, rate=rate)
        if step.shards <= FEW or step.done == step.shards or now - self._last_line >= EVERY or result.error:
            rejected = f", {counts.rejected:,} rejected" if counts and counts.rejected else ""
            done = f"{counts.rows_in:,} rows{rejected} in {result.seconds:.1f} s" if counts else ""
            self.line(f"{step.step} {result.shard}: {done or f'FAILED: {result.error}'} ({rate})")
            self._last_line = now
        event_log.append(
            self.events,
            "shard",
            step=step.step,
            shard=result.shard,
            key=fingerprint,
            seconds=round(result.seconds, 3),
            error=result.error,
            **(counts._asdict() if counts else {}),
        )

    def finish_step(self) -> None:
        """Remove the bar of the step, and end its reminders."""
        self._ended.set()
        self._reminder.join()
        self._bar.remove_task(self._task)


def _escape_controls(text: str) -> str:
    """Replace control characters by their escape sequences, such as \\x1b."""
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)
