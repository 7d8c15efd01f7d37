"""Clusters as a page shows them: title, confidence, evidence, members and warnings.

The input is rows of `clusters.parquet`, in which every column except number, size and layer may be missing. This module
knows no HTML.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa
from PIL import Image

from cpp.files.quantities import format_percent
from cpp.naming import titles

# A cluster gets a warning if it has
MANY_UNDECIDED = 0.2  # a larger share of members with a small margin
ALIKE = 0.9  # a larger cosine with the nearest cluster
DISAGREE = 0.4  # a smaller share of members whose own best word is its name
FEW = 5  # fewer images
LONG = 1.8  # a picture is shown whole, not cropped to a square, if the ratio of its sides is larger
WORDS = 5  # words, words of captions and classes on a card, at most
LEAST_SHARE = 0.01  # of a word or class on a card


@dataclass(frozen=True)
class Picture:
    """One image. `large` and `small` are its thumbnails as WebP, and `data` the one that a page shows, if any."""

    key: str
    image_shard: str | None = None
    caption: str | None = None
    score: float | None = None
    margin: float | None = None
    large: bytes | None = None
    small: bytes | None = None
    data: bytes | None = None

    @property
    def alt(self) -> str:
        """The text alternative of the picture."""
        return self.caption or self.key

    @property
    def details(self) -> str:
        lines = [self.key] if self.caption is None else [self.caption, self.key]
        if self.score is not None and self.margin is not None:
            lines.append(f"similarity {self.score:.3f}, margin {self.margin:.3f}")
        return "\n".join(lines)

    @property
    def whole(self) -> bool:
        """Whether the picture is too long to be recognized when it is cropped to a square."""
        if not self.data:
            return False
        with Image.open(io.BytesIO(self.data), formats=["WEBP"]) as image:
            return max(image.size) > LONG * min(image.size)

    @property
    def uri(self) -> str | None:
        return None if self.data is None else "data:image/webp;base64," + base64.b64encode(self.data).decode()


class Share(NamedTuple):
    """A word or class with its share of a cluster, 0 to 1."""

    word: str
    share: float


class Neighbour(NamedTuple):
    """The most similar other cluster, and its cosine."""

    cluster: int
    title: str
    overlap: float


@dataclass(frozen=True)
class Card:
    """A cluster. `sure` is the `calibrated` confidence or else the name's share of the votes; None without names.

    `row` is its row of `clusters.parquet`.
    """

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
    row: Mapping[str, Any] = field(default_factory=dict)
    members: Mapping[str, Sequence[Picture]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return titles.title(self.name, self.guess, f"cluster {self.cluster}")

    @property
    def words(self) -> str:
        """The text that the search box matches."""
        words = [self.title, f"#{self.cluster}", *(e.word for e in self.evidence), *self.captions]
        return " ".join(dict.fromkeys([*words, *(c.word for c in self.classes)])).casefold()[:400]


def cards(
    rows: Sequence[Mapping[str, Any]],
    members: Mapping[int, Mapping[str, Sequence[Picture]]],
    classes: Mapping[int, Sequence[Share]],
) -> list[Card]:
    """The clusters of one layer, in the order of `rows`; `members` by kind and `classes` by cluster number."""
    total = sum(row["size"] for row in rows)
    by_number = {row["cluster"]: row for row in rows}
    result = []
    for row in rows:
        k, confidence, name = row["cluster"], row.get("confidence"), row.get("name")
        result.append(
            Card(
                cluster=k,
                size=row["size"],
                part=row["size"] / max(total, 1),
                name=name,
                guess=None if name else titles.best_word(row),
                unsure=row.get("status") == "unsure",
                sure=confidence if confidence is not None else (row.get("share") if row.get("top") else None),
                calibrated=confidence is not None,
                evidence=_shown(Share(word["word"], word["share"]) for word in row.get("top") or []),
                captions=[word["word"] for word in (row.get("captions") or [])[:WORDS]],
                classes=_shown(classes.get(k, ())),
                neighbour=_neighbour(row, by_number.get(row.get("nearest"))),
                warnings=warnings(row),
                row=row,
                members=members.get(k, {}),
            )
        )
    return result


def _neighbour(row: Mapping[str, Any], nearest: Mapping[str, Any] | None) -> Neighbour | None:
    return Neighbour(nearest["cluster"], titles.row_title(nearest), row["overlap"]) if nearest else None


def _shown(entries: Iterable[Share]) -> list[Share]:
    """The first entry, and the following ones with at least `LEAST_SHARE`."""
    return [entry for i, entry in enumerate(entries) if i == 0 or (i < WORDS and entry.share >= LEAST_SHARE)]


def warnings(row: Mapping[str, Any]) -> list[str]:
    """Sentences about weaknesses of a cluster."""
    sentences = []
    if row["size"] < FEW:
        images = f"only {row['size']} image{'s' * (row['size'] > 1)}" if row["size"] else "no images"
        sentences.append(f"The cluster has {images}.")
    if (undecided := row.get("small_margin")) is not None and undecided > MANY_UNDECIDED:
        sentences.append(f"{format_percent(undecided)} of its images are almost as close to another cluster.")
    if (overlap := row.get("overlap")) is not None and overlap > ALIKE:
        sentences.append(f"It is nearly the same as cluster {row['nearest']} (cosine {overlap:.2f}).")
    if row.get("name") and (agree := row.get("agree")) is not None and agree < DISAGREE:
        sentences.append(f"The name is the best word for only {format_percent(agree)} of its images.")
    return sentences


def members(
    examples: pa.Table, thumbnails: Mapping[tuple[str | None, str], Mapping[str, Any]]
) -> dict[int, dict[str, list[Picture]]]:
    """The members that are shown, by cluster and kind, from EXAMPLES and rows of THUMBNAILS by shard and key."""
    result: dict[int, dict[str, list[Picture]]] = {}
    for row in sorted(examples.to_pylist(), key=lambda row: row["rank"]):
        thumbnail = thumbnails.get((row["image_shard"], row["key"]), {})
        details = {name: thumbnail.get(name) for name in ("caption", "large", "small")}
        picture = Picture(row["key"], row["image_shard"], score=row["score"], margin=row["margin"], **details)
        result.setdefault(row["cluster"], {}).setdefault(row["kind"], []).append(picture)
    return result
