"""What the commands print, and the exit codes of errors. Knows no command."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Column, Table
from typer.core import TyperGroup

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


class Commands(TyperGroup):
    """The commands. Errors that the user can fix end the program with their message, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (UserError, LockedError, PermissionError, ConnectionError) as error:
            raise _leave(str(error), WRONG) from None
        except AccountingError as error:
            raise _leave(str(error), FAILED) from None
        except KeyboardInterrupt:
            raise _leave("interrupted; run the same command again to resume", INTERRUPTED) from None


def _leave(message: str, code: int) -> typer.Exit:
    """The end of the program with a message on standard error and an exit code; to be raised."""
    Screen(stderr=True, soft_wrap=True).print(message, markup=False)
    return typer.Exit(code)


def print_lines(lines: Iterable[str]) -> None:
    """Print each line as it is, when it comes."""
    console = Screen(soft_wrap=True)
    for line in lines:
        console.print(line, markup=False)


def plain_table(*columns: Column | str) -> Table:
    """A table without lines."""
    return Table(*columns, box=None, header_style="dim", pad_edge=False)


def number(heading: str) -> Column:
    """A column of numbers, which are aligned on the right and never cut off."""
    return Column(heading, justify="right", no_wrap=True)


def title(heading: str) -> Column:
    """A column of names of clusters, which are cut off, because rich would cut off the numbers beside them."""
    return Column(heading, no_wrap=True, max_width=24)


def execute(run: Run) -> None:
    """Execute a run and print its summary. A run that is not complete ends the program with exit code 1."""
    try:
        try:
            ok = run.go()
        finally:
            print_summary(run)
    except ConnectionError as error:  # the store was lost while the run was working
        raise _leave(str(error), FAILED) from None
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        message = f"no space left for {run.store.address} ({error}): free some space and run the same command again"
        raise _leave(message, FAILED) from None
    if not ok:
        raise typer.Exit(FAILED)


def print_summary(run: Run) -> None:
    """Print a table of the steps of a run, the failed shards, and where the page is."""
    if not run.outcomes:
        return
    table = plain_table(Column("step", no_wrap=True), "shards", "reused", "rows in", "rows out", "rejected", "state")
    for name, outcome in run.outcomes.items():
        rows = [f"{n:,}" for n in outcome.counts] if outcome.counts else ["", "", ""]
        if not outcome.waits_for:
            state = "ok" if outcome.ok else f"{len(outcome.failed):,} FAILED"
            table.add_row(name, f"{outcome.done:,}/{outcome.shards:,}", f"{outcome.reused:,}", *rows, state)
    print_table(table)
    print_lines(status.failures(run.config))
    if any(outcome.waits_for for outcome in run.outcomes.values()):
        print_lines(
            ["fix or remove the failed inputs and run the same command again, or continue without them: --allow-failed"]
        )
    if "report" in run.outcomes and run.outcomes["report"].ok:
        print_lines([f"open {run.store.address}/report.html"])


def print_steps(config: Config, steps: Sequence[Step], verbose: bool = False) -> None:
    """Print how many shards of each step are done; `verbose` adds the products and the settings."""
    for step in steps:
        lines = [f"{step.name:15} {len(step.done):,} of {len(step.names):,} shards done"]
        if verbose:
            pattern = "{}/*{}" if step.stage.each else "{}{}"
            files = [pattern.format(product.name, product.suffix) for product in step.stage.products]
            lines += [f"    writes {config.root.rstrip('/')}/{file}" for file in files]
            for key, value in step.stage.settings().items():
                n_lines = str(value).count("\n")
                lines.append(f"    {key}: {f'({n_lines} lines)' if n_lines else value}")
        print_lines(lines)
