"""The files of a finished run, located without computing anything. Knows nothing of appended shards."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from cpp.store.connect import open_store
from cpp.store.results import File
from pipelines.config.errors import RunStateError
from pipelines.config.load import Config
from pipelines.engine.inputs import input_files
from pipelines.engine.plan import plan_step, upstream
from pipelines.engine.stage import Stage
from pipelines.graph import pipeline

Files = dict[str, Mapping[str, File]]  # by product and shard


def command_line(command: str, arguments: Sequence[str]) -> str:
    """A command as the user types it, for messages; `arguments` name the configuration and its overrides."""
    return shlex.join(["python", "-m", "pipelines", command, *arguments])


def finished(config: Config, needed: Sequence[str], arguments: Sequence[str]) -> Files:
    """The files of a run, by product and shard, with the products `needed` if the run has a step for them.

    Raises RunStateError, with the command that computes them, if some are missing. A run that was completed without its
    failed shards counts as finished.
    """
    files: Files = dict(input_files(config))
    stages = pipeline(config, files)
    makers = [name for name, stage in stages.items() if {p.name for p in stage.products} & set(needed)]
    first: str | None = None
    for name in upstream(makers, stages):
        step = plan_step(name, stages[name], files, open_store(config.root))
        files |= step.results()
        if not step.complete and first is None:
            first = f"step {name} has {len(step.done):,} of {len(step.names):,} shards"
        if name in makers and not step.complete:
            raise RunStateError(
                f"{config.root} is not a finished run with these settings, {first} done. "
                f"What makes it: {command_line('run', arguments)}"
            )
    return files


def shard_steps(stages: Mapping[str, Stage]) -> dict[str, Stage]:
    """The steps that take a single shard to its labels or, in a run without names, to its clusters."""
    made_by = {product.name: name for name, stage in stages.items() for product in stage.products}
    needed = {"labels" if "labels" in stages else "assign"}
    for name in reversed(list(stages)):
        if name in needed:
            needed |= {made_by[kind] for kind in stages[name].each if kind in made_by}
    return {name: stage for name, stage in stages.items() if name in needed}
