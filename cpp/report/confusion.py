"""Counts of known classes in clusters, and what the page shows of them. No step of the run uses them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from cpp.report.cards import Share

DRAWN = 150  # a matrix with more clusters or classes is not drawn
LISTED = 15  # rows of a table
COUNTS = pa.schema([("cluster", pa.int32()), ("class", pa.string()), ("images", pa.int64())])


def count(batches: Iterable[pa.RecordBatch], column: str) -> pa.Table:
    """Images by cluster and class, from batches with `cluster` and the column of classes; null classes do not count.

    The rows of COUNTS are sorted by cluster, the most frequent class first.
    """
    parts = [
        pa.table({"cluster": batch["cluster"], "class": pc.cast(batch[column], pa.string())})
        .drop_null()
        .group_by(["cluster", "class"])
        .aggregate([([], "count_all")])
        .rename_columns(COUNTS.names)
        for batch in batches
    ]
    counts = pa.concat_tables([COUNTS.empty_table(), *parts]).group_by(["cluster", "class"])
    total = counts.aggregate([("images", "sum")]).rename_columns(COUNTS.names)
    return total.sort_by([("cluster", "ascending"), ("images", "descending"), ("class", "ascending")])


class Cell(NamedTuple):
    """The images of a class in a cluster, also as shares of both. `row` and `column` are its place in the matrix."""

    cluster: int
    name: str
    images: int
    of_class: float
    of_cluster: float
    row: int
    column: int


class Split(NamedTuple):
    """A class that is the main class of several clusters."""

    name: str
    images: int
    clusters: list[tuple[int, int]]  # number of the cluster, images of the class in it


class Confusion(NamedTuple):
    """A matrix with clusters as rows and classes as columns, in which a good clustering is a diagonal.

    `cells` is empty if the matrix is too large to be drawn. `mixed` has the cells with the most images whose class is
    not the main class of the cluster, which comes second. `spare` classes are the main class of no cluster.
    """

    n_clusters: int
    n_classes: int
    cells: list[Cell]
    mixed: list[tuple[Cell, str]]
    split: list[Split]
    spare: int


def confusion(rows: Sequence[Mapping[str, Any]]) -> Confusion:
    """The matrix from rows of `count`."""
    by_cluster, by_class = _totals(rows, "cluster"), _totals(rows, "class")
    main: dict[int, str] = {}
    for row in rows:
        main.setdefault(row["cluster"], row["class"])
    clusters_of: dict[str, list[int]] = {}
    for cluster, name in main.items():
        clusters_of.setdefault(name, []).append(cluster)
    ordered = sorted(by_class, key=lambda name: (name not in clusters_of, -by_class[name], name))
    column = {name: i for i, name in enumerate(ordered)}
    place = {k: i for i, k in enumerate(sorted(by_cluster, key=lambda k: (column[main[k]], -by_cluster[k], k)))}
    cells = []
    for row in rows:
        k, name, n = row["cluster"], row["class"], row["images"]
        of_class, of_cluster = n / by_class[name], n / by_cluster[k]
        cells.append(Cell(k, name, n, of_class, of_cluster, row=place[k], column=column[name]))
    mixed = sorted((c for c in cells if main[c.cluster] != c.name), key=lambda c: (-c.images, c.cluster))[:LISTED]
    images = {(c.cluster, c.name): c.images for c in cells}
    splits = [
        Split(name, by_class[name], sorted(((k, images[k, name]) for k in clusters), key=lambda pair: -pair[1]))
        for name, clusters in clusters_of.items()
        if len(clusters) > 1
    ]
    return Confusion(
        n_clusters=len(by_cluster),
        n_classes=len(by_class),
        cells=cells if max(len(by_cluster), len(by_class)) <= DRAWN else [],
        mixed=[(cell, main[cell.cluster]) for cell in mixed],
        split=sorted(splits, key=lambda split: (-len(split.clusters), -split.images))[:LISTED],
        spare=len(by_class) - len(clusters_of),
    )


def classes(rows: Sequence[Mapping[str, Any]]) -> dict[int, list[Share]]:
    """The classes of each cluster with their share of its images, the most frequent first."""
    totals, shares = _totals(rows, "cluster"), dict[int, list[Share]]()
    for row in rows:
        shares.setdefault(row["cluster"], []).append(Share(row["class"], row["images"] / totals[row["cluster"]]))
    return shares


def _totals(rows: Sequence[Mapping[str, Any]], column: str) -> Counter[Any]:
    """Images by cluster or by class."""
    totals = Counter[Any]()
    for row in rows:
        totals[row[column]] += row["images"]
    return totals
