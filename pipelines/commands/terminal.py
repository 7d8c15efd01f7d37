"""What the commands print, and their exit codes. Knows no command."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer
from rich.table import Column, Table

from cpp.store.lease import LockedError
from pipelines.commands import status
from pipelines.config.errors import UserError
from pipelines.config.load import Config
from pipelines.engine.executor import DISK_FULL
from pipelines.engine.plan import Step
from pipelines.engine.progress import Screen, print_table
from pipelines.engine.row_counts import AccountingError

if TYPE_CHECKING:
    from pipelines.run import Run  # which loads torch

FAILED, WRONG, INTERRUPTED = 1, 2, 130
RESUME = "interrupted; run the same command again to resume"

console = Screen(soft_wrap=True)


def leave(message: str, code: int) -> typer.Exit:
    """The end of the program with a message on standard error and an exit code; to be raised."""
    Screen(stderr=True, soft_wrap=True).print(message, markup=False)
    return typer.Exit(code)


@contextmanager
def exit_codes() -> Iterator[None]:
    """Errors that the user can fix end the program with their message: 2 for wrong use, 130 for an interruption."""
    try:
        yield
    except (UserError, LockedError, PermissionError, ConnectionError) as error:
        raise leave(str(error), WRONG) from None
    except KeyboardInterrupt:
        raise leave(RESUME, INTERRUPTED) from None


def print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        console.print(line, markup=False)


def execute(run: Run) -> None:
    """Execute a run, print its summary, and end the program with the exit code that fits."""
    try:
        try:
            ok = run.go()
        finally:
            print_summary(run)
    except (UserError, LockedError, PermissionError) as error:
        raise leave(str(error), WRONG) from None
    except (AccountingError, ConnectionError) as error:
        raise leave(str(error), FAILED) from None
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        message = f"no space left for {run.store.address} ({error}): free some space and run the same command again"
        raise leave(message, FAILED) from None
    except KeyboardInterrupt:
        raise leave(RESUME, INTERRUPTED) from None
    if not ok:
        raise typer.Exit(FAILED)


def print_summary(run: Run) -> None:
    """Print a table of the steps of a run, the faults, and where the page is."""
    if not run.outcomes:
        return
    columns = ("shards", "reused", "rows in", "rows out", "rejected", "state")
    table = Table(Column("step", no_wrap=True), *columns, box=None, header_style="dim", pad_edge=False)
    for name, outcome in run.outcomes.items():
        rows = [f"{n:,}" for n in outcome.counts] if outcome.counts else ["", "", ""]
        if not outcome.waits_for:
            state = "ok" if outcome.ok else f"{len(outcome.failed):,} FAILED"
            table.add_row(name, f"{outcome.done:,}/{outcome.shards:,}", f"{outcome.reused:,}", *rows, state)
    print_table(table)
    print_lines(status.faults(run.config))
    if any(outcome.waits_for for outcome in run.outcomes.values()):
        console.print(
            "fix or remove the failed inputs and run the same command again, or continue without them: --allow-failed"
        )
    if "report" in run.outcomes and run.outcomes["report"].ok:
        console.print(f"open {run.store.address}/report.html", markup=False)


def print_steps(config: Config, steps: Sequence[Step], verbose: bool) -> None:
    """Print how many shards of each step are done; `verbose` adds the products and the settings."""
    for step in steps:
        console.print(f"{step.name:15} {len(step.done):,} of {len(step.names):,} shards done", markup=False)
        if verbose:
            pattern = "{}/*{}" if step.stage.each else "{}{}"
            for product in step.stage.products:
                file = pattern.format(product.name, product.suffix)
                console.print(f"    writes {config.root.rstrip('/')}/{file}", markup=False)
            for key, value in step.stage.settings().items():
                lines = str(value).count("\n")
                console.print(f"    {key}: {f'({lines} lines)' if lines else value}", markup=False)
