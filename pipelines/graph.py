"""The graph of a run: which stages it has, in which order, by its configuration."""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from cpp.encoding.weights import SUFFIXES
from cpp.files import filesystem
from cpp.files.tables import EMBEDDING
from cpp.report import section_page
from cpp.sources import vectors
from cpp.store.connect import open_store
from pipelines.config.errors import ConfigError
from pipelines.config.load import Config
from pipelines.config.sections import CAPTIONS, Encoder
from pipelines.engine.inputs import input_files
from pipelines.engine.plan import Files, Step, plan_steps
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
    """The steps of a run in order. ConfigError, before anything starts, for what they cannot have."""
    c, p, seed = config, config.partition, config.seed
    steps: dict[str, Stage] = {}
    encoders = {column: _encoder(c, column, given) for column, given in c.encode.columns.items()} if c.encode else {}
    if i := c.images:
        steps["encode"] = encode.Encode(encoders, i.max_bytes, i.max_pixels, i.max_aspect)
    elif c.import_:
        dim = vectors.vector_dim(file.path for file in files["vectors"].values())
        if dim is None:
            raise ConfigError(f"import.path: none of the .npy files in {c.locate(c.import_.path)}/img_emb can be read")
        steps["import"] = encode.Import(c.import_.key, dim)
    steps |= {
        "fit": fit.Fit(c.fit, p.n_clusters if c.fit.recipe == "discriminant" else None, seed),
        "project": fit.Project(c.fit.embeddings),
        "partition": cluster.Partition(
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
        "measure": cluster.Measure(),
        "layers": cluster.Layers(p.n_clusters, p.layers),
        "assign": cluster.Assign(),
    }
    if c.label:
        if c.label.captions:
            steps["phrases"] = words.Phrases(c.label.captions)
            steps["mine"] = words.Mine(c.label.captions)
            steps["captions"] = words.Captions(c.label.captions)
        mined = CAPTIONS in c.label.vocabulary
        if encoders and (files["wordlists"] or files["named"] or mined):
            steps["words"] = words.Words(encoders[c.label.embedding], c.label.templates, mined)
        steps["vote"] = naming.Vote(c.label.embedding, c.label.top)
        steps["label"] = naming.Label(c.label.method, c.label.top, c.label.min_confidence)
        steps["labels"] = naming.Labels(c.label.embedding)
    else:
        steps["label"] = naming.Label()
    if c.evaluate:
        steps["evaluate"] = evaluate.Evaluate(c.evaluate.label, c.evaluate.baseline_sample, c.fit.embeddings, seed)
        if c.label and c.evaluate.names:
            steps["evaluate_names"] = evaluate.EvaluateNames(c.evaluate.names, c.label.method, c.label.min_confidence)
    return steps | _curated(c, encoders) | _shown(c)


def _curated(config: Config, encoders: Mapping[str, artifacts.Model]) -> dict[str, Stage]:
    """The steps that say what leaves the data set and why."""
    c = config.curate
    if c is None:
        return {}
    steps: dict[str, Stage] = {}
    if d := c.duplicates:
        how = d.threshold, d.lowest, d.keep, d.neighbours
        steps["scatter"] = duplicate_pairs.Scatter(config.fit.embeddings, d.neighbours, d.similarity, d.bytes)
        steps["search"] = duplicate_pairs.Search(d.lowest)
        steps["group"] = duplicate_groups.Group(*how)
        steps["duplicates"] = duplicate_groups.Duplicates(config.report.images)
        about = config.name, d.threshold, d.keep, d.neighbours, d.bytes
        steps["duplicates_page"] = curation_pages.DuplicatesPage(*about, _pages(config))
    if o := c.outliers:
        tower = encoders[EMBEDDING] if o.captions else None
        made = o.neighbours, o.sample, o.similarity, o.captions, tower
        steps["oddities"] = outliers.Oddities(config.fit.embeddings, *made, config.seed)
        steps["scales"] = outliers.Scales(o.similarity)
        steps["outliers"] = outliers.Outliers()
    threshold = c.outliers.threshold if c.outliers else None
    if c.size is not None:
        steps["balance"] = curate.Balance(c.size, c.power, c.by, threshold, config.seed)
    steps["curate"] = curate.Curate(threshold)
    steps["curation"] = curate.Summary(c.size)
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
    return {f"{name}.html": section_page.PAGES[f"{name}.html"] for name, is_made in (made or {}).items() if is_made}


def _shown(config: Config) -> dict[str, Stage]:
    """The steps that show what the others made."""
    steps: dict[str, Stage] = {
        "examples": examples.Examples(),
        "map": examples.Map(config.seed),
        "thumbnails": examples.Thumbnails(config.report.images),
    }
    if config.evaluate:
        steps["confusion"] = report.Confusion(config.evaluate.label)
    what = yaml.safe_dump(
        config.dump(exclude={"resources", "root"}, exclude_none=True), sort_keys=False, allow_unicode=True
    )
    asked = config.partition.n_clusters is not None
    steps["report"] = report.Report(config.name, what, asked, config.report.images, _pages(config))
    steps["plots"] = report.Plots(config.name)
    return steps


def _encoder(config: Config, column: str, settings: Encoder) -> artifacts.Model:
    """An encoder with the paths in its settings as they are opened, and its weights' hash. ConfigError without them."""
    from cpp.encoding import encoder

    is_file = settings.pretrained.endswith(SUFFIXES)
    paths = {
        "configs": config.locate(settings.configs) if settings.configs else None,
        "pretrained": config.locate(settings.pretrained) if is_file else settings.pretrained,
    }
    located = settings.model_copy(update=paths)
    for key, path in paths.items():
        if path and filesystem.is_remote(path):
            raise ConfigError(
                f"encode, column {column}: encode.{key} is {path}: models and weights are files on a disk, of every "
                "machine that has workers; give the absolute path there"
            )
    try:
        if located.configs:
            encoder.register(located.configs)
        weights = encoder.identity(located.model, located.pretrained).sha256
        return artifacts.Model(**located.model_dump(), weights=weights)
    except ValueError as error:
        raise ConfigError(f"encode, column {column}: {error}") from error


def plan(config: Config) -> list[Step]:
    """Every step of a run, as if all before it were done."""
    files: Files = input_files(config)
    return plan_steps(pipeline(config, files), files, open_store(config.root))
