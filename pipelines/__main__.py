"""The command line: `python -m pipelines run|append|plan|status|names|search|predict|export|clean CONFIG`."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.table import Column, Table

from cpp.export.dataset import Format
from cpp.export.filters import Filter
from cpp.store.lease import LockedError
from pipelines import graph
from pipelines.commands import append as appending
from pipelines.commands import appended as commands_appended
from pipelines.commands import clean as cleaning
from pipelines.commands import export as exporting
from pipelines.commands import inspect
from pipelines.commands import predict as predicting
from pipelines.commands import status as state
from pipelines.config.errors import UserError
from pipelines.config.load import Config, load
from pipelines.engine import plan as planning
from pipelines.engine.executor import DISK_FULL
from pipelines.engine.progress import Screen, print_table
from pipelines.engine.row_counts import AccountingError
from pipelines.estimate.table import estimate as estimate_run
from pipelines.run import Run

FAILED, WRONG, INTERRUPTED = 1, 2, 130
STORAGE = (PermissionError, ConnectionError)  # of the run folder, with the remedy in their message

T = TypeVar("T")

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Cluster large image collections and name the clusters."
)
console = Screen(soft_wrap=True)

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of the run; see configs/.")]
Steps = Annotated[list[str] | None, typer.Argument(metavar="[STEP]...", help="Only these steps and what they need.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one key, such as label.top=3.")
]


@app.command()
def run(
    config: ConfigFile,
    steps: Steps = None,
    overrides: Overrides = None,
    local: Annotated[bool, typer.Option("--local", help="In this process, without Ray.")] = False,
    allow_failed: Annotated[bool, typer.Option("--allow-failed", help="Go on without shards that failed.")] = False,
) -> None:
    """Bring a run up to date. Exit code 1: something failed; 2: a wrong command or configuration; 130: interrupted."""
    try:
        loaded = load(config, overrides or ())
        this = Run(loaded, steps or (), local, allow_failed)
    except (UserError, *STORAGE) as error:
        raise _exit(str(error), WRONG) from None
    _go(this)
    for line in commands_appended.waiting(loaded):
        console.print(line, markup=False)


@app.command()
def append(
    config: ConfigFile,
    shards: Annotated[
        list[str] | None, typer.Option("--shards", help="New inputs, as images.path or import.path has them.")
    ] = None,
    images: Annotated[
        str | None, typer.Option("--images", help="Folder with the tars of new vectors, as import.images.")
    ] = None,
    overrides: Overrides = None,
    local: Annotated[bool, typer.Option("--local", help="In this process, without Ray.")] = False,
    allow_failed: Annotated[bool, typer.Option("--allow-failed", help="Go on without shards that failed.")] = False,
) -> None:
    """Take new shards through a finished run's head, clusters and names, into ROOT/appended. Exit codes as `run`.

    Nothing of the run is computed again. Without --shards: bring up to date what was appended before.
    """
    try:
        again = _again(config, overrides)
        this, said = appending.append(load(config, overrides or ()), shards or (), images, again, local, allow_failed)
    except (UserError, LockedError, *STORAGE) as error:
        raise _exit(str(error), WRONG) from None
    for line in said:
        console.print(line, markup=False)
    _go(this)
    for line in state.growth(this.config):
        console.print(line, markup=False)


@app.command()
def plan(
    config: ConfigFile,
    steps: Steps = None,
    overrides: Overrides = None,
    estimate: Annotated[bool, typer.Option("--estimate", help="Estimate remaining time, disk and memory.")] = False,
    price: Annotated[
        float | None, typer.Option(min=0, help="Price of one hour of all machines, for --estimate.")
    ] = None,
) -> None:
    """Print every step, its settings, where it writes, and how many of its shards are done. Writes nothing."""
    loaded = _load(config, overrides)
    planned = _planned(loaded, steps or [])
    _print(loaded, planned, verbose=True)
    if estimate:
        estimated = _wrong(lambda: estimate_run(loaded, planned, price))
        print_table(estimated.table)
        for line in estimated.sentences:
            console.print(line, markup=False)


@app.command()
def status(config: ConfigFile, steps: Steps = None, overrides: Overrides = None) -> None:
    """Print how far a run is, whether it is going on now, and what failed."""
    loaded = _load(config, overrides)
    try:
        said = [*state.lines(loaded)]
    except STORAGE as error:
        raise _exit(str(error), WRONG) from None
    for line in said:
        console.print(line, markup=False)
    planned = _planned(loaded, steps or [])
    _print(loaded, planned, verbose=False)
    for line in [*state.stale(loaded, planned), *state.faults(loaded)]:
        console.print(line, markup=False)
    if appended := _wrong(lambda: commands_appended.status(loaded)):
        for line in state.lines(appended.config):
            console.print(line, markup=False)
        _print(appended.config, appended.plan(), verbose=False)
        for line in [*state.faults(appended.config), *state.growth(appended.config)]:
            console.print(line, markup=False)


@app.command()
def names(
    config: ConfigFile,
    layer: Annotated[int | None, typer.Option("--layer", help="Of this layer, by its clusters.")] = None,
    overrides: Overrides = None,
) -> None:
    """Print the clusters of a finished run, the largest first: names, how sure they are, and why."""
    try:
        table = inspect.names(load(config, overrides or ()), layer, _again(config, overrides))
    except (UserError, *STORAGE) as error:
        raise _exit(str(error), WRONG) from None
    print_table(table)


@app.command()
def search(
    config: ConfigFile,
    text: Annotated[str, typer.Argument(help="A sentence, or without a text tower a word of the vocabulary.")],
    n: Annotated[int, typer.Option("-n", min=1, help="So many clusters and images.")] = 10,
    overrides: Overrides = None,
) -> None:
    """Print the clusters and images of a finished run that are nearest to a sentence."""
    try:
        found = inspect.nearest(load(config, overrides or ()), text, n, _again(config, overrides))
    except (UserError, *STORAGE) as error:
        raise _exit(str(error), WRONG) from None
    for table in found:
        print_table(table)


@app.command()
def predict(
    config: ConfigFile,
    what: Annotated[str, typer.Argument(help="An image, a folder of images, a tar, or an .npy file of vectors.")],
    to: Annotated[Path | None, typer.Option("--to", help="Write all rows, to a .parquet or .csv file.")] = None,
    overrides: Overrides = None,
) -> None:
    """Print the clusters of a finished run that images or vectors are in. Exit code 1: none of them can be used."""
    try:
        to = to and predicting.writable(to)
        found = predicting.predict(load(config, overrides or ()), what, _again(config, overrides))
        if to:
            predicting.write(found.rows, to)
    except (UserError, *STORAGE) as error:
        raise _exit(str(error), WRONG) from None
    except KeyboardInterrupt:
        raise _exit("interrupted", INTERRUPTED) from None
    print_table(found.table())
    for line in [*found.lines(), *([f"all rows are in {to}"] if to else [])]:
        console.print(line, markup=False)
    if found.rejected == len(found.rows):
        raise typer.Exit(FAILED)


@app.command()
def export(
    config: ConfigFile,
    format: Annotated[Format, typer.Option("--format", help="What the data set is to be.")],
    to: Annotated[str | None, typer.Option("--to", help="New or empty folder; ROOT/export/FORMAT without.")] = None,
    layer: Annotated[int | None, typer.Option("--layer", help="Classes from this layer, by its clusters.")] = None,
    clusters: Annotated[str | None, typer.Option("--clusters", help="Only these, such as 3,17.")] = None,
    min_confidence: Annotated[float | None, typer.Option("--min-confidence", min=0, max=1)] = None,
    per_cluster: Annotated[int | None, typer.Option("--per-cluster", min=1, help="At most, the surest.")] = None,
    links: Annotated[bool, typer.Option("--links/--copies", help="imagefolder: links to a folder's files.")] = False,
    curated: Annotated[bool, typer.Option("--curated", help="Without what the run's curation dropped.")] = False,
    overrides: Overrides = None,
    local: Annotated[bool, typer.Option("--local", help="In this process, without Ray.")] = False,
) -> None:
    """Write a finished run as a labelled data set, or go on where that stopped. Exit codes as those of `run`."""
    try:
        only = exporting.numbers(clusters)
        wanted = exporting.Wanted(format, to, layer, Filter(only, min_confidence, per_cluster), links, curated)
        summary = exporting.go(load(config, overrides or ()), wanted, _again(config, overrides), local)
    except (UserError, LockedError, *STORAGE) as error:
        raise _exit(str(error), WRONG) from None
    except KeyboardInterrupt:
        raise _exit("interrupted; run the same command again to go on", INTERRUPTED) from None
    for line in summary.lines():
        console.print(line, markup=False)
    if summary.failed or not summary.images:
        raise typer.Exit(FAILED)


@app.command()
def clean(
    configs: Annotated[
        list[Path], typer.Argument(metavar="CONFIG...", help="Every configuration of the folder that is still in use.")
    ],
    overrides: Overrides = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them; without it they are only listed.")] = False,
) -> None:
    """List the results in a run folder that none of these configurations refers to, and with --yes remove them."""
    try:
        loaded = [load(config, overrides or ()) for config in configs]
        for line in cleaning.clean(loaded, yes):
            console.print(line, markup=False)
    except (UserError, LockedError, *STORAGE) as error:
        raise _exit(str(error), WRONG) from None


def _go(this: Run) -> None:
    """Run, say how it went, and leave with the exit code that says the same."""
    try:
        try:
            ok = this.go()
        finally:
            _summary(this)
    except (UserError, LockedError, PermissionError) as error:
        raise _exit(str(error), WRONG) from None
    except (AccountingError, ConnectionError) as error:
        raise _exit(str(error), FAILED) from None
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        said = f"no space left for {this.store.address} ({error}): free some and run the same command again"
        raise _exit(said, FAILED) from None
    except KeyboardInterrupt:
        raise _exit("interrupted; run the same command again to go on", INTERRUPTED) from None
    if not ok:
        raise typer.Exit(FAILED)


def _again(config: Path, overrides: list[str] | None) -> list[str]:
    """The arguments that name a run."""
    return [str(config), *(part for setting in overrides or () for part in ("--set", setting))]


def _load(config: Path, overrides: list[str] | None) -> Config:
    return _wrong(lambda: load(config, overrides or ()))


def _wrong(ask: Callable[[], T]) -> T:
    """What is asked for, or the end with the exit code of a wrong configuration."""
    try:
        return ask()
    except (UserError, *STORAGE) as error:
        raise _exit(str(error), WRONG) from None


def _planned(config: Config, names: list[str]) -> list[planning.Step]:
    planned = _wrong(lambda: graph.plan(config))
    wanted = _wrong(lambda: planning.upstream(names, {step.name: step.stage for step in planned}))
    return [step for step in planned if step.name in wanted]


def _print(config: Config, steps: Sequence[planning.Step], verbose: bool) -> None:
    for step in steps:
        console.print(f"{step.name:15} {len(step.done):,} of {len(step.names):,} shards done", markup=False)
        if verbose:
            one = not step.stage.each
            for product in step.stage.products:
                where = f"{product.name}{product.suffix}" if one else f"{product.name}/*{product.suffix}"
                console.print(f"    writes {config.root.rstrip('/')}/{where}", markup=False)
            for key, value in step.stage.settings().items():
                lines = str(value).count("\n")
                console.print(f"    {key}: {f'({lines} lines)' if lines else value}", markup=False)


def _summary(this: Run) -> None:
    if not this.outcomes:
        return
    columns = ("shards", "reused", "rows in", "rows out", "rejected", "state")
    table = Table(Column("step", no_wrap=True), *columns, box=None, header_style="dim", pad_edge=False)
    for name, o in this.outcomes.items():
        rows = [f"{n:,}" for n in o.counts] if o.counts else ["", "", ""]
        if not o.waits_for:
            went = "ok" if o.ok else f"{len(o.failed):,} FAILED"
            table.add_row(name, f"{o.done:,}/{o.shards:,}", f"{o.reused:,}", *rows, went)
    print_table(table)
    for line in state.faults(this.config):
        console.print(line, markup=False)
    if any(outcome.waits_for for outcome in this.outcomes.values()):
        console.print("mend or remove what failed and run the same command again, or go on without it: --allow-failed")
    if "report" in this.outcomes and this.outcomes["report"].ok:
        console.print(f"look at {this.store.address}/report.html", markup=False)


def _exit(message: str, code: int) -> typer.Exit:
    Screen(stderr=True, soft_wrap=True).print(message, markup=False)
    return typer.Exit(code)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what schedulers send is an interruption like any other
    app()
