"""The command `decide`: apply decisions about clusters to a finished run, and record them in ROOT; or undo the last."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

from cpp.files import scratch, tables
from cpp.store.object_store import open_store
from pipelines import graph
from pipelines.commands import terminal
from pipelines.commands.parts import finished
from pipelines.config.decisions import RECORD, DecisionFile, dump, parse, read
from pipelines.config.errors import RunStateError, UsageError
from pipelines.config.load import Config
from pipelines.engine.executor import run_in_process
from pipelines.engine.plan import plan_step, upstream
from pipelines.engine.stage import Context
from pipelines.run import Run

MATCHING = ("recut", "decide")  # the steps that can refuse decisions
SHOWN = 20  # decisions whose effects are printed


def go(config: Config, paths: Sequence[str], undo: bool, local: bool) -> Iterator[str]:
    """Apply these files or, with `undo`, remove the last one; `local` runs without Ray. Yields lines to print.

    Raises UsageError unless there are files or `undo`, and what `_apply` and `_undo` raise.
    """
    if bool(paths) == undo:
        raise UsageError("decide: name one or more files of decisions, or give --undo")

    def run(of: Config) -> None:
        terminal.execute(Run(of, (), local))

    yield from _undo(config, run) if undo else _apply(config, paths, run)


def _apply(config: Config, paths: Sequence[str], run: Callable[[Config], None]) -> Iterator[str]:
    """Check the files against the run, record them in its folder, bring the run up to date by `run`; yields lines.

    Raises ConfigError or RunStateError, before anything is recorded, if files are invalid, contradict each other or
    those that were recorded before, or if a decision does not fit the run.
    """
    finished(config, ["clusters"])
    new = [os.path.abspath(path) if "://" not in path else path for path in paths]
    _check(config.model_copy(update={"decisions": [*config.decisions, *new]}))
    before = _recorded(config)
    files = [file for path in new for file in read(path) if file not in before]
    _record(config, [*before, *files])
    run(config)
    yield from _effects(config, {str(file.file) for path in new for file in read(path)})
    yield f"{len(before) + len(files):,} files of decisions are in {_path(config)}; undo the last: --undo"


def _undo(config: Config, run: Callable[[Config], None]) -> Iterator[str]:
    """Remove the file that was recorded last, and bring the run up to date. UsageError if there is none."""
    before = _recorded(config)
    if not before:
        more = f"; `decisions` of the configuration names {', '.join(config.decisions)}" if config.decisions else ""
        raise UsageError(f"--undo: no decisions are recorded in {config.root}{more}")
    _record(config, before[:-1])
    run(config)
    yield f"undone: the {len(before[-1].decisions):,} decisions of {before[-1].file}; {len(before) - 1:,} files remain"


def _check(config: Config) -> None:
    """Find the clusters of all decisions. RunStateError with the reasons if one does not fit the run."""
    part = graph.fitted(config)
    store, files = open_store(config.root), dict(part.files)
    for name in upstream([name for name in MATCHING if name in part.stages], part.stages):
        stage = part.stages[name]
        step = plan_step(name, stage, files, store)
        if name in MATCHING and not step.complete:
            context = Context.create(stage.whole, files, config.resources, gpu=False)
            with store.lock():
                (result,) = run_in_process(stage, context, step.todo, store)
            if result.error:
                raise RunStateError(result.error.removeprefix("ValueError: "))
            step = plan_step(name, stage, files, store)
        files |= step.results()


def _effects(config: Config, names: set[str]) -> Iterator[str]:
    """What the decisions of these files do, line by line."""
    (file,) = graph.fitted(config).plan(["decide"])[1].files["decisions"].values()
    with scratch.local_copy(file.path) as path:
        rows = [row for row in tables.read(path).to_pylist() if row["file"] in names]
    for row in rows[:SHOWN]:
        title = f" ({row['title']})" if row["title"] else ""
        yield f"{row['action']} {row['cluster']}{title}: {row['effect']}"
    if len(rows) > SHOWN:
        yield f"and {len(rows) - SHOWN:,} more"
    yield f"all decisions and what they do: {config.root.rstrip('/')}/decisions.parquet"


def _path(config: Config) -> str:
    return f"{config.root.rstrip('/')}/{RECORD}"


def _recorded(config: Config) -> list[DecisionFile]:
    """The files of decisions in the run folder. ConfigError if the record is damaged."""
    path = open_store(config.root).log(RECORD)
    return parse(path.read_bytes(), str(path)) if path.exists() else []


def _record(config: Config, files: Sequence[DecisionFile]) -> None:
    """Replace the record in the run folder; without files there is none."""
    store = open_store(config.root)
    path = store.log(RECORD)
    with store.lock():
        if files:
            new = path.with_name(f".{RECORD}.new")
            new.write_text(dump(files), encoding="utf-8")
            os.replace(new, path)
        else:
            path.unlink(missing_ok=True)
        store.save()
