"""What the commands print: tables, and the state of a run from its files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.table import Column, Table

from cpp.files import scratch
from cpp.files.integrity import damage
from cpp.sources.ignored import FileCounts
from cpp.store.object_store import open_store
from pipelines.commands.group import FAILED, leave
from pipelines.config.load import Config
from pipelines.engine import changes, event_log
from pipelines.engine.executor import DISK_FULL
from pipelines.engine.inputs import input_files
from pipelines.engine.plan import Step, upstream
from pipelines.engine.progress import Screen
from pipelines.engine.source_counts import sentence

if TYPE_CHECKING:
    from pipelines.run import Run  # which loads all stages

WIDEST = 10_000  # characters per line of a table in a file
SHOWN = 20  # failed shards that are listed


def print_lines(lines: Iterable[str]) -> None:
    """Print each line as it is, when it comes."""
    console = Screen(soft_wrap=True)
    for line in lines:
        console.print(line, markup=False)


def print_line(line: str) -> None:
    """Print a line as it is."""
    print_lines([line])


def prompt(question: str) -> str:
    """Ask a question and return what was typed; at the end of the input "q"."""
    try:
        return str(typer.prompt(question, default="", show_default=False))
    except typer.Abort:
        return "q"


def print_table(table: Table) -> None:
    """Print a table. A file or a pipe gets lines of full width, because a reader could not widen it."""
    console = Screen(markup=False)
    if not console.is_terminal:
        console.width = max(console.width, console.measure(table, options=console.options.update(width=WIDEST)).maximum)
    console.print(table)


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
        raise leave(str(error), FAILED) from None
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        message = f"no space left for {run.store.address} ({error}): free some space and run the same command again"
        raise leave(message, FAILED) from None
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
    if run.sources:
        print_lines([sentence(run.sources, "vectors" if run.config.import_ else "pictures")])
    print_lines(failures(run.config))
    if any(outcome.waits_for for outcome in run.outcomes.values()):
        print_lines(
            ["fix or remove the failed inputs and run the same command again, or continue without them: --allow-failed"]
        )
    print_lines(scores(run))
    if "report" in run.outcomes and run.outcomes["report"].ok:
        print_lines([f"open {run.store.address}/report.html"])


def scores(run: Run) -> Iterator[str]:
    """The scores of clusters and names against known classes, if the run has computed them."""
    contents = {}
    for kind in ("scores", "name_scores"):
        for file in run.files.get(kind, {}).values():
            with scratch.local_copy(file.path) as path:
                contents[kind] = json.loads(Path(path).read_text(encoding="utf-8"))
    if clusters := contents.get("scores"):
        for method in clusters["methods"]:
            values = ", ".join(f"{key.upper()} {method[key]:.1%}" for key in ("acc", "nmi", "ari"))
            yield f"scores against {clusters['label']}, {method['method']}: {method['clusters']:,} clusters, {values}"
    if names := contents.get("name_scores"):
        judged = names["clusters"][0]
        yield (
            f"names against {names['names']}: {judged['coverage']:.1%} of the images have a name, "
            f"{judged['right_of_covered']:.1%} of these the right one"
        )


def print_plan(config: Config, steps: Sequence[Step]) -> None:
    """Print how many steps remain, the first of them, and what changed since the last run."""
    left = [step.name for step in steps if not step.complete]
    start = f"; the first is {left[0]}" if left else ""
    changed = changes.settings(event_log.read_run_record(open_store(config.root)), config)
    print_lines([f"{config.name}: {len(left)} of {len(steps)} steps have shards to do{start}", *changed, ""])


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


def state(config: Config) -> Iterator[str]:
    """Whether the run is running, and the step that it is in or was in when it ended."""
    store = open_store(config.root)
    holder, record = store.holder(), event_log.read_run_record(store)
    activity = event_log.last_step(store.log("events.jsonl"))
    ended = "stopped; run the same command again to resume" if record["state"] == "running" else record["state"]
    yield f"{config.name}: {f'running ({holder})' if holder else ended}"
    if activity and holder:
        yield activity.sentence()
    elif activity and record["state"] in ("running", "interrupted"):
        yield f"it ended at {activity.last:%Y-%m-%d %H:%M:%S} UTC in {activity.sentence(activity.last)}"


def validity(name: str, config: Config) -> Iterator[str]:
    """Say that a configuration, read from the file `name`, is valid, and count its inputs. ConfigError if it is not."""
    counts = FileCounts()
    shards = len(input_files(config, counts)[config.input_kind])
    yield f"{name} is valid: {shards:,} input shards, results go to {config.root}"
    yield from counts.lines()


def print_status(config: Config, names: Sequence[str]) -> None:
    """Print the progress of a run and of what was appended to it: all steps, or those named and what they need."""
    from pipelines import graph
    from pipelines.commands import parts

    print_lines(state(config))
    planned, fitted = graph.fitted(config).plan()
    shown = upstream(names, fitted.stages)
    print_progress(config, [step for step in planned if step.name in shown])
    if later := parts.appended(fitted):
        print_lines(state(later.config))
        print_progress(later.config, later.plan()[0])


def print_progress(config: Config, steps: Sequence[Step]) -> None:
    """Print how far the steps of a run are, whether its configuration or inputs have changed since, and failures."""
    print_steps(config, steps)
    left = [step.name for step in steps if not step.complete]
    if left and event_log.read_run_record(open_store(config.root))["state"] == "done":
        print_lines(
            [
                f"{len(left)} of {len(steps)} steps, from {left[0]} on, have shards to do: inputs or settings changed "
                "since the last run, or it ran other steps"
            ]
        )
    print_lines([*failures(config), *growth(config)])


def failures(config: Config) -> Iterator[str]:
    """The shards that failed in the last run, and if it is incomplete the run whose results are shown."""
    record, root = event_log.read_run_record(open_store(config.root)), config.root.rstrip("/")
    failed = record["failed"]
    for failure in failed[:SHOWN]:
        yield f"failed: {failure['step']} {failure['shard']}: {failure['error']}"
        yield f"        traceback in {root}/{failure['traceback']}"
    if len(failed) > SHOWN:
        yield f"failed: {len(failed) - SHOWN:,} more, see {root}/run.json"
    if (shown := record.get("shown")) and record["state"] != "done" and shown != record["started"]:
        yield f"{root} shows the run of {datetime.fromisoformat(shown):%Y-%m-%d %H:%M} UTC until one is complete"


def growth(config: Config) -> Iterator[str]:
    """How well appended images fit, and whether to fit again, if `config` is that of the run in ROOT/appended."""
    path = open_store(config.root).log("growth.json")
    if not path.exists() or damage(str(path)):
        return
    drift = json.loads(path.read_text(encoding="utf-8"))
    fitted, appended = drift["fitted"], drift["appended"]
    yield f"{appended['images']:,} images appended to {fitted['images']:,}: see {config.root}/report.html"
    for reason in drift["reasons"]:
        yield f"refit is due: {reason}"
    if not drift["refit_due"]:
        yield "refit is not due"
    if lost := drift.get("lost"):
        columns = ", ".join(f"{column} ({count:,} values)" for column, count in lost.items())
        yield (
            f"metadata that does not fit the columns of the run is only in {config.root}/features: {columns}; "
            "a new run over all inputs takes it in"
        )
