"""The steps of curation in the graph of a run. Starts nothing."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace

from cpp.encoding.images import Limits
from cpp.report import section_pages
from pipelines.config.curation import Duplicates
from pipelines.config.load import Config
from pipelines.engine.stage import Stage
from pipelines.stages import curate, curation_pages, duplicate_groups, duplicate_pairs, leaks, outliers, pictures
from pipelines.stages.caption_match import CaptionMatch, TextTower

APPENDED = (
    "pictures", "caption_match", "oddities", "outliers", "scatter", "search", "group", "duplicates", "leaks", "flag",
    "balance", "curate", "curation",
)  # fmt: skip  # in the order of a run


def curation_steps(config: Config, stage: Callable[..., Stage], tower: TextTower | None) -> dict[str, Stage]:
    """Which images leave the data set, and why. `stage` makes a stage of a section and further settings."""
    c = config.curate
    if c is None:
        return {}
    steps: dict[str, Stage] = {}
    compared = bool(c.duplicates and c.duplicates.pictures)
    if config.has_pictures and (c.quality or compared):
        steps["pictures"] = stage(pictures.Pictures, config.images, **({} if config.images else asdict(Limits())))
    if c.similarity or c.captions:
        steps["caption_match"] = stage(CaptionMatch, c, tower=tower)
    if o := c.outliers:
        steps["oddities"] = stage(outliers.Oddities, o)
        steps["scales"] = stage(outliers.Scales, similarity=c.similarity)
        steps["outliers"] = stage(outliers.Outliers)
    threshold = o.threshold if o else None
    if d := c.duplicates:
        pictures_compared = config.has_pictures and d.pictures
        removed = {"balanced": c.size is not None, "outlier_threshold": threshold}
        group = duplicate_groups.Group if threshold is None else duplicate_groups.GroupNoOutliers
        steps |= _duplicates(pictures_compared, d, functools.partial(stage, **removed), group)
        if c.split:
            steps["leaks"] = stage(leaks.Leaks, c, threshold=d.effective_threshold(pictures_compared))
    if c.quality and config.has_pictures:
        steps["picture_sizes"] = stage(pictures.PictureSizes)
        steps["flag"] = stage(pictures.Flag, thresholds=c.quality)
    if c.size is not None:
        steps["balance"] = stage(curate.Balance, c, threshold=threshold)
    steps["curate"] = stage(curate.Curate, threshold=threshold)
    if o:
        steps["outliers_page"] = stage(curation_pages.OutliersPage, o)
    how = "" if c.size is None else f"Clusters share by size to the power {c.power:g}, within a cluster by {c.by}."
    steps["curation"] = stage(curation_pages.Summary, asked=c.size, how=how)
    return steps


def _duplicates(pictures: bool, d: Duplicates, stage: Callable[..., Stage], group: type[Stage]) -> dict[str, Stage]:
    """The search for near-duplicates, their groups and their page."""
    settings = {"threshold": d.effective_threshold(pictures), "pictures": pictures}
    pairs, groups = duplicate_pairs, duplicate_groups
    kinds = {"cells": pairs.Cells, "scatter": pairs.Scatter, "search": pairs.Search, "group": group}
    kinds |= {"duplicates": groups.Duplicates, "duplicates_page": curation_pages.DuplicatesPage}
    return {name: stage(kind, d, **settings) for name, kind in kinds.items()}


def appended_steps(stages: Mapping[str, Stage]) -> dict[str, Stage]:
    """Those of the steps of a run that curate appended shards: scales are those of the run, and there are no pages.

    Appended images are not fitted, so that a limit of groups matters to a balanced subset only.
    """
    thin = ("thin",) if "balance" in stages else ()
    steps = {name: stages[name] for name in (*thin, *APPENDED) if name in stages}
    if oddities := steps.get("oddities"):
        steps["oddities"] = outliers.AppendedOddities(**vars(oddities))
    if leaks_step := steps.get("leaks"):
        steps["leaks"] = replace(leaks_step, others={})  # type: ignore[type-var]  # every stage is a dataclass
    return steps


def page_titles(config: Config) -> dict[str, str]:
    """The curation pages of the run: file and title."""
    c = config.curate
    if c is None:
        return {}
    exists = {
        "duplicates_page.html": c.duplicates,
        "outliers_page.html": c.outliers,
        "balance_page.html": True,
        "leaks_page.html": c.split,
    }
    return {file: section_pages.PAGES[file] for file, present in exists.items() if present}
