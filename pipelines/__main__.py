"""The command line, `cpp-at-scale COMMAND`: declares the commands and their options, and calls `pipelines.commands`.

Each command imports what it needs when it is called, so that `--help` appears at once.
"""

from __future__ import annotations

import json
import signal
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cpp.export.format import Format
from pipelines.commands import group, options

if TYPE_CHECKING:
    from pipelines.config.load import Config

app = typer.Typer(
    cls=group.Commands,
    add_completion=False,
    no_args_is_help=True,
)


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", callback=group.print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Cluster large image collections and name the clusters."""


def _load(config: str, overrides: list[str] | None) -> Config:
    from pipelines.config.load import load

    return load(config, overrides or ())


@app.command()
def run(
    config: options.ConfigFile,
    steps: options.Steps = None,
    overrides: options.Overrides = None,
    local: options.Local = False,
    allow_failed: options.AllowFailed = False,
) -> None:
    """Bring a run up to date. Exit code 1: something failed; 2: a wrong command or configuration; 130: interrupted."""
    from pipelines.commands import parts, terminal
    from pipelines.run import Run

    loaded = _load(config, overrides)
    terminal.execute(Run(loaded, steps or (), local, allow_failed))
    terminal.print_lines(parts.stale(loaded))


@app.command()
def demo(local: Annotated[bool, typer.Option("--local/--ray", help="Work in this process, or on Ray.")] = True) -> None:
    """Draw 3,000 pictures into runs/demo-data, cluster them and name the clusters in runs/demo."""
    from pipelines.commands import terminal
    from pipelines.run import Run

    folder = Path("runs/demo-data")
    if not (folder / "words.txt").exists():
        from cpp.demo import dataset

        dataset.main(folder)
    terminal.execute(Run(_load(str(files("cpp.demo") / "assets" / "demo.yaml"), None), (), local))


@app.command()
def init(
    inputs: Annotated[str, typer.Argument(help="A folder, file or address of tars, images, COCO, vectors or a table.")],
    to: Annotated[Path, typer.Option("--to", help="The new YAML file.")] = Path("config.yaml"),
) -> None:
    """Look at the inputs and write a commented configuration for them."""
    from pipelines.commands import terminal
    from pipelines.commands.init import init as write_config

    terminal.print_lines(write_config(inputs, to))


@app.command()
def validate(config: options.ConfigFile, overrides: options.Overrides = None) -> None:
    """Check a configuration and its inputs without starting anything. Every fault is named. Exit code 2: invalid."""
    from pipelines.commands import terminal

    terminal.print_lines(terminal.validity(config, _load(config, overrides)))


@app.command()
def schema(
    to: Annotated[Path | None, typer.Option("--to", help="Write to this file; without it, print.")] = None,
) -> None:
    """Print the JSON schema of a configuration, which editors use to complete and check keys."""
    from pipelines.config.load import Config

    text = json.dumps(Config.model_json_schema(by_alias=True), indent=1) + "\n"
    if to:
        to.write_text(text, encoding="utf-8")
    else:
        typer.echo(text, nl=False)


@app.command()
def append(
    config: options.ConfigFile,
    shards: options.NewShards = None,
    images: options.NewImages = None,
    overrides: options.Overrides = None,
    local: options.Local = False,
    allow_failed: options.AllowFailed = False,
) -> None:
    """Take new shards through a finished run's head, clusters and names, into ROOT/appended. Exit codes as `run`.

    Nothing of the run is computed again. Without --shards: bring up to date what was appended before.
    """
    from pipelines.commands import append, terminal
    from pipelines.run import Run

    part, messages = append.append(_load(config, overrides), shards or (), images)
    this = Run(part, (), local, allow_failed)
    terminal.print_lines(messages)
    terminal.execute(this)
    terminal.print_lines(terminal.growth(part.config))


@app.command()
def plan(
    config: options.ConfigFile,
    steps: options.Steps = None,
    overrides: options.Overrides = None,
    estimate: Annotated[bool, typer.Option("--estimate", help="Estimate remaining time, disk and memory.")] = False,
    price: Annotated[
        float | None, typer.Option(min=0, help="Price of one hour of all machines, for --estimate.")
    ] = None,
) -> None:
    """Print every step, its settings, where it writes, and how many of its shards are done. Writes nothing."""
    from pipelines import graph
    from pipelines.commands import terminal
    from pipelines.estimate import estimate as estimate_run

    loaded = _load(config, overrides)
    planned = graph.plan(loaded, steps or ())
    terminal.print_plan(loaded, planned)
    terminal.print_steps(loaded, planned, verbose=True)
    if estimate:
        table, sentences = estimate_run(loaded, planned, price)
        terminal.print_table(table)
        terminal.print_lines(sentences)


@app.command()
def status(config: options.ConfigFile, steps: options.Steps = None, overrides: options.Overrides = None) -> None:
    """Print the progress of a run, whether it is running now, and what failed."""
    from pipelines.commands import terminal

    terminal.print_status(_load(config, overrides), steps or ())


@app.command()
def names(
    config: options.ConfigFile,
    layer: Annotated[int | None, typer.Option("--layer", help="The layer with this number of clusters.")] = None,
    overrides: options.Overrides = None,
) -> None:
    """Print the clusters of a finished run by size: their names, the confidence, and the evidence."""
    from pipelines.commands import inspect, terminal

    terminal.print_table(inspect.names(_load(config, overrides), layer))


@app.command()
def ask(config: options.ConfigFile, overrides: options.Overrides = None) -> None:
    """Ask about the ten pairs of clusters that are least certain: same or different? Answers change the next cut."""
    from pipelines.commands import ask, terminal

    terminal.print_lines(ask.ask(_load(config, overrides), terminal.prompt, terminal.print_line))


@app.command()
def decide(
    config: options.ConfigFile,
    decisions: Annotated[list[str] | None, typer.Argument(metavar="FILE...", help="Files saved on the page.")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Remove the file that was applied last.")] = False,
    overrides: options.Overrides = None,
    local: options.Local = False,
) -> None:
    """Apply decisions about clusters (rename, merge, split, drop, tag) to a finished run, and keep them with it."""
    from pipelines.commands import decide, terminal

    terminal.print_lines(decide.go(_load(config, overrides), decisions or (), undo, local))


@app.command()
def search(
    config: options.ConfigFile,
    text: Annotated[str, typer.Argument(help="A sentence; without a text tower, a word of the vocabulary.")],
    n: Annotated[int, typer.Option("-n", min=1, help="Number of clusters and of images to print.")] = 10,
    overrides: options.Overrides = None,
) -> None:
    """Print the clusters and images of a finished run that are nearest to a sentence."""
    from pipelines.commands import inspect, terminal

    for table in inspect.nearest(_load(config, overrides), text, n):
        terminal.print_table(table)


@app.command()
def predict(
    config: options.ConfigFile,
    what: Annotated[str, typer.Argument(help="An image, a folder of images, a tar, or an .npy file of vectors.")],
    to: Annotated[Path | None, typer.Option("--to", help="Write all rows to this .parquet or .csv file.")] = None,
    overrides: options.Overrides = None,
) -> None:
    """Print the clusters of a finished run that images or vectors belong to. Exit code 1: none of them can be used."""
    from pipelines.commands import predict, terminal

    to = to and predict.writable(to)
    rows, titles = predict.predict(_load(config, overrides), what)
    if to:
        predict.write(rows, to)
    terminal.print_table(predict.table(rows, titles))
    terminal.print_lines([*predict.lines(rows), *([f"all rows are in {to}"] if to else [])])
    if rows[predict.REASON].null_count == 0:
        raise typer.Exit(group.FAILED)


@app.command()
def export(
    config: options.ConfigFile,
    format: Annotated[Format, typer.Option("--format", help="Layout of the data set.")],
    to: Annotated[str | None, typer.Option("--to", help="New or empty folder; default ROOT/export/FORMAT.")] = None,
    layer: Annotated[int | None, typer.Option("--layer", help="Classes from the layer of this size.")] = None,
    clusters: Annotated[str | None, typer.Option("--clusters", help="Only these clusters, such as 3,17.")] = None,
    min_confidence: options.MinConfidence = None,
    per_cluster: options.PerCluster = None,
    links: Annotated[bool, typer.Option("--links/--copies", help="imagefolder: link to the source files.")] = False,
    curated: Annotated[bool, typer.Option("--curated", help="Leave out images that the run's curation drops.")] = False,
    use_guess: options.UseGuess = False,
    overrides: options.Overrides = None,
    local: options.Local = False,
) -> None:
    """Write a finished run as a labelled data set, or resume an interrupted export. Exit codes as those of `run`."""
    from cpp.export.rows import Filter
    from pipelines.commands import export_plan, terminal
    from pipelines.commands.export import go

    images = Filter(export_plan.parse_clusters(clusters), min_confidence, per_cluster)
    request = export_plan.Wanted(format, to, layer, images, links, curated, use_guess)
    summary = go(_load(config, overrides), request, local)
    terminal.print_lines(summary.lines())
    if summary.failed or not summary.images:
        raise typer.Exit(group.FAILED)


@app.command()
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="YAML file or run folder of a finished run.")],
    b: Annotated[str, typer.Argument(metavar="B", help="That of another run.")],
    out: Annotated[str | None, typer.Option("--out", help="New folder; default in the run folder of B.")] = None,
    overrides: options.Overrides = None,
) -> None:
    """Write a table and a page: which clusters of A stayed, split, merged or vanished in B, and which appeared."""
    from pipelines.commands import terminal
    from pipelines.commands.compare import compare as compare_runs

    terminal.print_lines(compare_runs(_load(a, overrides), _load(b, overrides), out).lines())


@app.command()
def clean(
    configs: Annotated[
        list[str], typer.Argument(metavar="CONFIG...", help="Every configuration of the folder that is still in use.")
    ],
    overrides: options.Overrides = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove the results; without it they are only listed.")] = False,
) -> None:
    """List the results in a run folder that none of these configurations refers to, and with --yes remove them."""
    from pipelines.commands import clean, terminal

    terminal.print_lines(clean.clean([_load(config, overrides) for config in configs], yes))


def main() -> None:
    """The console script: SIGTERM, which schedulers send, interrupts a run as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    app()


if __name__ == "__main__":
    main()
