"""A configuration -> steps, shards and fingerprints: what there is to do, without doing any of it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from cpp import curation_page, remote, vectors
from cpp.links import hashes
from cpp.store import WHOLE, File, Product, Store, fingerprint
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
from pipelines.shards import Keys, Made, Names, Paths, aligned, common, digest, text
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


class Tasks(Sequence[Task]):
    """The tasks of a step, those at the places `at`: each is made when it is asked for."""

    def __init__(self, step: Step, at: NDArray[np.intp]) -> None:
        self._step, self._at = step, at

    def __len__(self) -> int:
        return len(self._at)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return Tasks(self._step, self._at[i])
        s, place = self._step, int(self._at[i])
        shard, key = s.names[place], text(s.keys[place])
        outputs = {name: files.file(place).path for name, files in s.made.items()}
        return Task(s.name, shard, key, {kind: files[shard].path for kind, files in s.each.items()}, outputs)


@dataclass(frozen=True)
class Step:
    """One stage of a run over its shards: their names and keys, and which of them have their files.

    `each` are the files that it takes shard by shard, `made` those that it makes of all shards, done or not.
    """

    name: str
    stage: Stage
    names: Names
    keys: Keys
    there: NDArray[np.bool_]
    each: Files
    made: Mapping[str, Made]

    @property
    def tasks(self) -> Tasks:
        return Tasks(self, np.arange(len(self.names)))

    @property
    def todo(self) -> Tasks:
        """The tasks that are not done."""
        return Tasks(self, np.flatnonzero(~self.there))

    @functools.cached_property
    def done(self) -> Names:
        """The names of the shards whose files are there."""
        return self.names.where(self.there)

    @property
    def complete(self) -> bool:
        return bool(self.there.all())

    def results(self) -> dict[str, Made]:
        """The files of the shards that are done, by product and shard."""
        done = self.done
        return {name: Made(done, files.numbers[self.there], files.path) for name, files in self.made.items()}


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
    from cpp import encoder

    is_file = settings.pretrained.endswith(SUFFIXES)
    paths = {
        "configs": config.locate(settings.configs) if settings.configs else None,
        "pretrained": config.locate(settings.pretrained) if is_file else settings.pretrained,
    }
    located = settings.model_copy(update=paths)
    for key, path in paths.items():
        if path and remote.is_remote(path):
            raise ConfigError(
                f"encode, column {column}: encode.{key} is {path}: models and weights are files on a disk, of every "
                "machine that has workers; give the absolute path there"
            )
    try:
        if located.configs:
            encoder.register(located.configs)
        weights = encoder.identity(located.model, located.pretrained).sha256
        return encoding.Model(**located.model_dump(), weights=weights)
    except ValueError as error:
        raise ConfigError(f"encode, column {column}: {error}") from error


def step(name: str, stage: Stage, files: Files, store: Store) -> Step:
    """A stage over the files that there are: its shards, and which of them are done."""
    each = {kind: files[kind] for kind in stage.each if files.get(kind)}
    whole = {kind: digest(files[kind]) for kind in stage.whole if files.get(kind)}
    base = fingerprint(name, stage.version, stage.settings(), whole)
    names = common(list(each.values())) if each else Names([WHOLE])
    made_from = [aligned(of, names) for of in each.values()]
    numbers = (
        int(fingerprint(base, shard, dict(zip(each, mine, strict=True))), 16)
        for shard, *mine in zip(names, *made_from, strict=True)
    )
    keys = np.fromiter(numbers, np.uint64, len(names))
    made = {p.name: Made(names, keys, functools.partial(store.path, p)) for p in stage.products}
    there = np.ones(len(names), bool)
    for product in stage.products:
        there &= _there(store, product, made[product.name])
    return Step(name, stage, names, keys, there, each, made)


def _there(store: Store, product: Product, made: Made) -> NDArray[np.bool_]:
    """Which of the files of a product are there."""
    return np.isin(hashes(path.rpartition("/")[2] for path in Paths(made)), hashes(store.listing(product)))


def plan(config: Config) -> list[Step]:
    """Every step of a run, as if all before it were done."""
    files: Files = inputs(config)
    return steps(pipeline(config, files), files, Store.at(config.root))


def steps(stages: Mapping[str, Stage], files: Files, store: Store) -> list[Step]:
    """The same from the stages, and the files that they start from."""
    there: dict[str, Mapping[str, File]] = dict(files)
    found = []
    for name, stage in stages.items():
        planned = step(name, stage, there, store)
        found.append(planned)
        there |= planned.made
    return found


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
