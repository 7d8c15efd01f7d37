"""What a person sees while a run works: a bar in a terminal, and lines there and in `run.log`.

A shard is a line; of a step with many shards every few seconds one, and all that fail. `events.jsonl` has every shard.
"""

from __future__ import annotations

import math
import re
import time
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from pipelines.engine import event_log
from pipelines.engine.executor import Result

FEW = 100  # shards of a step that have a line each
WIDEST = 10_000  # columns of a table in a file
EVERY = 10.0  # seconds between two lines of a step with more
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


class Screen(Console):
    """A terminal that shows keys, names and messages as they are: none can move its cursor or become an emoji."""

    def __init__(self, **how: Any) -> None:
        super().__init__(highlight=False, emoji=False, **how)

    def render_str(self, text: str, **how: Any) -> Text:
        """As Rich does, but without control characters."""
        return super().render_str(_visible(text), **how)


def print_table(table: Table) -> None:
    """Print a table; in a file, or to a program, as wide as it is: what is cut off there cannot be made visible."""
    console = Screen(markup=False)
    if not console.is_terminal:
        console.width = max(console.width, console.measure(table, options=console.options.update(width=WIDEST)).maximum)
    console.print(table)


class Progress:
    """Lines on the terminal, lines in `run.log`, events in `events.jsonl`, all of the folder `root`."""

    def __init__(self, root: Path, console: Console | None = None) -> None:
        self.events = root / "events.jsonl"
        event_log.end_last_line(self.events)
        self._log = (root / "run.log").open("a", encoding="utf-8")
        self._console = console or Screen(soft_wrap=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
        )
        self._bar = Bar(*columns, console=self._console, transient=True, disable=not self._console.is_terminal)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._bar.stop()
        self._log.close()

    def line(self, text: str) -> None:
        """Say one line, with the time."""
        now = datetime.now()
        self._console.print(f"{now:%H:%M:%S} {text}", markup=False)
        self._log.write(f"{now:%Y-%m-%d %H:%M:%S} {_visible(text)}\n")
        self._log.flush()

    def start_step(self, step: str, shards: int, reused: int) -> None:
        """A step starts on `shards` shards; `reused` more are there already."""
        self._step, self._shards, self._done, self._rows, self._start = step, shards, 0, 0, time.monotonic()
        self._said = -math.inf
        self._task = self._bar.add_task(step, total=shards, rate="")
        already = f", {reused:,} done already" if reused else ""
        self.line(f"{step}: {shards:,} {'shard' if shards == 1 else 'shards'} to do{already}")
        event_log.append(self.events, "step", step=step, shards=shards, reused=reused)

    def finish_shard(self, result: Result, key: str) -> None:
        """A shard of the step ended, well or not."""
        self._done += 1
        self._rows += result.counts.rows_in if result.counts else 0
        now = time.monotonic()
        rate = event_log.format_pace(self._done, self._shards, self._rows, max(now - self._start, 1e-9))
        self._bar.update(self._task, advance=1, rate=rate)
        if result.counts:
            rejected = f", {result.counts.rejected:,} rejected" if result.counts.rejected else ""
            said = f"{result.counts.rows_in:,} rows{rejected} in {result.seconds:.1f} s"
        else:
            said = f"FAILED: {result.error}"
        shown = self._shards <= FEW or self._done == self._shards or now - self._said >= EVERY
        if shown or result.error:
            self.line(f"{self._step} {result.shard}: {said} ({rate})")
            self._said = now
        counts = result.counts._asdict() if result.counts else {}
        fields = {
            "step": self._step,
            "shard": result.shard,
            "key": key,
            "seconds": round(result.seconds, 3),
            "error": result.error,
        }
        event_log.append(self.events, "shard", **fields, **counts)

    def finish_step(self) -> None:
        """The step has come to its end."""
        self._bar.remove_task(self._task)


def _visible(text: str) -> str:
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)
