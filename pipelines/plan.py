"""A configuration -> steps, shards and fingerprints: what there is to do, without doing any of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cpp import curation_page, encoder, vectors
from cpp.store import WHOLE, File, Store, fingerprint
from cpp.tables import EMBEDDING
from cpp.weights import SUFFIXES
from pipelines import (
    curating,
    curation_pages,
    deduplicating,
    duplicating,
    encoding,
    grouping,
    naming,
    outlying,
    picturing,
    reporting,
    scoring,
    stages,
    wording,
)
from pipelines.config import Config, ConfigError
from pipelines.inputs import inputs
from pipelines.settings import CAPTIONS, Encoder
from pipelines.stage import Stage

Files = Mapping[str, Mapping[str, File]]  # name of a product or source -> shard -> file


@dataclass(frozen=True)
class Task:
    """One shard of one step: what it reads, what it writes, and the fingerprint that its results are keyed by."""

    step: str
    shard: str
    key: str
    files: Mapping[str, Any]
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


def pipeline(config: Config, files: Files) -> dict[str, Stage]:
    """The steps of a run in order. ConfigError, before anything starts, for what they cannot have."""
    c, p, seed = config, config.partition, config.seed
    steps: dict[str, Stage] = {}
    encoders = {column: _encoder(c, column, given) for column, given in c.encode.columns.items()} if c.encode else {}
    if i := c.images:
        steps["encode"] = encoding.Encode(encoders, i.max_bytes, i.max_pixels, i.max_aspect)
    elif c.import_:
        dim = vectors.vector_dim(file.path for file in files["vectors"].values())
        if dim is None:
            raise ConfigError(f"import.path: none of the .npy files in {c.locate(c.import_.path)}/img_emb can be read")
        steps["import"] = encoding.Import(c.import_.key, dim)
    steps |= {
        "fit": stages.Fit(c.fit, p.n_clusters if c.fit.recipe == "discriminant" else None, seed),
        "project": stages.Project(c.fit.embeddings),
        "partition": grouping.Partition(
            p.n_clusters,
            p.fine,
            p.method,
            p.eta,
            p.sample,
            p.landmarks,
            p.directions,
            p.distortion,
            p.candidates,
            c.fit.embeddings,
            seed,
        ),
        "measure": grouping.Measure(),
        "layers": grouping.Layers(p.n_clusters, p.layers),
        "assign": grouping.Assign(),
    }
    if c.label:
        if c.label.captions:
            steps["phrases"] = wording.Phrases(c.label.captions)
            steps["mine"] = wording.Mine(c.label.captions)
            steps["captions"] = wording.Captions(c.label.captions)
        mined = CAPTIONS in c.label.vocabulary
        if encoders and (files["wordlists"] or files["named"] or mined):
            steps["words"] = wording.Words(encoders[c.label.embedding], c.label.templates, mined)
        steps["vote"] = naming.Vote(c.label.embedding, c.label.top)
        steps["label"] = naming.Label(c.label.method, c.label.top, c.label.min_confidence)
        steps["labels"] = naming.Labels(c.label.embedding)
    else:
        steps["label"] = naming.Label()
    if c.evaluate:
        steps["evaluate"] = scoring.Evaluate(c.evaluate.label, c.evaluate.baseline_sample, c.fit.embeddings, seed)
        if c.label and c.evaluate.names:
            steps["evaluate_names"] = scoring.EvaluateNames(c.evaluate.names, c.label.method, c.label.min_confidence)
    return steps | _curated(c, encoders) | _shown(c)


def _curated(config: Config, encoders: Mapping[str, encoding.Model]) -> dict[str, Stage]:
    """The steps that say what leaves the data set and why."""
    c = config.curate
    if c is None:
        return {}
    steps: dict[str, Stage] = {}
    if d := c.duplicates:
        how = d.threshold, d.lowest, d.keep, d.neighbours
        steps["scatter"] = duplicating.Scatter(config.fit.embeddings, d.neighbours, d.similarity, d.bytes)
        steps["search"] = duplicating.Search(d.lowest)
        steps["group"] = deduplicating.Group(*how)
        steps["duplicates"] = deduplicating.Duplicates(config.report.images)
        about = config.name, d.threshold, d.keep, d.neighbours, d.bytes
        steps["duplicates_page"] = deduplicating.DuplicatesPage(*about, _pages(config))
    if o := c.outliers:
        tower = encoders[EMBEDDING] if o.captions else None
        made = o.neighbours, o.sample, o.similarity, o.captions, tower
        steps["oddities"] = outlying.Oddities(config.fit.embeddings, *made, config.seed)
        steps["scales"] = outlying.Scales(o.similarity)
        steps["outliers"] = outlying.Outliers()
    threshold = c.outliers.threshold if c.outliers else None
    if c.size is not None:
        steps["balance"] = curating.Balance(c.size, c.power, c.by, threshold, config.seed)
    steps["curate"] = curating.Curate(threshold)
    steps["curation"] = curating.Summary(c.size)
    others, images = _pages(config), config.report.images
    if c.outliers:
        steps["outliers_page"] = curation_pages.OutliersPage(config.name, threshold, others, images)
    said = "" if c.size is None else f"Clusters share by size to the power {c.power:g}, within a cluster by {c.by}."
    steps["balance_page"] = curation_pages.BalancePage(config.name, said, others, images)
    return steps


def _pages(config: Config) -> dict[str, str]:
    """The pages of curation that the run makes: file and title."""
    c = config.curate
    made = c and {"duplicates_page": c.duplicates, "outliers_page": c.outliers, "balance_page": True}
    return {f"{name}.html": curation_page.PAGES[f"{name}.html"] for name, is_made in (made or {}).items() if is_made}


def _shown(config: Config) -> dict[str, Stage]:
    """The steps that show what the others made."""
    steps: dict[str, Stage] = {
        "hashes": reporting.Hashes(config.fit.embeddings),
        "copies": reporting.CountCopies(),
        "examples": picturing.Examples(),
        "map": picturing.Map(config.seed),
        "thumbnails": picturing.Thumbnails(config.report.images),
    }
    if config.evaluate:
        steps["confusion"] = reporting.Confusion(config.evaluate.label)
    what = yaml.safe_dump(
        config.dump(exclude={"resources", "root"}, exclude_none=True), sort_keys=False, allow_unicode=True
    )
    asked = config.partition.n_clusters is not None
    steps["report"] = reporting.Report(config.name, what, asked, config.report.images, _pages(config))
    steps["plots"] = reporting.Plots(config.name)
    return steps


def _encoder(config: Config, column: str, settings: Encoder) -> encoding.Model:
    """An encoder with the paths in its settings as they are opened, and its weights' hash. ConfigError without them."""
    is_file = settings.pretrained.endswith(SUFFIXES)
    paths = {
        "configs": config.locate(settings.configs) if settings.configs else None,
        "pretrained": config.locate(settings.pretrained) if is_file else settings.pretrained,
    }
    located = settings.model_copy(update=paths)
    try:
        if located.configs:
            encoder.register(located.configs)
        weights = encoder.identity(located.model, located.pretrained).sha256
        return encoding.Model(**located.model_dump(), weights=weights)
    except ValueError as error:
        raise ConfigError(f"encode, column {column}: {error}") from error


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
        outputs = {p.name: store.path(p, shard, key) for p in stage.products}
        tasks.append(Task(name, shard, key, {kind: file.path for kind, file in mine.items()}, outputs))
    there = {p.name: store.listing(p) for p in stage.products}
    done = (t.shard for t in tasks if all(Path(path).name in there[name] for name, path in t.outputs.items()))
    return Step(name, stage, tasks, frozenset(done))


def plan(config: Config) -> list[Step]:
    """Every step of a run, as if all before it were done."""
    store = Store.at(config.root)
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
