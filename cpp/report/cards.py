"""A cluster as a person sees it: its name and how sure it is, evidence, members, what to be wary of.

Made from rows of `clusters.parquet`, of which any column but number, size and layer may be missing. Knows no HTML.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa
from PIL import Image

UNDECIDED = 0.2  # share of members with a small margin that is worth a warning
ALIKE = 0.9  # overlap with the nearest cluster, a cosine, that is
DISAGREE = 0.4  # share of members whose own word is the name, below which it is
FEW = 5  # images, below which it is
LONG = 1.8  # longer side over shorter of a picture that is shown whole, not cut to a square
WORDS = 5  # of evidence, of captions, of classes
WORTH = 0.01  # share of a word, or a class, that is worth a line


@dataclass(frozen=True)
class Picture:
    """One image. `data` is what is shown of it, WebP, None where there is nothing."""

    key: str
    image_shard: str | None = None
    caption: str | None = None
    score: float | None = None
    margin: float | None = None
    large: bytes | None = None
    small: bytes | None = None
    data: bytes | None = None

    @property
    def about(self) -> str:
        """What stands in its place, and is read aloud."""
        return self.caption or self.key

    @property
    def details(self) -> str:
        said = self.key if self.caption is None else f"{self.caption}\n{self.key}"
        if self.score is not None and self.margin is not None:
            said += f"\nsimilarity {self.score:.3f}, margin {self.margin:.3f}"
        return said

    @property
    def whole(self) -> bool:
        """Whether it is too long to be cut to a square and still be judged."""
        width, height = _size(self.data) if self.data else (1, 1)
        return max(width, height) > LONG * min(width, height)

    @property
    def uri(self) -> str | None:
        return None if self.data is None else "data:image/webp;base64," + base64.b64encode(self.data).decode()


def _size(data: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
        return image.size


class Share(NamedTuple):
    """A word with its part of a whole, 0 to 1."""

    word: str
    share: float


class Neighbour(NamedTuple):
    """The cluster that is most like another, and the cosine that says how much."""

    cluster: int
    title: str
    overlap: float


@dataclass(frozen=True)
class Card:
    """A cluster. `sure` is `confidence`, or where there is none the name's share of the votes; None without names."""

    cluster: int
    size: int
    part: float
    name: str | None
    guess: str | None = None
    unsure: bool = False
    sure: float | None = None
    calibrated: bool = False
    evidence: Sequence[Share] = ()
    captions: Sequence[str] = ()
    classes: Sequence[Share] = ()
    neighbour: Neighbour | None = None
    warnings: Sequence[str] = ()
    numbers: Mapping[str, str] = field(default_factory=dict)
    members: Mapping[str, Sequence[Picture]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return self.name or (f"{self.guess}?" if self.guess else f"cluster {self.cluster}")

    @property
    def words(self) -> str:
        """What a search looks at."""
        found = [self.title, f"#{self.cluster}", *(e.word for e in self.evidence), *self.captions]
        return " ".join(dict.fromkeys([*found, *(c.word for c in self.classes)])).casefold()[:400]


def cards(
    rows: Sequence[Mapping[str, Any]],
    members: Mapping[int, Mapping[str, Sequence[Picture]]],
    classes: Mapping[int, Sequence[Share]],
) -> list[Card]:
    """The clusters of one layer, in the order of `rows`; `members` by kind and `classes` by cluster number."""
    total = sum(row["size"] for row in rows)
    titles = {row["cluster"]: _named(row) for row in rows}
    found = []
    for row in rows:
        name, guess, unsure = titles[row["cluster"]]
        confidence = row.get("confidence")
        found.append(
            Card(
                cluster=row["cluster"],
                size=row["size"],
                part=row["size"] / max(total, 1),
                name=name,
                guess=guess,
                unsure=unsure,
                sure=confidence if confidence is not None else (row["share"] if row.get("top") else None),
                calibrated=confidence is not None,
                evidence=_worth(Share(entry["word"], entry["share"]) for entry in row.get("top") or []),
                captions=[entry["word"] for entry in (row.get("captions") or [])[:WORDS]],
                classes=_worth(classes.get(row["cluster"], ())),
                neighbour=_neighbour(row, titles),
                warnings=wary(row),
                numbers=dict(_numbers(row)),
                members=members.get(row["cluster"], {}),
            )
        )
    return found


def _worth(entries: Iterable[Share]) -> list[Share]:
    """The first of a list, and those after it that are worth a line."""
    return [entry for i, entry in enumerate(entries) if i == 0 or (i < WORDS and entry.share >= WORTH)]


def _named(row: Mapping[str, Any]) -> tuple[str | None, str | None, bool]:
    name, top = row.get("name"), row.get("top") or []
    return name, top[0]["word"] if top and not name else None, row.get("status") == "unsure"


def _neighbour(row: Mapping[str, Any], titles: Mapping[int, tuple[str | None, str | None, bool]]) -> Neighbour | None:
    other = row.get("nearest")
    if other is None or other not in titles:
        return None
    name, guess, _ = titles[other]
    return Neighbour(other, name or (f"{guess}?" if guess else f"cluster {other}"), row["overlap"])


def wary(row: Mapping[str, Any]) -> list[str]:
    """Sentences about what is doubtful in a cluster; none where nothing is."""
    said = []
    if row["size"] < FEW:
        said.append("No image is in it." if not row["size"] else f"It has only {row['size']} images.")
    if (undecided := row.get("small_margin")) is not None and undecided > UNDECIDED:
        said.append(f"{undecided:.0%} of its images could as well be of another cluster.")
    if (overlap := row.get("overlap")) is not None and overlap > ALIKE:
        said.append(f"It is nearly the same as cluster {row['nearest']} (cosine {overlap:.2f}).")
    if row.get("name") and (agree := row.get("agree")) is not None and agree < DISAGREE:
        said.append(f"Only {agree:.0%} of its images would choose its name themselves.")
    return said


def _numbers(row: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Measures of a cluster with their units, as far as they are known."""
    formats = {
        "confidence": ("confidence of the name", "{:.0%}"),
        "agree": ("members that agree with it", "{:.0%}"),
        "share": ("share of the votes", "{:.1%}"),
        "margin": ("lead over the runner-up", "{:.1%}"),
        "small_margin": ("images with a small margin", "{:.1%}"),
        "coding_rate": ("coding rate", "{:.1f} nats"),
        "effective_rank": ("effective rank", "{:.1f} directions"),
        "rate_share": ("part of the rate reduction", "{:.1%}"),
    }
    for column, (words, form) in formats.items():
        if row.get(column) is not None and (row.get("top") or column not in ("share", "margin")):
            yield words, form.format(row[column])


def members(
    examples: pa.Table, pictures: Mapping[tuple[str | None, str], Mapping[str, Any]]
) -> dict[int, dict[str, list[Picture]]]:
    """Members to show by cluster and kind, from EXAMPLES and rows of THUMBNAILS by shard and key."""
    found: dict[int, dict[str, list[Picture]]] = {}
    for row in sorted(examples.to_pylist(), key=lambda row: row["rank"]):
        made = pictures.get((row["image_shard"], row["key"]), {})
        known = {name: made.get(name) for name in ("caption", "large", "small")}
        picture = Picture(row["key"], row["image_shard"], score=row["score"], margin=row["margin"], **known)
        found.setdefault(row["cluster"], {}).setdefault(row["kind"], []).append(picture)
    return found
