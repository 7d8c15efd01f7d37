"""The stages that show a run: counts of clusters and classes, the pages, the plots."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cpp.clustering import quality
from cpp.files import tables
from cpp.files.tables import Counts
from cpp.report import cards, charts, confusion, heat_maps, html, plots, run_page, thumbnails, tsne_map
from cpp.report.charts import Chart
from cpp.report.thumbnails import Place
from cpp.store.results import Product
from pipelines.engine.event_log import totals_by_step
from pipelines.engine.machine import versions
from pipelines.engine.stage import Context, Inputs, Outputs, Stage
from pipelines.stages.artifacts import (
    clusters_state,
    read_cluster_moments,
    read_copies,
    read_estimate,
    read_groups,
    read_main_clusters,
    read_tree,
)

if TYPE_CHECKING:
    from cpp.clustering.estimate_k import Estimate

REJECTED = 8  # rejected images that are shown for each reason
Pictures = dict[Place, dict[str, Any]]  # rows of THUMBNAILS by shard and key, with the `file` of the enlarged picture


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
    """The products of a run -> its main page, the pages with the members of its clusters, and pictures for the viewer.

    The timings come from the event log, which does not count for the fingerprint.
    """

    version = 22
    products = (Product("report", ".html"), Product("pages", ""), Product("enlarged", ""))
    whole = (
        "clusters", "groups", "moments", "tree", "estimate", "features", "rejected", "loss", "scores", "name_scores",
        "examples", "members", "map_sample", "thumbnails", "attention", "confusion", "white_box",
        "events",
    )  # fmt: skip
    title: str
    about: str
    images: bool
    beside: Mapping[str, str]

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        pictures, rejected = _thumbnails(context)
        for place, name in _write_enlarged(context, out["enlarged"]).items():
            pictures[place]["file"] = name
        page = self._page(context, pictures, rejected)
        out["report"].write_text(run_page.render(page), encoding="utf-8")
        out["pages"].mkdir()
        members = tables.read(context.file("members"))
        for name, text in run_page.pages(page, members, pictures):
            (out["pages"] / name).write_text(text, encoding="utf-8")
        images = sum(card["size"] for card in page["cards"])
        return Counts(images, images)

    def _page(
        self, context: Context, pictures: Pictures, rejected_pictures: Mapping[str, list[dict[str, Any]]]
    ) -> dict[str, Any]:
        tree, estimate = read_tree(context), read_estimate(context)
        rows = tables.read(context.file("clusters")).to_pylist()
        attention = _add_heat_maps(context, pictures)
        counts = tables.read(context.file("confusion")).to_pylist() if "confusion" in context.whole else []
        main = [row for row in rows if row["main"]]
        reasons = Counter[str]()
        for batch in tables.batches(context.whole["rejected"], ["reason"], context.prefetch):
            reasons.update(batch["reason"].to_pylist())
        totals = totals_by_step(Path(context.file("events")))
        moments, groups = read_cluster_moments(context, tree.clusters[tree.main]), read_groups(context)
        return {
            "title": self.title,
            "state": clusters_state(context),
            "k": estimate._asdict() | {"sentence": estimate.sentence} if estimate else None,
            "uncertain": tree.metadata["uncertain"],
            "copies": read_copies(context),
            "partition": groups._asdict(),
            "encoders": _encoders(context),
            "cards": cards.cards(main, _members(context, pictures), confusion.classes(counts)),
            "rejected": [
                {"reason": reason, "images": images, "examples": rejected_pictures.get(reason, [])}
                for reason, images in reasons.most_common()
            ],
            "warnings": quality.warnings(moments, [row["size"] for row in main], groups.method),
            "k_curve": _k_curve(estimate),
            "tree": cards.layer_tree([row for row in rows if row["layer"] <= html.LISTED]),
            "map": _map(context, pictures),
            "scores": _read_json(context, "scores"),
            "name_scores": _read_json(context, "name_scores"),
            "confusion": confusion.confusion(counts) if counts else None,
            "loss": tables.read(context.file("loss")).to_pylist(),
            "steps": [{"name": name, **total._asdict()} for name, total in totals.items()],
            "settings": self.about,
            "versions": versions(),
            "pictures_allowed": self.images,
            "attention": attention,
            "white_box": _white_box(context),
            "curation_pages": self.beside,
        }


def _k_curve(estimate: Estimate | None) -> Chart | None:
    return estimate and charts.number_of_clusters(estimate.K, estimate.scores, estimate.best)


def _thumbnails(context: Context) -> tuple[Pictures, dict[str, list[dict[str, Any]]]]:
    """Rows of THUMBNAILS without `enlarged` by shard and key, and examples of rejected images by reason."""
    columns = [name for name in thumbnails.THUMBNAILS.names if name != "enlarged"]
    pictures: Pictures = {}
    rejected: dict[str, list[dict[str, Any]]] = {}
    for batch in tables.batches(context.whole["thumbnails"], columns, context.prefetch):
        for row in batch.to_pylist():
            if row["reason"] is None:
                pictures[row["image_shard"], row["key"]] = row
            elif len(rejected.setdefault(row["reason"], [])) < REJECTED:
                rejected[row["reason"]].append(row)
    return pictures, rejected


def _write_enlarged(context: Context, folder: Path) -> dict[Place, str]:
    """Write the larger pictures of the viewer to a new folder. Returns their file names by shard and key."""
    folder.mkdir()
    names: dict[Place, str] = {}
    for batch in tables.batches(context.whole["thumbnails"], ["image_shard", "key", "enlarged"], context.prefetch):
        for row in batch.to_pylist():
            if row["enlarged"] is not None:
                name = names[row["image_shard"], row["key"]] = f"{len(names):05d}.jpg"
                (folder / name).write_bytes(row["enlarged"])
    return names


def _add_heat_maps(context: Context, pictures: Pictures) -> dict[str, str] | None:
    """Add to pictures what is drawn over them. Returns what the attention is of; None in a run without the step."""
    if "attention" not in context.whole:
        return None
    for batch in tables.batches(context.whole["attention"], heat_maps.ATTENTION.names, context.prefetch):
        for row in batch.to_pylist():
            pictures[row["image_shard"], row["key"]]["attention"] = heat_maps.overlay(row)
    metadata = tables.read_schema(context.whole["attention"][0]).metadata
    about: dict[str, str] = json.loads(metadata[heat_maps.ABOUT])
    return about


def _members(context: Context, pictures: Pictures) -> dict[int, list[Mapping[str, Any]]]:
    return cards.members(tables.read(context.file("examples")), pictures)


def _map(context: Context, pictures: Pictures) -> dict[str, Any]:
    """The map with the key and the small picture of each point."""
    table = tables.read(context.file("map_sample")).to_pydict()
    plane = tsne_map.plane(np.stack([table["x"], table["y"]], axis=1), table["cluster"])
    places = zip(table["image_shard"], table["key"], strict=True)
    return {**plane, "key": table["key"], "small": [pictures.get(place, {}).get("small") for place in places]}


def _read_json(context: Context, product: str) -> dict[str, Any] | None:
    """The content of a JSON product; None in a run without it."""
    if product not in context.whole:
        return None
    content: dict[str, Any] = json.loads(Path(context.file(product)).read_text())
    return content


def _encoders(context: Context) -> dict[str, dict[str, str]]:
    """The encoders of the columns of vectors, from the first file of FEATURES; none for imported vectors."""
    metadata = tables.read_schema(context.whole["features"][0]).metadata or {}
    keys = [key for key in metadata if key.startswith(b"cpp.embedding")]
    return {key.removeprefix(b"cpp.").decode(): json.loads(metadata[key]) for key in keys}


def _white_box(context: Context) -> list[dict[str, Any]]:
    """The charts of every CRATE encoder, with its column, its name and the number of images; none without one."""
    blocks: dict[str, list[dict[str, Any]]] = {}
    if "white_box" in context.whole:
        for row in tables.read(context.file("white_box")).to_pylist():
            blocks.setdefault(row["column"], []).append(row)
    return [
        {key: rows[0][key] for key in ("column", "model", "images")}
        | {
            "rates": charts.rates_by_block([row["rate_before"] for row in rows], [row["rate"] for row in rows]),
            "sparsity": charts.sparsity_by_block([row["nonzero"] for row in rows]),
        }
        for rows in blocks.values()
    ]


class Plots(Stage):
    """The charts of a run as SVG, and a contact sheet of the largest clusters, for papers and READMEs."""

    version = 6
    products = (Product("plots", ""),)
    whole = ("clusters", "estimate", "examples", "map_sample", "thumbnails", "white_box")
    title: str

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        pictures, _ = _thumbnails(context)
        all_cards = cards.cards(read_main_clusters(context), _members(context, pictures), {})
        out["plots"].mkdir()
        curve = _k_curve(read_estimate(context))
        others = {
            f"{name}_{of_encoder['column']}.svg": of_encoder[name]
            for of_encoder in _white_box(context)
            for name in ("rates", "sparsity")
        }
        for name, data in plots.draw(self.title, all_cards, curve, _map(context, pictures), others).items():
            (out["plots"] / name).write_bytes(data)
        return Counts(len(all_cards), len(all_cards))
