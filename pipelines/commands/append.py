"""The command `append`: takes new shards through a finished run. `pipelines.commands.appended` keeps the record."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from pipelines.commands.appended import Batch, describe, fitted_files, recorded, save_record
from pipelines.config.errors import UsageError
from pipelines.config.load import Config
from pipelines.run import Run


def append(
    config: Config, new: Sequence[str], images: str | None, command: Sequence[str], local: bool, allow_failed: bool
) -> tuple[Run, list[str]]:
    """The run that brings all appended shards up to date, and messages to print before it.

    `new` are inputs to append, which are recorded. Raises RunStateError if the run is not finished, UsageError if an
    option does not fit it or if no shard is new.
    """
    files, batches = fitted_files(config, command), recorded(config)
    added = _batch(config, new, images) if new else None
    appended = describe(config, [*batches, *([added] if added and added not in batches else [])], files)
    if len(appended.new) > len(batches):
        if appended.new[-1]:
            save_record(config, batches, [*batches, added] if added else batches)
        else:
            appended = replace(describe(config, batches, files), repeated=appended.repeated)
    if not sum(appended.new):
        raise UsageError(f"append: there is nothing to append{_skipped(appended.repeated)}: name new shards: --shards")
    messages = [f"not taken twice{_skipped(appended.repeated)}"] if appended.repeated else []
    if added in batches:
        messages.append(f"this was appended already, as append {batches.index(added) + 1}: it is brought up to date")
    return Run(appended.config, (), local, allow_failed, (appended.files, appended.stages)), messages


def _batch(config: Config, new: Sequence[str], images: str | None) -> Batch:
    """The inputs as they are recorded: relative paths start from the current directory."""
    if config.import_ is None and images:
        raise UsageError("--images is for runs that start from `import`; here --shards are images")
    if config.import_ and len(new) > 1:
        raise UsageError(f"--shards names {len(new)} folders; a run that starts from `import` takes one at a time")
    if config.import_ and (config.import_.images is None) != (images is None):
        raise UsageError(
            f"import.images of this run is {config.import_.images or 'null'}: "
            + ("name the tars with the pictures of the new vectors with --images" if images is None else "no --images")
        )
    return Batch(shards=[_absolute(path) for path in new], images=_absolute(images) if images else None)


def _absolute(path: str) -> str:
    mark, bare = ("@", path[1:]) if path.startswith("@") else ("", path)
    return path if "://" in bare else mark + os.path.abspath(os.path.expanduser(bare))


def _skipped(repeated: Sequence[str]) -> str:
    if not repeated:
        return ""
    names = ", ".join(repeated[:3]) + (", ..." if len(repeated) > 3 else "")
    return f" ({len(repeated):,} shards, {names}, are appended already or are inputs of the run)"
