"""The stages that show a run: counts of clusters and classes, the pages, the plots."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cpp.clustering import quality
from cpp.files import tables
from cpp.files.tables import Counts
from cpp.report import (
    cards,
    charts,
    confusion,
    html,
    layer_tree,
    plots,
    run_page,
    summary,
    thumbnails,
    tsne_map,
)
from cpp.report.cards import Picture
from cpp.store.results import Product
from pipelines.engine.event_log import totals_by_step
from pipelines.engine.machine import versions
from pipelines.engine.stage import Context, Inputs, Outputs, Stage
from pipelines.stages.artifacts import read_cluster_moments, read_partition_metadata, read_tree


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

    version = 5
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
        pictures, rejected = _thumbnails(context)
        counted = tables.read(context.file("confusion")).to_pylist() if "confusion" in context.whole else []
        examples = cards.members(tables.read(context.file("examples")), pictures)
        all_cards = cards.cards([row for row in rows if row["main"]], examples, confusion.classes(counted))
        reasons = Counter[str]()
        for batch in tables.batches(context.whole["rejected"], ["reason"], context.prefetch):
            reasons.update(batch["reason"].to_pylist())
        totals = totals_by_step(Path(context.file("events")))
        steps = [run_page.Step(name, t.seconds, t.rows, t.shards) for name, t in totals.items()]
        moments = read_cluster_moments(context, tree.clusters[tree.main])
        facts = self._facts(context, all_cards, reasons.total(), steps, tree.about)
        return run_page.Page(
            title=self.title,
            summary=[*summary.summary(facts), summary.how_partitioned(read_partition_metadata(context))],
            cards=all_cards,
            rejected=[run_page.Rejected(why, n, rejected.get(why, [])) for why, n in reasons.most_common()],
            warnings=quality.warnings(moments, [card.size for card in all_cards], tree.about["high"]),
            choice=tree.about["sentence"],
            coding_length=charts.coding_length(tree.bits, tree.draws, tree.main),
            tree=layer_tree.layer_tree([row for row in rows if row["layer"] <= html.LISTED]),
            plane=_plane(context),
            small={place: row["small"] for place, row in pictures.items() if row["small"]},
            scores=_read_json(context, "scores"),
            name_scores=_read_json(context, "name_scores"),
            confusion=confusion.confusion(counted) if counted else None,
            loss={name: loss[name].to_pylist() for name in loss.column_names},
            steps=steps,
            settings=self.about,
            versions=versions(),
            pictures_allowed=self.images,
            curation_pages=self.beside,
        )

    def _facts(
        self,
        context: Context,
        all_cards: Sequence[cards.Card],
        rejected: int,
        steps: Sequence[run_page.Step],
        k_metadata: Mapping[str, Any],
    ) -> summary.Facts:
        named = sum(card.name is not None and not card.unsure for card in all_cards)
        return summary.Facts(
            clustered=sum(card.size for card in all_cards),
            rejected=rejected,
            n_clusters=len(all_cards),
            k_was_set=self.asked,
            k_metadata=k_metadata,
            named=named if any(card.evidence for card in all_cards) else None,
            seconds={step.name: step.seconds for step in steps},
            rates={step.name: step.rate for step in steps},
            encoders=_encoders(context),
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
    prefix = b"cpp."
    return {
        key.removeprefix(prefix).decode(): json.loads(value)
        for key, value in metadata.items()
        if key.startswith(prefix + b"embedding")
    }


class Plots(Stage):
    """Coding length, sizes and map as SVG, and a contact sheet of the largest clusters, for papers and READMEs."""

    version = 2
    products = (Product("plots", ""),)
    whole = ("clusters", "tree", "examples", "map", "thumbnails")
    title: str

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        tree = read_tree(context)
        main = [row for row in tables.read(context.file("clusters")).to_pylist() if row["main"]]
        pictures, _ = _thumbnails(context)
        all_cards = cards.cards(main, cards.members(tables.read(context.file("examples")), pictures), {})
        out["plots"].mkdir()
        curve = charts.coding_length(tree.bits, tree.draws, tree.main)
        for name, data in plots.draw(self.title, all_cards, curve, _plane(context)).items():
            (out["plots"] / name).write_bytes(data)
        return Counts(len(all_cards), len(all_cards))
