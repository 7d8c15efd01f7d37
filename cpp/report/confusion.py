"""Which classes are in which clusters, where classes are known: counts, and what to say of them. Decides nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from cpp.report.cards import Share

DRAWN = 150  # clusters and classes that a drawing has room for
TOLD = 15  # rows of a table


def count(batches: Iterable[pa.RecordBatch], column: str) -> pa.Table:
    """Images by cluster and class, from batches with a `cluster` and the column of classes; null classes do not count.

    Columns cluster: int32, class: string, images: int64; by cluster, the most frequent class first.
    """
    parts = [
        pa.table({"cluster": batch["cluster"], "class": pc.cast(batch[column], pa.string())})
        .drop_null()
        .group_by(["cluster", "class"])
        .aggregate([([], "count_all")])
        for batch in batches
    ]
    empty = pa.table({"cluster": pa.array([], pa.int32()), "class": pa.array([], pa.string())})
    counted = pa.concat_tables(parts or [empty.append_column("count_all", pa.array([], pa.int64()))])
    total = (
        counted.group_by(["cluster", "class"])
        .aggregate([("count_all", "sum")])
        .rename_columns(["cluster", "class", "images"])
    )
    return total.sort_by([("cluster", "ascending"), ("images", "descending"), ("class", "ascending")])


class Cell(NamedTuple):
    """Images of a class in a cluster, as parts of both. `row` and `column` are places in the drawing."""

    cluster: int
    name: str
    images: int
    of_class: float
    of_cluster: float
    row: int
    column: int


class Split(NamedTuple):
    """A class that is the main one of several clusters."""

    name: str
    images: int
    clusters: list[tuple[int, int]]  # number, images of the class in it


class Confusion(NamedTuple):
    """`cells` in a drawing with clusters as rows and classes as columns, in which a good clustering is a diagonal.

    `mixed` are the most images of a class in a cluster of another; `split` classes of several clusters. `cells` is
    empty where there is no room.
    """

    n_clusters: int
    n_classes: int
    cells: list[Cell]
    mixed: list[tuple[Cell, str]]  # with the main class of the cluster
    split: list[Split]
    spare: int  # classes that are the main one of no cluster


def confusion(rows: Sequence[Mapping[str, Any]]) -> Confusion:
    """From rows of `count`."""
    by_cluster: dict[int, int] = {}
    by_class: dict[str, int] = {}
    main: dict[int, str] = {}
    for row in rows:
        by_cluster[row["cluster"]] = by_cluster.get(row["cluster"], 0) + row["images"]
        by_class[row["class"]] = by_class.get(row["class"], 0) + row["images"]
        main.setdefault(row["cluster"], row["class"])
    mine: dict[str, list[int]] = {}
    for cluster, name in main.items():
        mine.setdefault(name, []).append(cluster)
    ordered = sorted(by_class, key=lambda name: (name not in mine, -by_class[name], name))
    column = {name: i for i, name in enumerate(ordered)}
    place = {k: i for i, k in enumerate(sorted(by_cluster, key=lambda k: (column[main[k]], -by_cluster[k], k)))}
    cells = [
        Cell(
            row["cluster"],
            row["class"],
            row["images"],
            row["images"] / by_class[row["class"]],
            row["images"] / by_cluster[row["cluster"]],
            place[row["cluster"]],
            column[row["class"]],
        )
        for row in rows
    ]
    mixed = sorted((c for c in cells if main[c.cluster] != c.name), key=lambda c: (-c.images, c.cluster))[:TOLD]
    there = {(c.cluster, c.name): c.images for c in cells}
    splits = [
        Split(name, by_class[name], sorted(((k, there[k, name]) for k in some), key=lambda pair: -pair[1]))
        for name, some in mine.items()
        if len(some) > 1
    ]
    return Confusion(
        len(by_cluster),
        len(by_class),
        cells if max(len(by_cluster), len(by_class)) <= DRAWN else [],
        [(cell, main[cell.cluster]) for cell in mixed],
        sorted(splits, key=lambda split: (-len(split.clusters), -split.images))[:TOLD],
        len(by_class) - len(mine),
    )


def classes(rows: Sequence[Mapping[str, Any]]) -> dict[int, list[Share]]:
    """The classes of each cluster with their part of its images, the most frequent first."""
    totals: dict[int, int] = {}
    for row in rows:
        totals[row["cluster"]] = totals.get(row["cluster"], 0) + row["images"]
    found: dict[int, list[Share]] = {}
    for row in rows:
        found.setdefault(row["cluster"], []).append(Share(row["class"], row["images"] / totals[row["cluster"]]))
    return found
