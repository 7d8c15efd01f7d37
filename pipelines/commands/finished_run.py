"""What a finished run has: its files, found without computing anything."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from cpp.store.connect import open_store
from cpp.store.results import File
from pipelines.config.errors import ConfigError
from pipelines.config.load import Config
from pipelines.engine.inputs import input_files
from pipelines.engine.plan import plan_step, upstream
from pipelines.graph import pipeline


def finished(config: Config, needed: Sequence[str], command: Sequence[str]) -> dict[str, Mapping[str, File]]:
    """The files of a run, by product and shard, with the products `needed` where the run makes them.

    ConfigError, with the command that makes them, where they are not all there. A run that went on without shards that
    failed is finished: what it has is taken.
    """
    files: dict[str, Mapping[str, File]] = dict(input_files(config))
    stages = pipeline(config, files)
    makers = [name for name, stage in stages.items() if {p.name for p in stage.products} & set(needed)]
    first: str | None = None
    for name in upstream(makers, stages):
        planned = plan_step(name, stages[name], files, open_store(config.root))
        files |= planned.results()
        if not planned.complete and first is None:
            first = f"step {name} has {len(planned.done):,} of {len(planned.names):,} shards"
        if name in makers and not planned.complete:
            again = shlex.join(["python", "-m", "pipelines", "run", *command])
            raise ConfigError(
                f"{config.root} is not a finished run with these settings, {first} done. What makes it: {again}"
            )
    return files
