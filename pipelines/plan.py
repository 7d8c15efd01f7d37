"""A configuration -> steps, shards and fingerprints: what there is to do, without doing any of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from cpp import vectors
from cpp.store import WHOLE, File, Store, fingerprint
from pipelines import stages
from pipelines.config import Config, ConfigError
from pipelines.stage import Stage

Files = Mapping[str, Mapping[str, File]]  # name of a product or source -> shard -> file


@dataclass(frozen=True)
class Task:
    """One shard of one step: what it reads, what it writes, and the fingerprint that its results are keyed by."""

    step: str
    shard: str
    key: str
    files: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class Step:
    """One stage of a run with its tasks; `done` are the names of the shards whose files are there."""

    name: str
    stage: Stage
    tasks: list[Task]
    done: frozenset[str]

    @property
    def complete(self) -> bool:
        return len(self.done) == len(self.tasks)

    def results(self) -> dict[str, dict[str, File]]:
        """The files of the shards that are done, by product and shard."""
        ready = [task for task in self.tasks if task.shard in self.done]
        return {p.name: {t.shard: File(t.outputs[p.name], t.key) for t in ready} for p in self.stage.products}


def inputs(config: Config) -> dict[str, dict[str, File]]:
    """Files that the run starts from, by kind and shard. ConfigError names the key whose files are not there."""
    try:
        images = config.import_.images and config.locate(config.import_.images)
        shards = vectors.vector_shards(config.locate(config.import_.path), images)
    except ValueError as error:
        raise ConfigError(f"import: {error} (relative paths start from `data`, now {config.data!r})") from error
    found = {kind: {shard: files[kind] for shard, files in shards.items()} for kind in next(iter(shards.values()))}
    if config.label:
        try:
            folders = [config.locate(folder) for folder in config.label.vocabulary]
            found["vocabulary"] = {f: vectors.tracked(f, "names.txt", "embeddings.npy") for f in folders}
        except ValueError as error:
            raise ConfigError(
                f"label.vocabulary: {error} (relative paths start from `data`, now {config.data!r})"
            ) from error
    # The log tells the report how long things took: it is read, but a change of it makes nothing stale.
    found["events"] = {WHOLE: File(str(Path(config.root) / "events.jsonl"), "")}
    return found


def pipeline(config: Config, files: Files) -> dict[str, Stage]:
    """The steps of a run in order."""
    c, seed = config, config.seed
    dim = vectors.vector_dim(file.path for file in files["vectors"].values())
    if dim is None:
        raise ConfigError(f"import.path: none of the .npy files in {c.locate(c.import_.path)}/img_emb can be read")
    steps: dict[str, Stage] = {
        "import": stages.Import(c.import_.key, dim),
        "fit": stages.Fit(c.fit, seed),
        "project": stages.Project(),
        "partition": stages.Partition(
            c.partition, c.fit.eta, c.fit.half_steps, c.fit.distortion, c.fit.share_heads, seed
        ),
        "assign": stages.Assign(),
    }
    if c.label:
        steps["vote"] = stages.Vote(c.label.top)
    steps["label"] = stages.Label(c.label.top if c.label else 0)
    if c.evaluate:
        steps["evaluate"] = stages.Evaluate(c.evaluate, c.partition.n_clusters, seed)
    what = c.dump(exclude={"resources", "root"}, exclude_none=True)
    steps["report"] = stages.Report(c.name, yaml.safe_dump(what, sort_keys=False, allow_unicode=True))
    return steps


def step(name: str, stage: Stage, files: Files, store: Store) -> Step:
    """The tasks of a stage over the files that there are, and which of them are done."""
    each = [kind for kind in stage.each if files.get(kind)]
    whole = {kind: [file.fingerprint for file in files[kind].values()] for kind in stage.whole if files.get(kind)}
    base = fingerprint(name, stage.version, stage.settings(), whole)
    shards = [shard for shard in files[each[0]] if all(shard in files[kind] for kind in each)] if each else [WHOLE]
    tasks = []
    for shard in shards:
        mine = {kind: files[kind][shard] for kind in each}
        key = fingerprint(base, shard, {kind: file.fingerprint for kind, file in mine.items()})
        outputs = {p.name: str(store.path(p, shard, key)) for p in stage.products}
        tasks.append(Task(name, shard, key, {kind: file.path for kind, file in mine.items()}, outputs))
    there = {p.name: store.listing(p) for p in stage.products}
    done = (t.shard for t in tasks if all(Path(path).name in there[name] for name, path in t.outputs.items()))
    return Step(name, stage, tasks, frozenset(done))


def plan(config: Config) -> list[Step]:
    """Every step of a run, as if all before it were done."""
    store = Store(Path(config.root))
    files = inputs(config)
    steps = []
    for name, stage in pipeline(config, files).items():
        planned = step(name, stage, files, store)
        steps.append(planned)
        files |= Step(name, stage, planned.tasks, frozenset(t.shard for t in planned.tasks)).results()
    return steps


def upstream(names: list[str], steps: Mapping[str, Stage]) -> list[str]:
    """The named steps and all that they need, in order; all where none is named. ConfigError for an unknown one."""
    for name in names:
        if name not in steps:
            raise ConfigError(f"there is no step {name!r} in this run; its steps are {', '.join(steps)}")
    made_by = {product.name: name for name, stage in steps.items() for product in stage.products}
    needed = set(names or steps)
    for name in reversed(list(steps)):
        if name in needed:
            needed |= {made_by[kind] for kind in (*steps[name].each, *steps[name].whole) if kind in made_by}
    return [name for name in steps if name in needed]
