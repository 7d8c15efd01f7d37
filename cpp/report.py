"""The page of a run: one HTML file with everything in it, and pages beside it where there are many clusters.

Knows how to show, not where things come from. Names, keys, captions and settings are untrusted and escaped.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup

from cpp import figures
from cpp.cards import Card, Picture
from cpp.confusion import Confusion
from cpp.curve import LengthCurve, Node
from cpp.plane import Plane

PAGED = 500  # more clusters have their pictures on pages beside the page
LISTED = 5_000  # more clusters than that are not all on the page, but on the pages
ON_A_PAGE = 50  # clusters of a page beside the page
BYTES = 24_000_000  # of the page, at most
PER_CLUSTER = 1_500  # bytes of a cluster without its pictures, about; 3 times as many where there are no pages
BASE64 = 4 / 3
EXAMPLES = 8  # rejected images that are shown for each reason


@dataclass(frozen=True)
class Step:
    """What a step took: seconds of work over all its shards, and the rows that came in."""

    name: str
    seconds: float
    rows: int
    shards: int

    @property
    def rate(self) -> float | None:
        return self.rows / self.seconds if self.seconds > 0 and self.rows else None


@dataclass(frozen=True)
class Rejected:
    """Images that were rejected for one reason, with some of them."""

    reason: str
    count: int
    examples: Sequence[Picture] = ()


@dataclass(frozen=True)
class Page:
    """All that the page says. `scores` and `name_scores` are what the files of these names have, `loss` the columns of
    the loss record."""

    title: str
    summary: Sequence[str]
    cards: Sequence[Card]
    rejected: Sequence[Rejected] = ()
    warnings: Sequence[str] = ()
    choice: str = ""
    length: LengthCurve | None = None
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
    pictured: bool = True  # whether pictures may be shown
    unreadable: int = 0
    beside: Mapping[str, str] = field(default_factory=dict)  # pages of what curation found: file and title

    @property
    def images(self) -> int:
        return sum(card.size for card in self.cards)

    @property
    def paged(self) -> bool:
        return len(self.cards) > PAGED

    @property
    def largest(self) -> list[Card]:
        """Clusters that are listed, the largest first."""
        return sorted(self.cards, key=lambda card: (-card.size, card.cluster))[:LISTED]


def render(page: Page) -> str:
    """The HTML of the page, under `BYTES` whatever the run: it shows fewer pictures where they would be more."""
    cards = page.largest
    per_cluster = PER_CLUSTER * (1 if page.paged else 3)
    room = BYTES - 1_000_000 - len(page.settings) - per_cluster * len(cards)
    points = _points(page, room // 3)
    shown = fit(cards, room - len(points), small=page.paged)
    size = figures.sizes([card.size for card in page.largest])
    return fill("report.html", page=page, cards=shown, points=Markup(points), sizes=size)  # noqa: S704 (no < in it)


def pages(page: Page) -> Iterator[tuple[str, str]]:
    """Name and HTML of every page beside the page; none where there are few clusters."""
    by_number = sorted(page.cards, key=lambda card: card.cluster) if page.paged else []
    for start in range(0, len(by_number), ON_A_PAGE):
        some = by_number[start : start + ON_A_PAGE]
        shown = fit(some, BYTES - 1_000_000 - 3 * PER_CLUSTER * len(some))
        last = start + ON_A_PAGE >= len(by_number)
        yield beside(start).removeprefix("pages/"), fill("clusters.html", page=page, cards=shown, last=last)


def beside(cluster: int) -> str:
    """Where the page with a cluster is, from the page."""
    return f"pages/clusters-{cluster // ON_A_PAGE:05d}.html"


def fit(cards: Sequence[Card], room: float, small: bool = False) -> list[Card]:
    """Cards with no more pictures than fit in `room` bytes: the first of every cluster, then the second, ...

    `small` takes the small pictures, and typical members alone.
    """
    kept: dict[int, dict[str, list[Picture]]] = {card.cluster: {} for card in cards}
    for cluster, kind, picture in _in_turn(cards, ("typical",) if small else ("typical", "borderline", "odd")):
        data = picture.small if small else picture.large
        room -= BASE64 * len(data or b"") + 2 * len(picture.about) + 100
        if room < 0:
            break
        kept[cluster].setdefault(kind, []).append(replace(picture, data=data))
    return [replace(card, members=kept[card.cluster]) for card in cards]


def _in_turn(cards: Sequence[Card], kinds: Sequence[str]) -> Iterator[tuple[int, str, Picture]]:
    most = max((len(some) for card in cards for some in card.members.values()), default=0)
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
        room -= BASE64 * len(data or b"")
        pictures.append(base64.b64encode(data).decode() if data and room > 0 else None)
    names = {card.cluster: card.title for card in page.cards}
    said = {
        "x": plane.x,
        "y": plane.y,
        "cluster": plane.cluster,
        "key": [key[:80] for _, key in plane.places],
        "picture": pictures,
        "centres": [{**centre._asdict(), "name": names.get(centre.cluster, "")[:40]} for centre in plane.centres],
    }
    return _json(said)


def _json(value: Any) -> str:
    """JSON that may stand in a `<script>`, whatever is in it."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def fill(template: str, **values: Any) -> str:
    """A template of `cpp/page` with the page's style and script, and only that script allowed."""
    script, style = source("report.js"), source("report.css")
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    found = _templates().get_template(template)
    return found.render(**values, script=Markup(script), style=Markup(style), allowed=allowed)  # noqa: S704 (ours)


def drawing(name: str, *values: Any) -> str:
    """One of the page's figures as an SVG of its own, light, with its style in it."""
    macros: Any = _templates().get_template("figures.html").module
    style = source("plots.css")
    svg = str(getattr(macros, name)(*values)).strip()
    return svg.replace(">", f' xmlns="http://www.w3.org/2000/svg"><style>{style}</style>', 1)


def source(name: str) -> str:
    """The text of a file of `cpp/page`."""
    text, _, _ = _loader().get_source(_templates(), name)
    return text


@cache
def _loader() -> jinja2.PackageLoader:
    return jinja2.PackageLoader("cpp", "page")


@cache
def _templates() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=_loader(), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    made.filters |= {"count": "{:,}".format, "percent": percent, "seconds": seconds, "length": len}
    made.globals |= {"beside": beside, "figures": figures, "on_a_page": ON_A_PAGE, "listed": LISTED}
    return made


def percent(share: float) -> str:
    """A share in words: two digits, never a rounded 0 % or 100 %."""
    if share in (0.0, 1.0):
        return f"{share:.0%}".replace("%", "\u202f%")
    if share < 0.001 or share > 0.999:
        return "< 0.1\u202f%" if share < 0.5 else "> 99.9\u202f%"
    return f"{100 * share:.{1 if share < 0.1 or share > 0.99 else 0}f}\u202f%"


def seconds(value: float) -> str:
    """A time in words: `0.2 s`, `14 s`, `3 min 20 s`, `2 h 5 min`."""
    if value < 10:
        return f"{value:.1f}\u202fs"
    whole = round(value)
    if whole < 60:
        return f"{whole}\u202fs"
    if whole < 3600:
        return f"{whole // 60}\u202fmin {whole % 60}\u202fs"
    return f"{whole // 3600}\u202fh {whole % 3600 // 60}\u202fmin"


def how_partitioned(how: Mapping[str, Any]) -> str:
    """A sentence from the method of a partition and the silhouettes that chose it."""
    names = {"kmeans": "k-means", "spectral": "spectral clustering"}
    compared = " and ".join(f"{names[method]} {value:.3f}" for method, value in how["silhouettes"].items())
    said = f"Partition by {names[how['method']]}" + (f"; the silhouettes were {compared}." if compared else ".")
    if tried := how.get("candidates"):
        least = min(tried, key=tried.__getitem__)
        said += (
            f" Of {', '.join(map(str, tried))} clusters, each partitioned anew, {least} have the least coding length."
        )
    if others := how.get("compared"):
        said += f" For comparison, K by other measures: {', '.join(f'{name} {K}' for name, K in others.items())}."
    return said


def unreadable(cards: Iterable[Card]) -> int:
    """Pictures that were looked for and could not be shown."""
    every = (picture for card in cards for some in card.members.values() for picture in some)
    return sum(picture.image_shard is not None and picture.large is None for picture in every)
