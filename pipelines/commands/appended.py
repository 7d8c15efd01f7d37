"""The command `append`: new shards go through the head, the groups and the names of a finished run, as a run of their
own in ROOT/appended, whose inputs are these shards and the results of the other.

`appended.json` there says which inputs were appended, and in which order. That is all that is recorded: it is
configuration, which the command line adds to. What is done is known as in every run, by the files that are there.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError

from cpp.files import filesystem
from cpp.store.connect import open_store
from cpp.store.local import Store
from cpp.store.results import File
from pipelines import graph
from pipelines.commands.finished_run import finished
from pipelines.config.errors import ConfigError
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
    """What one command appended: `shards` as `images.path` or `import.path` name them, `images` as `import.images`."""

    shards: list[str] = Field(min_length=1)
    images: str | None = None


Files = dict[str, Mapping[str, File]]
_RECORD = TypeAdapter(list[Batch])


@dataclass(frozen=True)
class Appended:
    """What was appended to a run: what a run of it starts from, and its steps.

    `new` are the shards that each batch brought, `repeated` names of those that were there before and are left out.
    """

    config: Config
    files: Files
    stages: Mapping[str, Stage]
    new: list[int]
    repeated: list[str]

    def plan(self) -> list[Step]:
        """Every step, as if all before it were done."""
        return planning.plan_steps(self.stages, self.files, open_store(self.config.root))


def recorded(config: Config) -> list[Batch]:
    """What was appended to a run, the earliest first. ConfigError where the record cannot be read."""
    path = _store(config).log(RECORD)
    try:
        return _RECORD.validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (ValidationError, OSError) as error:
        raise ConfigError(f"{path} cannot be read; mend it, or remove its folder to append anew: {error}") from error


def described(config: Config, batches: Sequence[Batch], files: Files) -> Appended:
    """What a run of the batches starts from; `files` are those of the finished run.

    A shard that the run has, or an earlier batch, is left out.
    """
    steps = chain(graph.pipeline(config, files))
    given: Files = {kind: files[kind] for stage in steps.values() for kind in stage.whole if kind in files}
    given |= {kind: files[kind] for kind in ("groups", "tree", "moments", "clusters")}
    given |= {"run_assignments": files["assignments"], "run_rejected": files["rejected"]}
    main, taken = "vectors" if config.import_ else "images", dict[str, dict[str, File]]()
    seen, new, repeated = {_place(file.path) for file in files[main].values()}, list[int](), list[str]()
    for number, batch in enumerate(batches, 1):
        new.append(0)
        came = _inputs(config, batch, number)
        for name, file in came[main].items():
            if (place := _place(file.path)) in seen:
                repeated.append(name)
                continue
            seen.add(place)
            new[-1] += 1
            called = f"append-{number:03d}-{name}"
            if called in files["assignments"]:
                raise ConfigError(f"the run has a shard {called}, which is what an appended one is called: rename it")
            for kind, some in came.items():
                taken.setdefault(kind, {})[called] = some[name]
    here = config.model_copy(update={"root": f"{config.root.rstrip('/')}/{FOLDER}", "name": f"{config.name}, appended"})
    stages = {**steps, "fitted": Fitted(), "report": Growth(title=config.name)}
    return Appended(here, given | taken, stages, new, repeated)


def _place(path: Any) -> tuple[str, tuple[str, ...]]:
    """Where an input is, by whatever links it is named: its path, and of a folder of images which of them."""
    where, names = (path, ()) if isinstance(path, str) else (path.path, getattr(path, "names", ()))
    return where if filesystem.is_remote(where) else os.path.realpath(where), names


def status(config: Config) -> Appended | None:
    """What was appended, seen as far as the run is there; None where nothing was, or is any more."""
    if not (batches := recorded(config)):
        return None
    files: Files = dict(input_files(config))
    for step in graph.plan(config):
        files |= step.outputs
    found = described(config, batches, files)
    return found if sum(found.new) else None


def waiting(config: Config) -> list[str]:
    """What to say of appended shards after a run: nothing where they are up to date with it."""
    try:
        found = status(config)
    except ConfigError as error:
        return [str(error)]
    if found is None or all(step.complete for step in found.plan()):
        return []
    return [
        f"{sum(found.new):,} appended shards in {found.config.root} are not up to date with this run: "
        "the command append without --shards brings them up to date"
    ]


def together(config: Config, wanted: Sequence[str], command: Sequence[str]) -> tuple[Files, Files]:
    """The files of a finished run, as `finished` gives them, and those by shard of what was appended to it.

    ConfigError where either is not up to date.
    """
    files = finished(config, wanted, command)
    if not (batches := recorded(config)):
        return files, {}
    files = _fitted(config, command)
    found = described(config, batches, files)
    if not sum(found.new):
        return files, {}
    store, there = open_store(found.config.root), dict(found.files)
    for name, stage in found.stages.items():
        planned = planning.plan_step(name, stage, there, store)
        there |= planned.results()
        if stage.each and not planned.complete:
            again = shlex.join(["python", "-m", "pipelines", "append", *command])
            raise ConfigError(
                f"what was appended to {config.root} is not up to date, step {name} has {len(planned.done):,} of "
                f"{len(planned.names):,} shards done. What brings it up to date: {again}"
            )
    kinds = {kind for stage in found.stages.values() for kind in stage.each}
    kinds |= {product.name for stage in found.stages.values() for product in stage.products if product.rows}
    return files, {kind: there[kind] for kind in kinds if kind in there}


def _fitted(config: Config, command: Sequence[str]) -> Files:
    try:
        return finished(config, ["assignments", "clusters", "labels"], command)
    except ConfigError as error:
        raise ConfigError(
            f"{error}\nIf new files were put among the inputs of the configuration, to which clusters are fitted, move "
            "them to a folder of their own"
        ) from None


def chain(stages: Mapping[str, Stage]) -> dict[str, Stage]:
    """The steps that a shard goes through, to its labels or, where there are none, its clusters."""
    made_by = {product.name: name for name, stage in stages.items() for product in stage.products}
    wanted = {"labels" if "labels" in stages else "assign"}
    for name in reversed(list(stages)):
        if name in wanted:
            wanted |= {made_by[kind] for kind in stages[name].each if kind in made_by}
    return {name: stage for name, stage in stages.items() if name in wanted}


def _inputs(config: Config, batch: Batch, number: int) -> Files:
    """The shards of a batch by kind. The images of COCO's layout are read as a folder: their annotations are others."""
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
    except ConfigError as error:
        said = str(error.__cause__ or error).replace("images.path", "--shards")
        where = f"{config.root.rstrip('/')}/{FOLDER}/{RECORD}"
        raise ConfigError(
            f"append {number}, {', '.join(batch.shards)}: {said} (earlier appends stand in {where}: take "
            "out there what is to be forgotten)"
        ) from None


def _store(config: Config) -> Store:
    return open_store(f"{config.root.rstrip('/')}/{FOLDER}")


def _already(repeated: Sequence[str]) -> str:
    if not repeated:
        return ""
    some = ", ".join(repeated[:3]) + (", ..." if len(repeated) > 3 else "")
    return f" ({len(repeated):,} shards, {some}, are appended already or are inputs of the run)"
