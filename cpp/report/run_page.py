"""The main page of a run and, for many clusters, pages with all their pictures.

This module knows no files. Names, keys, captions and settings are untrusted, and the templates escape them.
"""

from __future__ import annotations

import base64
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from markupsafe import Markup

from cpp.report import charts, html
from cpp.report.cards import Card, Picture
from cpp.report.charts import Chart
from cpp.report.confusion import Confusion
from cpp.report.html import base64_size, fill
from cpp.report.layer_tree import Node
from cpp.report.tsne_map import Plane

PAGED = 500  # with more clusters, the pictures are on further pages
PER_CLUSTER = 1_500  # approximate bytes of a short card without pictures; a full card has three times as many
EXAMPLES = 8  # rejected images that are shown for each reason
CURVE_STEPS = 8  # steps of training from which on the loss record is shown as curves
LOSSES = {  # columns of the loss record with title and unit
    "loss": ("Loss", " nats"),
    "R": ("R, rate of all codes", " nats"),
    "R_c": ("R_c, rate within groups", " nats"),
    "pi_norm2": ("‖Π‖², blocks of the membership", ""),
}


class Step(NamedTuple):
    """A step with its seconds of work over all shards and the number of its input rows."""

    name: str
    seconds: float
    rows: int
    shards: int

    @property
    def rate(self) -> float | None:
        return self.rows / self.seconds if self.seconds > 0 and self.rows else None


class Rejected(NamedTuple):
    """The number of images that were rejected for one reason, and some examples."""

    reason: str
    images: int
    examples: Sequence[Picture] = ()


@dataclass(frozen=True)
class Page:
    """The content of the pages of a run.

    `k` is the choice of K with its `sentence` and its interval from `low` to `high`; `partition` has the method and
    the candidates of the partition, `encoders` the settings by column of vectors, and `loss` the columns of the loss
    record. `scores` and `name_scores` are the contents of those files. `small` has thumbnails for the map by shard and
    key, and `curation_pages` titles by file name.
    """

    title: str
    k: Mapping[str, Any]
    partition: Mapping[str, Any]
    cards: Sequence[Card]
    rejected: Sequence[Rejected] = ()
    warnings: Sequence[str] = ()
    k_was_set: bool = False
    encoders: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    coding_length: Chart | None = None
    tree: Sequence[Node] = ()
    plane: Plane | None = None
    small: Mapping[tuple[str | None, str], bytes] = field(default_factory=dict)
    scores: Mapping[str, Any] | None = None
    name_scores: Mapping[str, Any] | None = None
    confusion: Confusion | None = None
    loss: Mapping[str, Sequence[float]] = field(default_factory=dict)
    steps: Sequence[Step] = ()
    settings: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    pictures_allowed: bool = True
    curation_pages: Mapping[str, str] = field(default_factory=dict)

    @property
    def images(self) -> int:
        return sum(card.size for card in self.cards)

    @property
    def unreadable(self) -> int:
        """The number of pictures that could not be read from the image shards."""
        pictures = (picture for card in self.cards for kind in card.members.values() for picture in kind)
        return self.pictures_allowed * sum(p.image_shard is not None and p.large is None for p in pictures)

    @property
    def paged(self) -> bool:
        return len(self.cards) > PAGED

    @property
    def largest(self) -> list[Card]:
        """The clusters on the main page, the largest first."""
        return sorted(self.cards, key=lambda card: (-card.size, card.cluster))[: html.LISTED]


def render(page: Page) -> str:
    """The HTML of the main page, smaller than 25 MB for any run: it shows fewer pictures if necessary."""
    cards = page.largest
    per_cluster = PER_CLUSTER * (1 if page.paged else 3)
    room = html.ROOM - len(page.settings) - per_cluster * len(cards)
    points = _points(page, room // 3)
    sizes = [card.size for card in cards]
    return fill(
        "report.html",
        page=page,
        cards=fit(cards, room - len(points), small=page.paged),
        points=Markup(points),  # noqa: S704 (script_json leaves no < in it)
        sizes=charts.cluster_sizes(sizes),
        median=statistics.median_high(sizes),
        losses=_loss_curves(page.loss),
    )


def _loss_curves(loss: Mapping[str, Sequence[float]]) -> list[Chart]:
    """A chart for each quantity of the loss record; none for the few steps of a record that is shown as a table."""
    if len(loss.get("loss", ())) < CURVE_STEPS:
        return []
    warmup = int(sum(loss["warmup"]))
    return [
        charts.loss_curve(loss[name], warmup, f"{title}: {loss[name][0]:.2f} → {loss[name][-1]:.2f}{unit}")
        for name, (title, unit) in LOSSES.items()
    ]


def pages(page: Page) -> Iterator[tuple[str, str]]:
    """File name and HTML of the pages with `ON_A_PAGE` clusters each; a run with few clusters has none."""
    by_number = sorted(page.cards, key=lambda card: card.cluster) if page.paged else []
    for start in range(0, len(by_number), html.ON_A_PAGE):
        cards = by_number[start : start + html.ON_A_PAGE]
        cards = fit(cards, html.ROOM - 3 * PER_CLUSTER * len(cards))
        last = start + html.ON_A_PAGE >= len(by_number)
        yield html.page_of(start).removeprefix("pages/"), fill("clusters.html", page=page, cards=cards, last=last)


def fit(cards: Sequence[Card], room: float, small: bool = False) -> list[Card]:
    """Cards with no more pictures than fit in `room` bytes: the first of every cluster, then the second, and so on.

    `small` takes the small pictures, and typical members alone.
    """
    kept: dict[int, dict[str, list[Picture]]] = {card.cluster: {} for card in cards}
    for cluster, kind, picture in _in_turn(cards, ("typical",) if small else ("typical", "borderline", "odd")):
        data = picture.small if small else picture.large
        room -= base64_size(data) + 2 * len(picture.alt) + 100
        if room < 0:
            break
        kept[cluster].setdefault(kind, []).append(replace(picture, data=data))
    return [replace(card, members=kept[card.cluster]) for card in cards]


def _in_turn(cards: Sequence[Card], kinds: Sequence[str]) -> Iterator[tuple[int, str, Picture]]:
    most = max((len(pictures) for card in cards for pictures in card.members.values()), default=0)
    for rank in range(most):
        for kind in kinds:
            for card in cards:
                if rank < len(card.members.get(kind, ())):
                    yield card.cluster, kind, card.members[kind][rank]


def _points(page: Page, room: float) -> str:
    """The map as JSON for the script, with as many pictures as fit."""
    if page.plane is None:
        return "null"
    plane, pictures = page.plane, []
    for place in plane.places:
        data = page.small.get(place)
        room -= base64_size(data)
        pictures.append(base64.b64encode(data).decode() if data and room > 0 else None)
    names = {card.cluster: card.title for card in page.cards}
    content = {
        "x": plane.x,
        "y": plane.y,
        "cluster": plane.cluster,
        "key": [key[:80] for _, key in plane.places],
        "picture": pictures,
        "centres": [{**centre._asdict(), "name": names.get(centre.cluster, "")[:40]} for centre in plane.centres],
    }
    return html.script_json(content)
