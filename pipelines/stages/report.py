"""The stages that show a run: clusters and classes, the page, the plots."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cpp.clustering import quality
from cpp.files import tables
from cpp.files.tables import Counts
from cpp.report import cards, charts, confusion, layer_tree, plots, run_page, thumbnails, tsne_map
from cpp.report import html as report
from cpp.report import summary as report_summary
from cpp.report.cards import Picture
from cpp.report.summary import Facts, summary
from cpp.store.results import Product
from pipelines.engine.event_log import totals_by_step
from pipelines.engine.machine import versions
from pipelines.engine.stage import Context, Stage, Work
from pipelines.stages.artifacts import read_cluster_moments, read_partition_metadata, read_tree


@dataclass(frozen=True, kw_only=True)
class Confusion(Stage):
    """ASSIGNMENTS -> images by cluster and class, where classes are known; to be looked at and for nothing else."""

    version = 1
    products = (Product("confusion"),)
    each = ()
    whole = ("assignments",)
    label: str

    def open(self, context: Context) -> Work:
        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            batches = tables.batches(context.whole["assignments"], ["cluster", self.label], context.prefetch)
            found = confusion.count(batches, self.label)
            tables.write(found, out["confusion"])
            return Counts(len(found), len(found))

        return work


@dataclass(frozen=True, kw_only=True)
class Report(Stage):
    """Everything -> the page, and pages beside it where there are many clusters.

    The event log gives the timings; it is no cause of the page.
    """

    version = 4
    products = (Product("report", ".html"), Product("pages", ""))
    each = ()
    whole = (
        "clusters", "groups", "moments", "tree", "features", "rejected", "loss", "scores", "name_scores",
        "examples", "map", "thumbnails", "confusion", "events",
    )  # fmt: skip
    title: str
    about: str
    asked: bool
    images: bool
    beside: Mapping[str, str]

    def open(self, context: Context) -> Work:
        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            page = self._page(context)
            out["report"].write_text(run_page.render(page), encoding="utf-8")
            out["pages"].mkdir()
            for name, html in run_page.pages(page):
                (out["pages"] / name).write_text(html, encoding="utf-8")
            return Counts(page.images, page.images)

        return work

    def _page(self, context: Context) -> run_page.Page:
        tree = read_tree(context)
        rows = tables.read(context.file("clusters")).to_pylist()
        main = [row for row in rows if row["main"]]
        pictures, rejected = _thumbnails(context)
        counted = tables.read(context.file("confusion")).to_pylist() if "confusion" in context.whole else []
        shown = cards.members(tables.read(context.file("examples")), pictures)
        found = cards.cards(main, shown, confusion.classes(counted))
        reasons = Counter(
            reason
            for batch in tables.batches(context.whole["rejected"], ["reason"], context.prefetch)
            for reason in batch["reason"].to_pylist()
        )
        spent = totals_by_step(Path(context.file("events")))
        moments = read_cluster_moments(context, tree.clusters[tree.main])
        loss = tables.read(context.file("loss"))
        facts = Facts(
            clustered=sum(card.size for card in found),
            rejected=reasons.total(),
            n_clusters=len(found),
            asked=self.asked,
            about=tree.about,
            named=sum(card.name is not None and not card.unsure for card in found)
            if any(card.evidence for card in found)
            else None,
            seconds={name: step.seconds for name, step in spent.items()},
            rates={name: step.rows / step.seconds if step.seconds else None for name, step in spent.items()},
            encoders=_encoders(context),
        )
        return run_page.Page(
            title=self.title,
            summary=[*summary(facts), report_summary.how_partitioned(read_partition_metadata(context))],
            cards=found,
            rejected=[run_page.Rejected(why, n, rejected.get(why, [])) for why, n in reasons.most_common()],
            warnings=quality.warnings(moments, [card.size for card in found], tree.about["high"]),
            choice=tree.about["sentence"],
            coding_length=charts.coding_length(tree.bits, tree.draws, tree.main),
            tree=layer_tree.layer_tree([row for row in rows if row["layer"] <= report.LISTED]),
            plane=_plane(context),
            small={place: row["small"] for place, row in pictures.items() if row["small"]},
            scores=_read_json(context, "scores"),
            name_scores=_read_json(context, "name_scores"),
            confusion=confusion.confusion(counted) if counted else None,
            loss={name: loss[name].to_pylist() for name in loss.column_names},
            steps=[run_page.Step(name, *step) for name, step in spent.items()],
            settings=self.about,
            versions=versions(),
            pictured=self.images,
            beside=self.beside,
            unreadable=run_page.unreadable(found) if self.images else 0,
        )


def _thumbnails(context: Context) -> tuple[dict[tuple[str | None, str], dict[str, Any]], dict[str, list[Picture]]]:
    """Rows of THUMBNAILS by shard and key, and examples of rejected images by reason."""
    pictures: dict[tuple[str | None, str], dict[str, Any]] = {}
    rejected: dict[str, list[Picture]] = {}
    for batch in tables.batches(context.whole["thumbnails"], thumbnails.THUMBNAILS.names, context.prefetch):
        for row in batch.to_pylist():
            if row["reason"] is None:
                pictures[row["image_shard"], row["key"]] = row
            elif len(rejected.setdefault(row["reason"], [])) < run_page.EXAMPLES:
                rejected[row["reason"]].append(Picture(row["key"], row["image_shard"], data=row["large"]))
    return pictures, rejected


def _read_json(context: Context, product: str) -> dict[str, Any] | None:
    """The content of a JSON product; None in a run without it."""
    if product not in context.whole:
        return None
    content: dict[str, Any] = json.loads(Path(context.file(product)).read_text())
    return content


def _plane(context: Context) -> tsne_map.Plane:
    table = tables.read(context.file("map"))
    places = list(zip(table["image_shard"].to_pylist(), table["key"].to_pylist(), strict=True))
    points = np.stack([table["x"].to_numpy(), table["y"].to_numpy()], axis=1)
    return tsne_map.plane(points, table["cluster"].to_pylist(), places)


def _encoders(context: Context) -> dict[str, dict[str, str]]:
    """What made the columns of vectors, as the first file of FEATURES says; nothing where they were context."""
    said = tables.read_schema(context.whole["features"][0]).metadata or {}
    names = {
        key.decode().removeprefix("cpp."): value for key, value in said.items() if key.startswith(b"cpp.embedding")
    }
    return {name: json.loads(value) for name, value in names.items()}


@dataclass(frozen=True, kw_only=True)
class Plots(Stage):
    """The curve, the sizes and the map as SVG, and a contact sheet of the largest clusters, for papers and READMEs."""

    version = 1
    products = (Product("plots", ""),)
    each = ()
    whole = ("clusters", "tree", "examples", "map", "thumbnails")
    title: str

    def open(self, context: Context) -> Work:
        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            tree = read_tree(context)
            main = [row for row in tables.read(context.file("clusters")).to_pylist() if row["main"]]
            pictures, _ = _thumbnails(context)
            found = cards.cards(main, cards.members(tables.read(context.file("examples")), pictures), {})
            out["plots"].mkdir()
            curve = charts.coding_length(tree.bits, tree.draws, tree.main)
            for name, data in plots.draw(self.title, found, curve, _plane(context)).items():
                (out["plots"] / name).write_bytes(data)
            return Counts(len(found), len(found))

        return work
