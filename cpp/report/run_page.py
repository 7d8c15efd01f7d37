"""The main page of a run, and the pages with the members of its clusters.

This module knows no files. Names, keys, captions and settings are untrusted, and the templates escape them.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from cpp.report import charts, heat_maps, html, workbench
from cpp.report.charts import Chart
from cpp.report.thumbnails import Place

Card = Mapping[str, Any]

PAGED = 500  # with more clusters, the main page has small pictures of typical members only
ENLARGED = "enlarged"  # the folder beside the main page that has the larger pictures of the viewer
ROOM = 23_000_000  # bytes of the pictures and texts on a page, so that the whole page has less than 25 MB
PER_CLUSTER = 1_500  # approximate bytes of a short card without pictures; a full card has three times as many
CURVE_STEPS = 8  # steps of training from which on the loss record is shown as curves
LOSSES = {  # columns of the loss record with title and unit
    "loss": ("Loss", " nats"),
    "R": ("R, rate of all codes", " nats"),
    "R_c": ("R_c, rate within groups", " nats"),
    "pi_norm2": ("‖Π‖², blocks of the membership", ""),
}


def render(page: Mapping[str, Any]) -> str:
    """The HTML of the main page, smaller than 25 MB for any run: it shows fewer pictures if necessary.

    `page` has the values of `report.html`: the `title`; the `state` of the clusters, which decisions name; the `cards`
    of `cpp.report.cards` and the `tree` of layers;
    `k`, the estimate of K with its `sentence` and the K of the `rounds`, or None if K was set; the `uncertain` pairs of
    clusters with the change of the coding length in bits if they were one;
    `copies`, the numbers of `rows` and of `copies` among them; `partition`, its method and candidates; `encoders`,
    settings by column of vectors; `rejected`, for each reason the number of `images` and `examples`; `warnings`; the
    chart `k_curve` or None; the `map` of `tsne_map` with the `key` and the picture `small` of each point; the
    contents `scores` and `name_scores` of these files and the `confusion`, each or None; the rows of the `loss`
    record; `steps` with `seconds`, `rows` and `shards`; `settings` as text; `versions` by package; `pictures_allowed`;
    `attention`, the encoder's `model` with the `query` whose attention is drawn over the pictures, or the `reason` why
    it has none, or None; `white_box`, for each CRATE encoder its `column`, `model`, number of `images`, and the charts
    `rates` and `sparsity`; and `curation_pages`, titles by file name.
    """
    cards, paged = page["cards"], len(page["cards"]) > PAGED
    largest = sorted(cards, key=lambda card: (-card["size"], card["cluster"]))[: html.LISTED]
    room = ROOM - len(page["settings"]) - PER_CLUSTER * (1 if paged else 3) * len(largest)
    entries = workbench.data(page["title"], page["state"], largest)
    room -= len(entries)
    points = _points(page, room // 3)
    shown = fit(largest, room - len(points), small=paged)
    of_cluster = {card["cluster"]: card for card in shown}
    curves = _loss_curves([step for step in page["loss"] if step["round"] == page["loss"][-1]["round"]])
    missing = sum(p["image_shard"] is not None and not p.get("large") for card in cards for p in card["members"])
    return html.fill(
        "report.html",
        page=page,
        paged=paged,
        cards=shown,
        pairs=[(of_cluster[a], of_cluster[b], bits) for a, b, bits in page["uncertain"] if {a, b} <= {*of_cluster}],
        points=points,
        enlarged=f"{ENLARGED}/",
        workbench=entries,
        images=sum(card["size"] for card in cards),
        unreadable=missing if page["pictures_allowed"] else 0,
        sizes=charts.cluster_sizes([card["size"] for card in largest]),
        median=statistics.median_high(card["size"] for card in largest),
        steps=[step for step in page["loss"] if not curves or step["round"] < page["loss"][-1]["round"]],
        curves=curves,
    )


def _loss_curves(training: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """A chart for each quantity of the steps of the training; none for a few steps, which are shown as a table."""
    if len(training) < CURVE_STEPS:
        return []
    warmup = sum(step["warmup"] for step in training)
    charted = {name: [step[name] for step in training] for name in LOSSES}
    return [
        charts.loss_curve(charted[name], warmup, f"{title}: {charted[name][0]:.2f} → {charted[name][-1]:.2f}{unit}")
        for name, (title, unit) in LOSSES.items()
    ]


def pages(
    page: Mapping[str, Any], members: pa.Table, pictures: Mapping[Place, Mapping[str, Any]]
) -> Iterator[tuple[str, str]]:
    """File name and HTML of the pages with `ON_A_PAGE` clusters each, and all their members or the most typical ones.

    `page` is that of `render`, `members` a table of MEMBERS, and `pictures` rows of THUMBNAILS by
    shard and key, with the `file` in the folder `ENLARGED` of those that have one.
    """
    by_number = sorted(page["cards"], key=lambda card: card["cluster"])
    clusters = members["cluster"].to_numpy()
    for start in range(0, len(by_number), html.ON_A_PAGE):
        on_page = by_number[start : start + html.ON_A_PAGE]
        numbers = [card["cluster"] for card in on_page]
        first, last = np.searchsorted(clusters, [numbers[0], numbers[-1] + 1])
        rows = members.slice(first, last - first).to_pylist()
        room = ROOM - 3 * PER_CLUSTER * len(on_page)
        cards = fit(on_page, room / 2)
        shown = _everything(numbers, rows, pictures, room / 2)
        name = html.page_of(start).removeprefix("pages/")
        last_page = start + html.ON_A_PAGE >= len(by_number)
        values = {"page": page, "cards": cards, "all": shown, "last": last_page}
        entries = workbench.data(page["title"], page["state"], on_page)
        yield name, html.fill("clusters.html", **values, workbench=entries, enlarged=f"../{ENLARGED}/")


def _everything(
    numbers: Sequence[int], rows: Sequence[dict[str, Any]], pictures: Mapping[Place, Mapping[str, Any]], room: float
) -> dict[int, dict[str, list[Any]]]:
    """By cluster, the members with their `pictures`, as far as there is room, and the keys of those `hidden`."""
    shown: dict[int, dict[str, list[Any]]] = {number: {"pictures": [], "hidden": []} for number in numbers}
    ranked = [(rank, row) for _, of in groupby(rows, key=itemgetter("cluster")) for rank, row in enumerate(of)]
    for _, row in sorted(ranked, key=itemgetter(0)):
        picture = pictures.get((row["image_shard"], row["key"]), {}) if row["picture"] else {}
        room -= _member_bytes({**row, **picture}, "small")
        if row["picture"] and room > 0:
            shown[row["cluster"]]["pictures"].append({**picture, **row, "attention": None})
        else:
            shown[row["cluster"]]["hidden"].append(row["key"])
    return shown


def fit(cards: Sequence[Card], room: float, small: bool = False) -> list[dict[str, Any]]:
    """Cards with no more members than fit in `room` bytes: the first of every cluster, then the second, and so on.

    `small` takes the small pictures, and typical members alone.
    """
    kinds, size = (["typical"], "small") if small else (["typical", "borderline", "odd"], "large")
    shown: dict[int, list[Mapping[str, Any]]] = {card["cluster"]: [] for card in cards}
    candidates = [(card["cluster"], member) for card in cards for member in card["members"] if member["kind"] in kinds]
    for cluster, member in sorted(candidates, key=lambda pair: (pair[1]["rank"], kinds.index(pair[1]["kind"]))):
        room -= _member_bytes(member, size)
        room -= heat_maps.page_bytes(member.get("attention"))
        if room < 0:
            break
        shown[cluster].append(member)
    return [{**card, "members": shown[card["cluster"]]} for card in cards]


def _member_bytes(member: Mapping[str, Any], size: str) -> float:
    """The bytes that a picture and what is known of it take on a page, approximately."""
    texts = len(member.get("caption") or member["key"]) + len(member["key"]) + len(member["image_shard"] or "")
    return _bytes(member.get(size)) + texts + 180


def _bytes(data: bytes | None) -> float:
    """The bytes that a picture takes on a page."""
    return 4 / 3 * len(data or b"")


def _points(page: Mapping[str, Any], room: float) -> Markup:
    """The map as JSON for the script, with as many pictures as fit."""
    points, pictures = page["map"], []
    for data in points["small"]:
        room -= _bytes(data)
        pictures.append(html.base64_text(data) if data and room > 0 else None)
    titles = {card["cluster"]: card["title"][:40] for card in page["cards"]}
    content = {
        **{name: points[name] for name in ("x", "y", "cluster")},
        "key": [key[:80] for key in points["key"]],
        "picture": pictures,
        "centres": [{**centre, "name": titles.get(centre["cluster"], "")} for centre in points["centres"]],
    }
    return htmlsafe_json_dumps(content, separators=(",", ":"))
