"""The command `append`: takes new shards through a finished run. `pipelines.commands.parts` keeps the record."""

from __future__ import annotations

import os
from collections.abc import Sequence

from pipelines.commands.parts import NEEDED, Batch, describe, finished, prefix, recorded, save_record
from pipelines.config.errors import RunStateError, UsageError
from pipelines.config.load import Config
from pipelines.graph import Part


def append(config: Config, new: Sequence[str], images: str | None) -> tuple[Part, list[str]]:
    """The part with all appended shards, for a run that brings it up to date, and messages to print before it.

    `new` are inputs to append, which are recorded. Raises RunStateError if the run is not finished, UsageError if an
    option does not fit it or if no shard is new.
    """
    try:
        fitted = finished(config, NEEDED)
    except RunStateError as error:
        raise RunStateError(
            f"{error}\nIf new files were added to the inputs of the configuration, to which clusters are fitted, move "
            "them to another folder and append that"
        ) from None
    before = recorded(config)
    batch = _batch(config, new, images) if new else None
    number = next((i for i, old in enumerate(before, 1) if batch and batch.same_inputs(old)), None)
    part, batches, repeated, messages = describe(fitted, [*before, batch] if batch and number is None else before)
    if len(batches) > len(before) and not any(shard.startswith(prefix(len(batches))) for shard in part.shards):
        batches.pop()  # it has nothing new
    if batches != before:
        save_record(config, before, batches)
    names = ", ".join(repeated[:3]) + (", ..." if len(repeated) > 3 else "")
    skipped = f" ({len(repeated):,} shards, {names}, are appended already or are inputs of the run)" if repeated else ""
    if not part.shards:
        raise UsageError(f"append: there is nothing to append{skipped}: name new shards: --shards")
    messages += [f"not taken twice{skipped}"] if repeated else []
    if number is not None:
        messages.append(f"this was appended already, as append {number}: it is brought up to date")
    return part, messages


def _batch(config: Config, new: Sequence[str], images: str | None) -> Batch:
    """The inputs as they are recorded: relative paths start from the current directory."""
    if config.import_ is None and images is not None:
        raise UsageError("--images is for runs that start from `import`; here --shards are images")
    if config.import_ and len(new) > 1:
        raise UsageError(f"--shards names {len(new)} folders; a run that starts from `import` takes one at a time")
    if config.import_ and (config.import_.images is None) != (images is None):
        raise UsageError(
            f"import.images of this run is {config.import_.images or 'null'}: "
            + ("name the tars with the pictures of the new vectors with --images" if images is None else "no --images")
        )
    return Batch(shards=[_absolute(path) for path in new], images=None if images is None else _absolute(images))


def _absolute(path: str) -> str:
    mark, bare = ("@", path[1:]) if path.startswith("@") else ("", path)
    return path if "://" in bare else mark + os.path.abspath(os.path.expanduser(bare))
