"""Counts of known classes in clusters, and what the page shows of them. No step of the run uses them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

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


def classes(rows: Sequence[Mapping[str, Any]]) -> dict[int, list[tuple[str, float]]]:
    """The classes of each cluster with their share of its images, the most frequent first, from rows of `count`."""
    totals, shares = _totals(rows, "cluster"), dict[int, list[tuple[str, float]]]()
    for row in rows:
        shares.setdefault(row["cluster"], []).append((row["class"], row["images"] / totals[row["cluster"]]))
    return shares


def confusion(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The matrix with clusters as rows and classes as columns, from rows of `count`. A good clustering is a diagonal.

    `n_clusters` and `n_classes`; `cells`, the rows with their place in the matrix (`row`, `column`), their shares
    `of_cluster` and `of_class`, and the most frequent class `main` of the cluster; empty if the matrix is too large to
    be drawn. `mixed` are the largest cells of other classes than the main one, `split` the classes that are main in
    several clusters, with these, and `spare` is the number of classes that are main in none.
    """
    by_cluster, by_class = _totals(rows, "cluster"), _totals(rows, "class")
    main: dict[int, str] = {}
    clusters: dict[str, list[tuple[int, int]]] = {}  # cluster and images by main class
    for row in rows:
        if row["cluster"] not in main:
            main[row["cluster"]] = row["class"]
            clusters.setdefault(row["class"], []).append((row["cluster"], row["images"]))
    order = sorted(by_class, key=lambda name: (name not in clusters, -by_class[name], name))
    column = {name: i for i, name in enumerate(order)}
    place = {k: i for i, k in enumerate(sorted(by_cluster, key=lambda k: (column[main[k]], -by_cluster[k], k)))}
    cells = [
        {
            **row,
            "main": main[row["cluster"]],
            "of_cluster": row["images"] / by_cluster[row["cluster"]],
            "of_class": row["images"] / by_class[row["class"]],
            "row": place[row["cluster"]],
            "column": column[row["class"]],
        }
        for row in rows
    ]
    mixed = [cell for cell in cells if cell["class"] != cell["main"]]
    split: list[dict[str, Any]] = [
        {"class": name, "images": by_class[name], "clusters": sorted(of_class, key=lambda pair: -pair[1])}
        for name, of_class in clusters.items()
        if len(of_class) > 1
    ]
    return {
        "n_clusters": len(by_cluster),
        "n_classes": len(by_class),
        "cells": cells if max(len(by_cluster), len(by_class)) <= DRAWN else [],
        "mixed": sorted(mixed, key=lambda cell: (-cell["images"], cell["cluster"]))[:LISTED],
        "split": sorted(split, key=lambda row: (-len(row["clusters"]), -row["images"]))[:LISTED],
        "spare": len(by_class) - len(clusters),
    }


def _totals(rows: Sequence[Mapping[str, Any]], column: str) -> Counter[Any]:
    """Images by cluster or by class."""
    totals = Counter[Any]()
    for row in rows:
        totals[row[column]] += row["images"]
    return totals
