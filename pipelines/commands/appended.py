"""Shards appended to a finished run: their record, and the run in ROOT/appended that computes their results.

Appended shards go through the head, the groups and the names of the finished run. `appended.json` records which inputs
were appended, in order; it extends the configuration. As in every run, a result is done if its file exists.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError

from cpp.files import filesystem
from cpp.store.connect import open_store
from cpp.store.lease import LockedError
from cpp.store.local import Store
from cpp.store.results import File
from pipelines import graph
from pipelines.commands.finished_run import Files, command_line, finished, shard_steps
from pipelines.config.errors import RunStateError, UsageError, UserError
from pipelines.config.load import Config
from pipelines.config.sections import Section
from pipelines.engine import plan as planning
from pipelines.engine.inputs import input_files, input_shards
from pipelines.engine.plan import Step
from pipelines.engine.stage import Stage
from pipelines.stages.drift import Fitted, Growth

FOLDER = "appended"
RECORD = "appended.json"


class Batch(Section):
    """What one command appended: `shards` as in `images.path` or `import.path`, `images` as in `import.images`."""

    shards: list[str] = Field(min_length=1)
    images: str | None = None


_RECORD = TypeAdapter(list[Batch])


@dataclass(frozen=True)
class Appended:
    """The run over all appended shards: its configuration, input files and steps.

    `new` counts the shards of each batch; `repeated` names those left out because the run or an earlier batch has them.
    """

    config: Config
    files: Files
    stages: Mapping[str, Stage]
    new: list[int]
    repeated: list[str]

    def plan(self) -> list[Step]:
        """Every step, planned as if all steps before it were done."""
        return planning.plan_steps(self.stages, self.files, open_store(self.config.root))


def recorded(config: Config) -> list[Batch]:
    """The batches appended to a run, the earliest first. RunStateError if the record cannot be read."""
    path = _store(config).log(RECORD)
    try:
        return _RECORD.validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (ValidationError, OSError) as error:
        raise RunStateError(f"{path} cannot be read; fix it, or remove its folder to append anew: {error}") from error


def save_record(config: Config, before: Sequence[Batch], batches: Sequence[Batch]) -> None:
    """Replace the record `before` by `batches`. LockedError if another append is running or has changed the record."""
    store = _store(config)
    with store.lock():
        if recorded(config) != list(before):
            raise LockedError(f"something else was appended to {config.root} just now: run the same command again")
        scratch = store.root / f".{RECORD}.new"
        scratch.write_bytes(_RECORD.dump_json(list(batches), indent=2) + b"\n")
        os.replace(scratch, store.root / RECORD)
        store.save()


def describe(config: Config, batches: Sequence[Batch], files: Files) -> Appended:
    """The run over the batches; `files` are those of the finished run. A shard that exists already is left out."""
    stages = shard_steps(graph.pipeline(config, files))
    inputs: Files = {kind: files[kind] for stage in stages.values() for kind in stage.whole if kind in files}
    inputs |= {kind: files[kind] for kind in ("groups", "tree", "moments", "clusters")}
    inputs |= {"run_assignments": files["assignments"], "run_rejected": files["rejected"]}
    main, shards = "vectors" if config.import_ else "images", dict[str, dict[str, File]]()
    seen, new, repeated = {_location(file.path) for file in files[main].values()}, list[int](), list[str]()
    for number, batch in enumerate(batches, 1):
        new.append(0)
        batch_files = _inputs(config, batch, number)
        for name, file in batch_files[main].items():
            if (location := _location(file.path)) in seen:
                repeated.append(name)
                continue
            seen.add(location)
            new[-1] += 1
            shard = f"append-{number:03d}-{name}"
            if shard in files["assignments"]:
                raise RunStateError(f"the run has a shard {shard}, which is the name of an appended one: rename it")
            for kind, by_name in batch_files.items():
                shards.setdefault(kind, {})[shard] = by_name[name]
    root = f"{config.root.rstrip('/')}/{FOLDER}"
    appended = config.model_copy(update={"root": root, "name": f"{config.name}, appended"})
    stages |= {"fitted": Fitted(), "report": Growth(title=config.name)}
    return Appended(appended, inputs | shards, stages, new, repeated)


def _location(path: Any) -> tuple[str, tuple[str, ...]]:
    """An input's real path, links resolved, and for a shard of a folder the names of its images."""
    where, names = (path, ()) if isinstance(path, str) else (path.path, getattr(path, "names", ()))
    return where if filesystem.is_remote(where) else os.path.realpath(where), names


def status(config: Config) -> Appended | None:
    """The run over what was appended, as far as the main run is planned; None if nothing is appended."""
    if not (batches := recorded(config)):
        return None
    files: Files = dict(input_files(config))
    for step in graph.plan(config):
        files |= step.outputs
    appended = describe(config, batches, files)
    return appended if sum(appended.new) else None


def waiting(config: Config) -> list[str]:
    """A message for the end of a run if appended shards are not up to date with it."""
    try:
        appended = status(config)
    except UserError as error:
        return [str(error)]
    if appended is None or all(step.complete for step in appended.plan()):
        return []
    return [
        f"{sum(appended.new):,} appended shards in {appended.config.root} are not up to date with this run: "
        "the command append without --shards brings them up to date"
    ]


def together(config: Config, needed: Sequence[str], command: Sequence[str]) -> tuple[Files, Files]:
    """The files of a finished run, as `finished` returns them, and the per-shard files of what was appended to it.

    Raises RunStateError if either is not up to date.
    """
    files = finished(config, needed, command)
    if not (batches := recorded(config)):
        return files, {}
    files = fitted_files(config, command)
    appended = describe(config, batches, files)
    if not sum(appended.new):
        return files, {}
    store, existing = open_store(appended.config.root), dict(appended.files)
    for name, stage in appended.stages.items():
        step = planning.plan_step(name, stage, existing, store)
        existing |= step.results()
        if stage.each and not step.complete:
            raise RunStateError(
                f"what was appended to {config.root} is not up to date, step {name} has {len(step.done):,} of "
                f"{len(step.names):,} shards done. What brings it up to date: {command_line('append', command)}"
            )
    kinds = {kind for stage in appended.stages.values() for kind in stage.each}
    kinds |= {product.name for stage in appended.stages.values() for product in stage.products if product.rows}
    return files, {kind: existing[kind] for kind in kinds if kind in existing}


def fitted_files(config: Config, command: Sequence[str]) -> Files:
    """The files of the finished run that new shards are appended to. RunStateError if it is not finished."""
    try:
        return finished(config, ["assignments", "clusters", "labels"], command)
    except RunStateError as error:
        raise RunStateError(
            f"{error}\nIf new files were added to the inputs of the configuration, to which clusters are fitted, move "
            "them to another folder and append that"
        ) from None


def _inputs(config: Config, batch: Batch, number: int) -> Files:
    """The shards of a batch by kind. Images of a COCO run are read as a folder: the annotations do not cover them."""
    if config.import_:
        update: dict[str, object] = {"path": batch.shards[0], "images": batch.images}
        changed = config.model_copy(update={"import_": config.import_.model_copy(update=update)})
    else:
        assert config.images is not None  # the config has one of the two  # noqa: S101
        update = {"path": batch.shards}
        update |= {"format": "folder", "annotations": []} if config.images.format == "coco" else {}
        changed = config.model_copy(update={"images": config.images.model_copy(update=update)})
    try:
        return dict(input_shards(changed))
    except UserError as error:
        cause = str(error.__cause__ or error).replace("images.path", "--shards")
        record = f"{config.root.rstrip('/')}/{FOLDER}/{RECORD}"
        raise UsageError(
            f"append {number}, {', '.join(batch.shards)}: {cause} ({record} lists the earlier appends: remove an entry "
            "whose inputs no longer exist)"
        ) from None


def _store(config: Config) -> Store:
    return open_store(f"{config.root.rstrip('/')}/{FOLDER}")
