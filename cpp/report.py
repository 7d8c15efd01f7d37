"""The page of a run: one HTML file with everything in it. Knows how to show, not where things come from."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jinja2
import numpy as np

from cpp.curve import LengthCurve, Node
from cpp.images import thumbnail
from cpp.sources import find_images
from cpp.tables import Least, batches

TYPICAL, BORDERLINE = 12, 6  # pictures of a cluster, fewer where there are many clusters; see report.css
THUMBNAIL = 128  # pixels of the longer side
PICTURES = 3600  # of all clusters together, about 5 kB each: keeps the page under 25 MB

_TEMPLATE = jinja2.Environment(
    loader=jinja2.PackageLoader("cpp", "."),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)


class Member(NamedTuple):
    """One image of a cluster. `picture` is a JPEG, None where it could not be read or the run has no images."""

    key: str
    score: float
    margin: float
    image_shard: str | None
    picture: bytes | None = None

    @property
    def data_uri(self) -> str | None:
        return None if self.picture is None else "data:image/jpeg;base64," + base64.b64encode(self.picture).decode()


@dataclass(frozen=True)
class Curve:
    """A named series for the loss figure; missing values (NaN) are left out."""

    name: str
    unit: str
    values: Sequence[float]

    def points(self, width: int, height: int) -> str:
        """SVG polyline points: the series scaled to fill `width` x `height`."""
        y = np.asarray(self.values, np.float64)
        x = np.arange(len(y))[np.isfinite(y)]
        y = y[np.isfinite(y)]
        if not len(y):
            return ""
        spread = max(float(np.ptp(y)), 1e-12)
        X = x / max(len(self.values) - 1, 1) * width
        Y = height - (y - y.min()) / spread * height
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(X, Y, strict=True))


class Members(NamedTuple):
    """Example images of one cluster."""

    typical: Sequence[Member]
    borderline: Sequence[Member]


@dataclass(frozen=True)
class Page:
    """All that the page says. `clusters` are rows of `clusters.parquet`, `scores` the content of `scores.json`."""

    title: str
    rejected: Mapping[str, int]
    clusters: Sequence[Mapping[str, Any]]
    members: Mapping[int, Members]
    curves: Sequence[Curve]
    warmup_steps: int
    seconds: Mapping[str, float]
    settings: str
    versions: Mapping[str, str]
    scores: Mapping[str, Any] | None
    partition: str = ""
    choice: str = ""
    warnings: Sequence[str] = ()
    length: LengthCurve | None = None
    tree: Sequence[Node] = ()

    @property
    def images(self) -> int:
        return sum(cluster["size"] for cluster in self.clusters)

    @property
    def unreadable(self) -> int:
        """Pictures that were looked for and could not be shown."""
        every = [m for group in self.members.values() for part in group for m in part]
        return sum(m.image_shard is not None and m.picture is None for m in every)


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


def render(page: Page) -> str:
    """The HTML of a page. Names, keys and settings are escaped: they are untrusted."""
    style = _TEMPLATE.get_template("report.css").render()
    return _TEMPLATE.get_template("report.html").render(page=page, style=style)


def members(assignments: Sequence[str], prefetch: int, n_clusters: int) -> dict[int, Members]:
    """Typical (highest score) and borderline (least margin) images of each cluster, with their pictures.

    One pass over the ASSIGNMENTS files, then one over each shard of images that holds a picture that is shown.
    """
    share = min(1.0, PICTURES / ((TYPICAL + BORDERLINE) * max(n_clusters, 1)))
    typical, borderline = Least(max(1, int(TYPICAL * share))), Least(int(BORDERLINE * share))
    for batch in batches(assignments, ["cluster", "score", "margin", "key", "image_shard"], prefetch):
        typical.add(-batch["score"].to_numpy(), batch)
        borderline.add(batch["margin"].to_numpy(), batch)
    rows = {"typical": typical.rows(), "borderline": borderline.rows()}
    wanted: dict[str, set[str]] = {}
    for row in [*rows["typical"], *rows["borderline"]]:
        if row["image_shard"] is not None:
            wanted.setdefault(row["image_shard"], set()).add(row["key"])
    pictures = {
        (shard, key): thumbnail(data, THUMBNAIL)
        for shard, keys in sorted(wanted.items())
        for key, data in find_images(shard, keys)
    }
    result: dict[int, Members] = {}
    for kind, part in rows.items():
        for row in part:
            member = Member(
                **{f: row[f] for f in Member._fields[:4]}, picture=pictures.get((row["image_shard"], row["key"]))
            )
            group = result.setdefault(row["cluster"], Members([], []))
            getattr(group, kind).append(member)
    return result
