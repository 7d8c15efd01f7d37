"""The parts of a run: the images that its clusters are fitted to, in ROOT, and those appended later, in ROOT/appended.

Appended shards go through the head, the groups and the names of the finished run. `appended.json` records which inputs
were appended, in order; it extends the configuration. As in every run, a result is done if its file exists.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError

from cpp.files import filesystem
from cpp.sources.ignored import FileCounts
from cpp.store.lease import LockedError
from cpp.store.local import Store
from cpp.store.object_store import open_store
from cpp.store.results import File, fingerprint
from pipelines import graph
from pipelines.config.errors import RunStateError, UsageError, UserError
from pipelines.config.load import Config
from pipelines.config.section import Section
from pipelines.curation_graph import appended_steps
from pipelines.engine.inputs import input_shards
from pipelines.engine.plan import Files, Step, makers
from pipelines.engine.shard_index import FilePaths, fingerprints
from pipelines.engine.stage import Stage
from pipelines.graph import Part
from pipelines.stages.drift import Fitted, Growth

FOLDER = "appended"
RECORD = "appended.json"
NEEDED = ("assignments", "clusters", "labels", "keep", "curation", "quality", "leaks")  # for appended shards


class Batch(Section):
    """What one command appended: `shards` as in `images.path` or `import.path`, `images` as in `import.images`.

    `files` is the number of input files when it was last appended, since fewer files later would be fewer rows, and
    `inputs` has the fingerprint of each of them, or of the folder of all, by its path.
    """

    shards: list[str] = Field(min_length=1)
    images: str | None = None
    files: int | None = Field(None, ge=0)
    inputs: dict[str, str] = Field({})

    def same_inputs(self, other: Batch) -> bool:
        """Whether both name the same inputs."""
        return (self.shards, self.images) == (other.shards, other.images)


_RECORD = TypeAdapter(list[Batch])


def finished(config: Config, needed: Collection[str]) -> Part:
    """The fitted part with the files of its finished shards, among them the products `needed` if a step makes them.

    Raises RunStateError, with the command that computes them, if some are missing. A run that was completed without its
    failed shards counts as finished.
    """
    fitted = graph.fitted(config)
    makers = [name for name, stage in fitted.stages.items() if {p.name for p in stage.products} & {*needed}]
    steps, fitted = fitted.plan(makers, finished=True)
    missing = [step for step in steps if not step.complete]
    if any(step.name in makers for step in missing):
        raise RunStateError(
            f"{config.root} is not a finished run with these settings, step {missing[0].name} has "
            f"{len(missing[0].done):,} of {len(missing[0].names):,} shards done{_undone(missing[0])}. "
            f"What makes it: {config.command_line('run')}"
        )
    return fitted


def _undone(step: Step) -> str:
    """The inputs of the first shard without results, if others have some: then the settings are not the cause."""
    if not len(step.done):
        return ""
    task = step.todo[0]
    paths = [str(getattr(path, "path", path)) for path in task.files.values()]
    return f"; new, changed or failed is {task.shard} ({', '.join(paths)})"


def together(config: Config, needed: Collection[str]) -> tuple[Part, Files]:
    """The fitted part as `finished` returns it, and the files of the appended shards by kind.

    Raises RunStateError if either is not up to date.
    """
    fitted = finished(config, {*needed, *NEEDED} if recorded(config) else needed)
    if (part := appended(fitted)) is None:
        return fitted, {}
    steps, part = part.plan(finished=True)
    for step in steps:
        if step.stage.each and not step.complete:
            raise RunStateError(
                f"what was appended to {config.root} is not up to date, step {step.name} has {len(step.done):,} of "
                f"{len(step.names):,} shards done. What brings it up to date: {config.command_line('append')}"
            )
    kinds = {kind for step in steps for kind in step.stage.each}
    kinds |= {product.name for step in steps for product in step.stage.products if product.rows}
    return fitted, {kind: part.files[kind] for kind in kinds if kind in part.files}


def stale(config: Config) -> list[str]:
    """A message for the end of a run if appended shards are not up to date with it."""
    try:
        part = appended(graph.fitted(config).plan()[1]) if recorded(config) else None
    except UserError as error:
        return [str(error)]
    if part is None or all(step.complete for step in part.plan()[0]):
        return []
    return [
        f"{len(part.shards):,} appended shards in {part.config.root} are not up to date with this run: "
        "the command append without --shards brings them up to date"
    ]


def appended(fitted: Part) -> Part | None:
    """The part with all shards appended to `fitted`, which has the files of its steps; None if there are none."""
    batches = recorded(fitted.config)
    part = describe(fitted, batches).part if batches else None
    return part if part and part.shards else None


class Appended(NamedTuple):
    """The `part` with the shards of `batches`, which describe their files as they are now.

    Shards with the names `repeated` are left out, because they are in the fitted part or in an earlier batch. `changed`
    has a message for each batch with files that changed since it was appended.
    """

    part: Part
    batches: list[Batch]
    repeated: list[str]
    changed: list[str]


def describe(fitted: Part, batches: Sequence[Batch]) -> Appended:
    """The part with the shards of all these batches. UsageError or RunStateError, by name, for one that does not fit.

    A batch fits if it has the same kinds of files as the run, and all files that it had when it was appended.
    """
    stages, files = new_shard_steps(fitted)
    files |= {kind: fitted.files[kind] for kind in ("groups", "tree", "moments", "clusters")}
    stages |= appended_steps(fitted.stages)
    made = {product.name for stage in stages.values() for product in stage.products}
    whole = {kind for stage in stages.values() for kind in stage.whole}
    run_kinds = {kind.removeprefix("run_") for kind in whole if kind.startswith("run_")} | {"assignments", "rejected"}
    files |= {kind: fitted.files[kind] for kind in whole - made if kind in fitted.files}
    files |= {f"run_{kind}": fitted.files[kind] for kind in run_kinds if kind in fitted.files}
    seen, repeated, changed = {_location(file.path) for file in fitted.shards.values()}, list[str](), list[str]()
    shards: dict[str, dict[str, File]] = {}
    counts, counted = FileCounts(), list[Batch]()
    for number, batch in enumerate(batches, 1):
        n_before = counts.used
        inputs = _inputs(fitted.config, batch, number, counts)
        counted.append(batch.model_copy(update={"files": counts.used - n_before, "inputs": _inputs_by_path(inputs)}))
        changed += _check_files(fitted.config, batch, counted[-1], number)
        for name, file in inputs[fitted.config.input_kind].items():
            if (location := _location(file.path)) in seen:
                repeated.append(name)
                continue
            seen.add(location)
            shard = f"{prefix(number)}{name}"
            if shard in fitted.files["assignments"]:
                raise RunStateError(f"the run has a shard {shard}, which is the name of an appended one: rename it")
            for kind, by_name in inputs.items():
                shards.setdefault(kind, {})[shard] = by_name[name]
    config = fitted.config
    update = {"root": f"{config.root.rstrip('/')}/{FOLDER}", "name": f"{config.name}, appended"}
    stages |= {"fitted": Fitted(), "report": Growth(title=config.name)}
    part = Part(config.model_copy(update=update), {**files, **shards}, stages, counts)
    return Appended(part, counted, repeated, changed)


def _check_files(config: Config, before: Batch, now: Batch, number: int) -> list[str]:
    """A message that names the files of a batch that changed since it was appended. RunStateError if one is gone."""
    lost = f"had %s when it was appended; rows would be lost: put %s back, or {_remedy(config, '%s')}"
    if before.files is not None and (now.files or 0) < before.files:
        fault = lost % (f"{before.files:,}", "the others", "files")
        raise RunStateError(f"{_title(now, number)}: has {now.files:,} files, and {fault}")
    if gone := [path for path in before.inputs if path not in now.inputs]:
        raise RunStateError(f"{_title(now, number)}: {lost % (gone[0], 'it', 'inputs')}")
    changed = [path for path, mark in before.inputs.items() if now.inputs[path] != mark]
    if not changed:
        return []
    names = ", ".join(changed[:3]) + (", ..." if len(changed) > 3 else "")
    return [
        f"{_title(now, number)}: {len(changed):,} inputs changed since it was appended, and are read again: {names}"
    ]


def _inputs_by_path(inputs: Files) -> dict[str, str]:
    """The fingerprint of each file, or of the folder or table that several shards are parts of, by its path."""
    marks = defaultdict[str, list[str]](list)
    for files in inputs.values():
        for path, mark in zip(FilePaths(files), fingerprints(files), strict=True):
            marks[path if isinstance(path, str) else getattr(path, "table", path.path)].append(mark)
    return {path: fingerprint(*of_path) for path, of_path in marks.items()}


def new_shard_steps(fitted: Part) -> tuple[dict[str, Stage], dict[str, Mapping[str, File]]]:
    """The steps from a new shard to its labels or, without names, to its clusters, and the files they read whole."""
    sources = makers(fitted.stages)
    last = next(name for name in ("labels", "exclude", "assign") if name in fitted.stages)
    needed = {last, *(["exclude"] if "exclude" in fitted.stages else [])}
    for name in reversed(list(fitted.stages)):
        if name in needed:
            needed |= {sources[name][kind] for kind in fitted.stages[name].each if kind in sources[name]}
    stages = {name: stage for name, stage in fitted.stages.items() if name in needed}
    whole = {kind for stage in stages.values() for kind in stage.whole}
    return stages, {kind: files for kind, files in fitted.files.items() if kind in whole}


def prefix(number: int) -> str:
    """The start of the names of the shards of a batch, which are numbered from 1."""
    return f"append-{number:03d}-"


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


def _location(path: Any) -> tuple[str, tuple[str, ...]]:
    """An input's real path, links resolved, and what a shard has of it: the names of its images, or its rows."""
    if isinstance(path, str):
        where, part = path, tuple[str, ...]()
    else:
        where = getattr(path, "table", path.path)
        part = getattr(path, "names", (path.path.removeprefix(where),))
    return where if filesystem.is_remote(where) else os.path.realpath(where), part


def _inputs(config: Config, batch: Batch, number: int, counts: FileCounts) -> Files:
    """The shards of a batch by kind. Images of a COCO run are read as a folder: the annotations do not cover them."""
    if config.import_:
        if config.import_.encoders:
            raise RunStateError(
                f"{_title(batch, number)}: this run has vectors of several encoders (import.encoders), and append "
                "takes those of one: add the new files to the folders of the run, and run it again"
            )
        if (config.import_.images is None) != (batch.images is None):
            # a step takes the shards that have all of its inputs, so the rows of this batch would be missing
            raise RunStateError(
                f"{_title(batch, number)}: was appended with images {batch.images or 'null'}, and import.images of the "
                f"run is {config.import_.images or 'null'}: {_remedy(config, 'images')}"
            )
        update: dict[str, object] = {"path": batch.shards[0], "images": batch.images}
        changed = config.model_copy(update={"import_": config.import_.model_copy(update=update)})
    else:
        assert config.images is not None  # the config has one of the two  # noqa: S101
        update = {"path": batch.shards}
        update |= {"format": "folder", "annotations": []} if config.images.format == "coco" else {}
        changed = config.model_copy(update={"images": config.images.model_copy(update=update)})
    try:
        return input_shards(changed, counts)
    except UserError as error:
        cause = str(error.__cause__ or error).replace("images.path", "--shards")
        record = f"{config.root.rstrip('/')}/{FOLDER}/{RECORD}"
        raise UsageError(
            f"{_title(batch, number)}: {cause} ({record} lists the earlier appends: remove an entry whose inputs no "
            "longer exist)"
        ) from None


def _title(batch: Batch, number: int) -> str:
    return f"append {number}, {', '.join(batch.shards)}"


def _remedy(config: Config, key: str) -> str:
    return f"change `{key}` of its entry in {config.root.rstrip('/')}/{FOLDER}/{RECORD}"


def _store(config: Config) -> Store:
    return open_store(f"{config.root.rstrip('/')}/{FOLDER}")
