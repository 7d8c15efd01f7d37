"""The graph of a run: the stages that a configuration asks for, in order. Starts nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import yaml

from cpp.encoding.weights import SUFFIXES
from cpp.files import filesystem
from cpp.files.tables import EMBEDDING
from cpp.report import section_pages
from cpp.sources import vectors
from cpp.store.object_store import open_store
from cpp.store.results import File
from pipelines.config.errors import ConfigError
from pipelines.config.load import Config
from pipelines.config.sections import CAPTIONS, Duplicates, Encoder
from pipelines.engine.inputs import input_files
from pipelines.engine.plan import Files, Step, plan_step, upstream
from pipelines.engine.stage import Stage
from pipelines.stages import (
    artifacts,
    cluster,
    curate,
    curation_pages,
    duplicate_groups,
    duplicate_pairs,
    encode,
    evaluate,
    examples,
    fit,
    outliers,
    report,
    words,
)
from pipelines.stages import name as naming


def pipeline(config: Config, files: Files) -> dict[str, Stage]:
    """The steps of a run in order. ConfigError, before anything starts, for settings that the inputs do not allow."""
    encoders: dict[str, artifacts.Model] = {}
    if config.encode:
        encoders = {column: _encoder(config, column, encoder) for column, encoder in config.encode.columns.items()}
    return {
        **_features(config, files, encoders),
        **_clusters(config),
        **_names(config, files, encoders),
        **_scores(config),
        **_curation(config, encoders),
        **_display(config),
    }


def _features(config: Config, files: Files, encoders: dict[str, artifacts.Model]) -> dict[str, Stage]:
    """Images or existing vectors to FEATURES."""
    if i := config.images:
        encoding = encode.Encode(
            encoders=encoders, max_bytes=i.max_bytes, max_pixels=i.max_pixels, max_aspect=i.max_aspect
        )
        return {"encode": encoding}
    if config.import_ is None:
        return {}
    dim = vectors.vector_dim(file.path for file in files["vectors"].values())
    if dim is None:
        folder = f"{config.locate(config.import_.path)}/img_emb"
        raise ConfigError(f"import.path: none of the .npy files in {folder} can be read")
    return {"import": encode.Import(key=config.import_.key, dim=dim)}


def _clusters(config: Config) -> dict[str, Stage]:
    """FEATURES to CODES, fine groups, K, layers and ASSIGNMENTS."""
    p, embeddings = config.partition, config.fit.embeddings
    n_clusters = p.n_clusters if config.fit.recipe == "discriminant" else None
    return {
        "fit": fit.Fit(fit=config.fit, n_clusters=n_clusters, seed=config.seed),
        "project": fit.Project(embeddings=embeddings),
        "partition": cluster.Partition(
            n_clusters=p.n_clusters,
            fine=p.fine,
            method=p.method,
            eta=p.eta,
            sample=p.sample,
            landmarks=p.landmarks,
            directions=p.directions,
            distortion=p.distortion,
            candidates=p.candidates,
            embeddings=embeddings,
            seed=config.seed,
        ),
        "measure": cluster.Measure(),
        "layers": cluster.Layers(n_clusters=p.n_clusters, layers=p.layers),
        "assign": cluster.Assign(),
    }


def _names(config: Config, files: Files, encoders: Mapping[str, artifacts.Model]) -> dict[str, Stage]:
    """Words, votes and the names of clusters; without a vocabulary, the table of clusters alone."""
    c = config.label
    if c is None:
        return {"label": naming.Label()}
    steps: dict[str, Stage] = {}
    if c.captions:
        steps["phrases"] = words.Phrases(column=c.captions)
        steps["mine"] = words.Mine(column=c.captions)
        steps["captions"] = words.Captions(column=c.captions)
    mined = CAPTIONS in c.vocabulary
    if encoders and (files["wordlists"] or files["named"] or mined):
        steps["words"] = words.Words(encoder=encoders[c.embedding], templates=c.templates, captions=mined)
    return steps | {
        "vote": naming.Vote(embedding=c.embedding, top=c.top),
        "label": naming.Label(method=c.method, top=c.top, sure=c.min_confidence),
        "labels": naming.Labels(embedding=c.embedding),
    }


def _scores(config: Config) -> dict[str, Stage]:
    """Scores of clusters and names, where the classes are known."""
    c, label = config.evaluate, config.label
    if c is None:
        return {}
    steps: dict[str, Stage] = {
        "evaluate": evaluate.Evaluate(
            label=c.label, baseline_sample=c.baseline_sample, embeddings=config.fit.embeddings, seed=config.seed
        )
    }
    if label and c.names:
        steps["evaluate_names"] = evaluate.EvaluateNames(column=c.names, method=label.method, sure=label.min_confidence)
    return steps


def _curation(config: Config, encoders: Mapping[str, artifacts.Model]) -> dict[str, Stage]:
    """Which images leave the data set, and why."""
    c = config.curate
    if c is None:
        return {}
    title, images, others = config.name, config.report.images, _pages(config)
    steps = _duplicates(config, c.duplicates, others) if c.duplicates else {}
    threshold = None
    if o := c.outliers:
        threshold = o.threshold
        steps["oddities"] = outliers.Oddities(
            embeddings=config.fit.embeddings,
            neighbours=o.neighbours,
            sample=o.sample,
            similarity=o.similarity,
            captions=o.captions,
            tower=encoders[EMBEDDING] if o.captions else None,
            seed=config.seed,
        )
        steps["scales"] = outliers.Scales(similarity=o.similarity)
        steps["outliers"] = outliers.Outliers()
    if c.size is not None:
        steps["balance"] = curate.Balance(size=c.size, power=c.power, by=c.by, threshold=threshold, seed=config.seed)
    steps["curate"] = curate.Curate(threshold=threshold)
    steps["curation"] = curate.Summary(asked=c.size)
    if c.outliers:
        steps["outliers_page"] = curation_pages.OutliersPage(
            title=title, threshold=threshold, others=others, images=images
        )
    how = "" if c.size is None else f"Clusters share by size to the power {c.power:g}, within a cluster by {c.by}."
    steps["balance_page"] = curation_pages.BalancePage(title=title, how=how, others=others, images=images)
    return steps


def _duplicates(config: Config, d: Duplicates, others: Mapping[str, str]) -> dict[str, Stage]:
    """Groups of near-duplicates, and which image of each is kept."""
    return {
        "scatter": duplicate_pairs.Scatter(
            embeddings=config.fit.embeddings, neighbours=d.neighbours, similarity=d.similarity, bytes=d.bytes
        ),
        "search": duplicate_pairs.Search(lowest=d.lowest),
        "group": duplicate_groups.Group(threshold=d.threshold, lowest=d.lowest, keep=d.keep, neighbours=d.neighbours),
        "duplicates": duplicate_groups.Duplicates(images=config.report.images),
        "duplicates_page": curation_pages.DuplicatesPage(
            title=config.name,
            threshold=d.threshold,
            keep=d.keep,
            neighbours=d.neighbours,
            bytes=d.bytes,
            others=others,
        ),
    }


def _pages(config: Config) -> dict[str, str]:
    """The curation pages of the run: file and title."""
    c = config.curate
    if c is None:
        return {}
    exists = {"duplicates_page.html": c.duplicates, "outliers_page.html": c.outliers, "balance_page.html": True}
    return {file: section_pages.PAGES[file] for file, present in exists.items() if present}


def _display(config: Config) -> dict[str, Stage]:
    """Examples, the map, thumbnails, the page and the plots."""
    steps: dict[str, Stage] = {
        "examples": examples.Examples(),
        "map": examples.Map(seed=config.seed),
        "thumbnails": examples.Thumbnails(images=config.report.images),
    }
    if config.evaluate:
        steps["confusion"] = report.Confusion(label=config.evaluate.label)
    settings = config.dump(exclude={"resources", "root"}, exclude_none=True)
    steps["report"] = report.Report(
        title=config.name,
        about=yaml.safe_dump(settings, sort_keys=False, allow_unicode=True),
        asked=config.partition.n_clusters is not None,
        images=config.report.images,
        beside=_pages(config),
    )
    steps["plots"] = report.Plots(title=config.name)
    return steps


def _encoder(config: Config, column: str, settings: Encoder) -> artifacts.Model:
    """An encoder with absolute paths and the hash of its weights. ConfigError if they cannot be loaded."""
    from cpp.encoding import pretrained

    is_file = settings.pretrained.endswith(SUFFIXES)
    paths = {
        "configs": config.locate(settings.configs) if settings.configs else None,
        "pretrained": config.locate(settings.pretrained) if is_file else settings.pretrained,
    }
    for key, path in paths.items():
        if path and filesystem.is_remote(path):
            raise ConfigError(
                f"encode, column {column}: encode.{key} is {path}: models and weights must be files on a disk of every "
                "machine that has workers; give the absolute path there"
            )
    located = settings.model_copy(update=paths)
    try:
        if located.configs:
            pretrained.register(located.configs)
        weights = pretrained.identity(located.model, located.pretrained).sha256
        return artifacts.Model(**located.model_dump(), weights=weights)
    except ValueError as error:
        raise ConfigError(f"encode, column {column}: {error}") from error


class Part(NamedTuple):
    """The fitted or the appended images of a run: configuration with their run folder, files by kind, and steps."""

    config: Config
    files: Files
    stages: Mapping[str, Stage]

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
    files = input_files(config)
    return Part(config, files, pipeline(config, files))


def plan(config: Config, names: Collection[str] = ()) -> list[Step]:
    """The named steps and those that they need, by default all, planned as if all earlier steps were done."""
    return fitted(config).plan(names)[0]
