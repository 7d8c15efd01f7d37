"""The graph of a run: the stages that a configuration asks for, in order. Starts nothing."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import yaml

from cpp.encoding import families
from cpp.encoding.weights import SUFFIXES
from cpp.files import filesystem
from cpp.files.tables import EMBEDDING
from cpp.rate_reduction import recipes
from cpp.sources import vectors
from cpp.sources.ignored import FileCounts
from cpp.store.object_store import open_store
from cpp.store.results import WHOLE, File
from pipelines.config.decisions import entries_of
from pipelines.config.errors import ConfigError
from pipelines.config.load import Config
from pipelines.config.section import Section
from pipelines.config.sections import CAPTIONS, Encoder
from pipelines.curation_graph import curation_steps, page_titles
from pipelines.engine.inputs import input_files
from pipelines.engine.plan import Files, Step, plan_step, upstream
from pipelines.engine.stage import Stage
from pipelines.stages import (
    artifacts,
    attention,
    caption_match,
    cluster,
    columns,
    decide,
    encode,
    evaluate,
    examples,
    fit,
    links,
    map_page,
    namer,
    recut,
    report,
    thin,
    white_box,
    words,
)
from pipelines.stages import name as naming


class Part(NamedTuple):
    """The fitted or the appended images of a run: configuration with their run folder, files by kind, and steps.

    `counts` has the numbers of input files.
    """

    config: Config
    files: Files
    stages: Mapping[str, Stage]
    counts: FileCounts | None = None

    @property
    def shards(self) -> Mapping[str, File]:
        """The input shards."""
        return self.files.get(self.config.input_kind, {})

    def plan(self, names: Collection[str] = (), *, finished: bool = False) -> tuple[list[Step], Part]:
        """Plan the named steps and those that they need, by default all. The returned part has their files too.

        Each step reads the files of all shards of earlier steps or, with `finished`, of their finished shards.
        """
        store, files, steps = open_store(self.config.root), dict(self.files), list[Step]()
        for name in upstream(names, self.stages):
            steps.append(plan_step(name, self.stages[name], files, store))
            files |= steps[-1].results() if finished else steps[-1].outputs
        return steps, self._replace(files=files)


def fitted(config: Config) -> Part:
    """The part with the inputs of the configuration. ConfigError if it cannot be run."""
    counts = FileCounts()
    files = input_files(config, counts)
    return Part(config, files, pipeline(config, files), counts)


def plan(config: Config, names: Collection[str] = ()) -> list[Step]:
    """The named steps and those that they need, by default all, planned as if all earlier steps were done."""
    return fitted(config).plan(names)[0]


def pipeline(config: Config, files: Files) -> dict[str, Stage]:
    """The steps of a run in order. ConfigError, before anything starts, for settings that the inputs do not allow."""
    encoders: dict[str, artifacts.Model] = {}
    if config.encode:
        encoders = {column: _encoder(config, column, encoder) for column, encoder in config.encode.columns.items()}
    return {
        **_features(config, files, encoders),
        **_clusters(config, files),
        **_names(config, files, encoders),
        **curation_steps(config, functools.partial(_stage, config), _caption_tower(config, encoders)),
        **_display(config, encoders),
    }


def _stage(config: Config, kind: type[Stage], section: Section | None = None, **settings: Any) -> Stage:
    """A stage. Its settings are `settings`, and keys of the same name of its section or among those of the run."""
    run: dict[str, Any] = {"embeddings": config.fit.embeddings, "seed": config.seed, "title": config.name}
    run |= {"images": config.report.images, "others": page_titles(config)}
    values = {**run, **dict(section or ()), **settings}
    return kind(**{name: values[name] for name in inspect.signature(kind).parameters if name in values})


def _features(config: Config, files: Files, encoders: Mapping[str, artifacts.Model]) -> dict[str, Stage]:
    """Images or existing vectors to FEATURES, and the schema of their metadata."""
    schema = _stage(config, columns.Columns)
    if config.import_ is None:
        return {"encode": _stage(config, encode.Encode, config.images, encoders=encoders), "columns": schema}
    try:
        kinds = ["vectors", *vectors.FURTHER[: len(config.import_.encoders)]]
        dims = [vectors.vector_dim(file.path for file in files[kind].values()) for kind in kinds]
    except ValueError as error:
        key = "import.path or import.encoders" if config.import_.encoders else "import.path"
        raise ConfigError(f"{key}: {error}") from error
    step = _stage(config, encode.Import, config.import_, dim=dims[0])
    if config.import_.encoders:
        by_column = dict(zip(config.import_.columns[1:], dims[1:], strict=True))
        step = _stage(config, encode.ImportSeveral, config.import_, dim=dims[0], dims=by_column)
    return {"import": step, "columns": schema}


def _clusters(config: Config, files: Files) -> dict[str, Stage]:
    """FEATURES to CODES, fine groups, K, layers and ASSIGNMENTS."""
    stage, p = functools.partial(_stage, config), config.partition
    n_clusters = p.n_clusters if config.fit.recipe == "discriminant" else None
    layers = [] if p.layers == "auto" else p.layers
    finest = max([0, *(K for K in layers if p.n_clusters is None or p.n_clusters < K)])
    steps: dict[str, Stage] = {"thin": stage(thin.Thin, config.group)} if config.group else {}
    if p.n_clusters is None and not p.candidates:
        given = config.fit if isinstance(config.fit, recipes.Discriminant) else recipes.Discriminant()
        discriminant = recipes.Discriminant(**given.model_dump(include={*recipes.Discriminant.model_fields}))
        steps["estimate_k"] = stage(fit.EstimateK, config.fit, discriminant=discriminant)
    return steps | {
        "fit": stage(fit.Fit, fit=config.fit, n_clusters=n_clusters),
        "project": stage(fit.Project),
        "partition": stage(cluster.Partition, p, finest=finest, answered=p.answers is not None),
        "measure": stage(cluster.Measure),
        **({"links": stage(links.LinkGroups)} if p.answers else {}),
        "layers": stage(cluster.CutLayers, p),
        **({"recut": stage(recut.Recut, p)} if files.get("cuts") else {}),
        "assign": stage(cluster.Assign),
        **({"decide": stage(decide.Decide)} if files.get("decision_files") else {}),
    }


def _names(config: Config, files: Files, encoders: Mapping[str, artifacts.Model]) -> dict[str, Stage]:
    """Words, votes and names of clusters, or the table of clusters alone; scores where the classes are known."""
    stage, c, e = functools.partial(_stage, config), config.label, config.evaluate
    steps: dict[str, Stage] = {}
    rounds = files["decision_files"][WHOLE].path if files.get("decision_files") else []
    actions = {entry.decision.action for one in rounds for entry in entries_of(one)}
    exclude = {"exclude": stage(decide.Exclude)} if {"drop", "not_member"} & actions else {}
    if c is None:
        steps |= {"label": stage(naming.Label), **exclude}
    else:
        if c.captions:
            kinds = {"phrases": words.Phrases, "mine": words.Mine, "captions": words.Captions}
            steps |= {name: stage(kind, column=c.captions) for name, kind in kinds.items()}
        mined = CAPTIONS in c.vocabulary
        if encoders and (files["wordlists"] or files["named"] or mined):
            tower = _text_tower(encoders, c.embedding, f"label.vocabulary has {', '.join(c.vocabulary)}")
            steps["words"] = stage(words.Words, c, encoder=tower, captions=mined)
        if c.namer:
            steps["examples"] = stage(examples.Examples)
            steps["cluster_means"] = stage(namer.ClusterMeans, c)
            steps["ask"] = stage(namer.Ask, c)
            steps["check"] = stage(namer.Check, c, encoder=_text_towers(encoders).get(c.embedding))
        if c.method == "centred":
            steps["image_mean"] = stage(naming.ImageMean, c)
        steps["vote"] = stage(naming.Vote, c)
        steps["label"] = stage(naming.Label, c, sure=c.min_confidence)
        steps |= exclude
        steps["labels"] = stage(naming.Labels, c)
    if e:
        steps["evaluate"] = stage(evaluate.Evaluate, e)
    if c and e and e.names:
        steps["evaluate_names"] = stage(evaluate.EvaluateNames, c, column=e.names, sure=c.min_confidence)
    return steps


def _caption_tower(config: Config, encoders: Mapping[str, artifacts.Model]) -> caption_match.TextTower | None:
    """The text tower that compares captions with images: that of the column that the words are compared with."""
    captions = config.curate and config.curate.captions
    if captions is None:
        return None
    column = config.label.embedding if config.label else EMBEDDING
    model = _text_tower(encoders, column, f"curate.captions is {captions!r}")
    return caption_match.TextTower(**dict(model), column=column)


def _text_towers(encoders: Mapping[str, artifacts.Model]) -> dict[str, artifacts.Model]:
    """The encoders that encode words too, by column."""
    return {column: encoder for column, encoder in encoders.items() if families.has_text_tower(encoder.model)}


def _text_tower(encoders: Mapping[str, artifacts.Model], column: str, setting: str) -> artifacts.Model:
    """The encoder of a column. ConfigError if it has no text tower, which the `setting` needs."""
    towers = _text_towers(encoders)
    if column in towers:
        return towers[column]
    cause = f"{setting}, and {encoders[column].model}, the encoder of the column {column}, has no text tower"
    if towers:
        raise ConfigError(f"{cause}: set label.embedding to {', '.join(towers)}, whose encoder has one")
    raise ConfigError(
        f"{cause}: add an open_clip model to encode.encoders and set label.embedding to its column, such as "
        "embedding_2; or remove the section `label`, and the clusters have no names"
    )


def _display(config: Config, encoders: Mapping[str, artifacts.Model]) -> dict[str, Stage]:
    """Examples, the map, thumbnails, attention, the inside of white-box encoders, the page and the plots."""
    stage = functools.partial(_stage, config)
    kinds = {"examples": examples.Examples, "members": examples.Members, "map": examples.Map}
    steps = {name: stage(kind) for name, kind in kinds.items()} | {"thumbnails": stage(examples.Thumbnails)}
    if config.report.attention:
        encoder = encoders[next(iter(config.fit.embeddings))]  # a list, or a table of weights
        steps["attention"] = stage(attention.Attention, config.images, encoder=encoder)
    if white := {column: model for column, model in encoders.items() if families.is_white_box(model.model)}:
        steps["white_box"] = stage(white_box.WhiteBox, config.images, encoders=white)
    if config.evaluate:
        steps["confusion"] = stage(report.Confusion, config.evaluate)
    settings = config.dump(exclude={"resources", "root"}, exclude_none=True)
    about = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    steps["report"] = stage(report.Report, about=about, beside=page_titles(config))
    steps["plots"] = stage(report.Plots)
    steps |= {"map_points": stage(map_page.MapPoints, config.report), "map_page": stage(map_page.MapPage)}
    return steps


def _encoder(config: Config, column: str, settings: Encoder) -> artifacts.Model:
    """An encoder with absolute paths and the hash of its weights. ConfigError if they cannot be loaded."""
    keys = ["configs"] if settings.configs else []
    keys += ["pretrained"] if (settings.pretrained or "").endswith(SUFFIXES) else []  # otherwise it is a tag
    paths = {key: config.locate(getattr(settings, key)) for key in keys}
    for key, path in paths.items():
        if filesystem.is_remote(path):
            raise ConfigError(
                f"encode, column {column}: encode.{key} is {path}: models and weights must be files on a disk of every "
                "machine that has workers; give the absolute path there"
            )
    located = settings.model_copy(update=paths)
    try:
        weights = families.identity(located.model, located.pretrained, located.configs).sha256
        return artifacts.Model(**located.model_dump(), weights=weights)
    except ValueError as error:
        raise ConfigError(f"encode, column {column}: {error}") from error
