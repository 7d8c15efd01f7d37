"""The stages that show a run: counts of clusters and classes, the pages, the plots."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cpp.clustering import quality
from cpp.files import tables
from cpp.files.tables import Counts
from cpp.report import cards, charts, confusion, html, layer_tree, plots, run_page, thumbnails, tsne_map
from cpp.report.cards import Picture
from cpp.store.results import Product
from pipelines.engine.event_log import totals_by_step
from pipelines.engine.machine import versions
from pipelines.engine.stage import Context, Inputs, Outputs, Stage
from pipelines.stages.artifacts import read_cluster_moments, read_main_clusters, read_partition_metadata, read_tree


class Confusion(Stage):
    """ASSIGNMENTS -> the number of images by cluster and known class; no step uses it except the page."""

    version = 1
    products = (Product("confusion"),)
    whole = ("assignments",)
    label: str

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        batches = tables.batches(context.whole["assignments"], ["cluster", self.label], context.prefetch)
        counts = confusion.count(batches, self.label)
        tables.write(counts, out["confusion"])
        return Counts(len(counts), len(counts))


class Report(Stage):
    """The products of a run -> its main page and, for many clusters, further pages.

    The timings come from the event log, which does not count for the fingerprint.
    """

    version = 6
    products = (Product("report", ".html"), Product("pages", ""))
    whole = (
        "clusters", "groups", "moments", "tree", "features", "rejected", "loss", "scores", "name_scores",
        "examples", "map", "thumbnails", "confusion", "events",
    )  # fmt: skip
    title: str
    about: str
    asked: bool
    images: bool
    beside: Mapping[str, str]

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        page = self._page(context)
        out["report"].write_text(run_page.render(page), encoding="utf-8")
        out["pages"].mkdir()
        for name, text in run_page.pages(page):
            (out["pages"] / name).write_text(text, encoding="utf-8")
        return Counts(page.images, page.images)

    def _page(self, context: Context) -> run_page.Page:
        tree, loss = read_tree(context), tables.read(context.file("loss"))
        rows = tables.read(context.file("clusters")).to_pylist()
        pictures, rejected_pictures = _thumbnails(context)
        counts = tables.read(context.file("confusion")).to_pylist() if "confusion" in context.whole else []
        members = cards.members(tables.read(context.file("examples")), pictures)
        all_cards = cards.cards([row for row in rows if row["main"]], members, confusion.classes(counts))
        reasons = Counter[str]()
        for batch in tables.batches(context.whole["rejected"], ["reason"], context.prefetch):
            reasons.update(batch["reason"].to_pylist())
        totals = totals_by_step(Path(context.file("events")))
        moments = read_cluster_moments(context, tree.clusters[tree.main])
        return run_page.Page(
            title=self.title,
            k=tree.about,
            k_was_set=self.asked,
            partition=read_partition_metadata(context),
            encoders=_encoders(context),
            cards=all_cards,
            rejected=[run_page.Rejected(why, n, rejected_pictures.get(why, [])) for why, n in reasons.most_common()],
            warnings=quality.warnings(moments, [card.size for card in all_cards], tree.about["high"]),
            coding_length=charts.coding_length(tree.bits, tree.draws, tree.main),
            tree=layer_tree.layer_tree([row for row in rows if row["layer"] <= html.LISTED]),
            plane=_plane(context),
            small={place: row["small"] for place, row in pictures.items() if row["small"]},
            scores=_read_json(context, "scores"),
            name_scores=_read_json(context, "name_scores"),
            confusion=confusion.confusion(counts) if counts else None,
            loss={name: loss[name].to_pylist() for name in loss.column_names},
            steps=[run_page.Step(name, t.seconds, t.rows, t.shards) for name, t in totals.items()],
            settings=self.about,
            versions=versions(),
            pictures_allowed=self.images,
            curation_pages=self.beside,
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
    """The encoders of the columns of vectors, from the first file of FEATURES; none for imported vectors."""
    metadata = tables.read_schema(context.whole["features"][0]).metadata or {}
    keys = [key for key in metadata if key.startswith(b"cpp.embedding")]
    return {key.removeprefix(b"cpp.").decode(): json.loads(metadata[key]) for key in keys}


class Plots(Stage):
    """Coding length, sizes and map as SVG, and a contact sheet of the largest clusters, for papers and READMEs."""

    version = 3
    products = (Product("plots", ""),)
    whole = ("clusters", "tree", "examples", "map", "thumbnails")
    title: str

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        tree = read_tree(context)
        pictures, _ = _thumbnails(context)
        members = cards.members(tables.read(context.file("examples")), pictures)
        all_cards = cards.cards(read_main_clusters(context), members, {})
        out["plots"].mkdir()
        curve = charts.coding_length(tree.bits, tree.draws, tree.main)
        for name, data in plots.draw(self.title, all_cards, curve, _plane(context)).items():
            (out["plots"] / name).write_bytes(data)
        return Counts(len(all_cards), len(all_cards))
