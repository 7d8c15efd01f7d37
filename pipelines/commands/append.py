"""The command `append`: new shards into a finished run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from cpp.store.lease import LockedError
from pipelines.commands.appended import _RECORD, RECORD, Batch, _already, _fitted, _store, described, recorded
from pipelines.config.errors import ConfigError
from pipelines.config.load import Config
from pipelines.run import Run


def append(
    config: Config, new: Sequence[str], images: str | None, command: Sequence[str], local: bool, allow_failed: bool
) -> tuple[Run, list[str]]:
    """The run that brings up to date what was appended, with `new` recorded as the last of it; what to say beforehand.

    ConfigError where the run is not finished, or the inputs are not there.
    """
    files, batches = _fitted(config, command), recorded(config)
    added = _batch(config, new, images) if new else None
    found = described(config, [*batches, *([added] if added and added not in batches else [])], files)
    if len(found.new) > len(batches):
        if found.new[-1]:
            _record(config, batches, [*batches, added] if added else batches)
        else:
            found = replace(described(config, batches, files), repeated=found.repeated)
    if not sum(found.new):
        raise ConfigError(
            f"append: there is nothing to append{_already(found.repeated)}: name new shards with --shards"
        )
    said = [f"not taken twice{_already(found.repeated)}"] if found.repeated else []
    if added in batches:
        said.append(f"this was appended already, as append {batches.index(added) + 1}: it is brought up to date")
    return Run(found.config, (), local, allow_failed, (found.files, found.stages)), said


def _batch(config: Config, new: Sequence[str], images: str | None) -> Batch:
    """What a person names, as it is recorded: paths start from where the command was given."""
    if config.import_ is None and images:
        raise ConfigError("--images is for runs that start from `import`; here --shards are images")
    if config.import_ and len(new) > 1:
        raise ConfigError(f"--shards names {len(new)} folders; a run that starts from `import` takes one at a time")
    if config.import_ and (config.import_.images is None) != (images is None):
        raise ConfigError(
            f"import.images of this run is {config.import_.images or 'null'}: "
            + ("name the tars with the pictures of the new vectors with --images" if images is None else "no --images")
        )
    return Batch(shards=[_absolute(path) for path in new], images=_absolute(images) if images else None)


def _absolute(path: str) -> str:
    mark, bare = ("@", path[1:]) if path.startswith("@") else ("", path)
    return path if "://" in bare else mark + os.path.abspath(os.path.expanduser(bare))


def _record(config: Config, before: Sequence[Batch], batches: Sequence[Batch]) -> None:
    """Write down what is appended. LockedError while another is at work, and where one was since `before`."""
    store = _store(config)
    with store.lock():
        if recorded(config) != list(before):
            raise LockedError(f"something else was appended to {config.root} just now: run the same command again")
        scratch = store.root / f".{RECORD}.new"
        scratch.write_bytes(_RECORD.dump_json(list(batches), indent=2) + b"\n")
        os.replace(scratch, store.root / RECORD)
        store.save()
