"""The stages `decide` and `exclude`: what a person's decisions mean for the clusters and the images of this run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cpp.files import tables
from cpp.files.tables import Counts
from cpp.naming.decided import DECISIONS
from cpp.store.results import Product
from pipelines.config.decision_matching import Match, keys_of, match, refuse
from pipelines.config.decisions import CUTS, Entry, Round, entries_of
from pipelines.engine.stage import Context, Inputs, Outputs, Stage, Work
from pipelines.stages import artifacts

CLUSTER_DROPPED, NOT_MEMBER = "of a cluster that a decision drops", "not of its cluster, by a decision"
Labels = NDArray[np.int64]


class Decide(Stage):
    """Find the clusters of all decisions by their typical images, and record what each decision does.

    ValueError, naming the decisions, if clusters are not found, or if two clusters get one name.
    """

    version = 1
    products = (Product("decisions"),)
    whole = ("decision_files", "codes", "groups", "tree")

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        from cpp.nearest import Nearest

        rounds: Sequence[Round] = context.value("decision_files")
        tree, nearest = artifacts.read_tree(context), Nearest(artifacts.read_groups(context).centroids)
        keys = keys_of(entry for one in rounds for entry in entries_of(one))
        codes = tables.vectors_of_keys(context.whole["codes"], "code", keys, context.prefetch)
        places = {key: nearest(Z, context.batch).group.tolist() for key, Z in codes.items()}
        rows, n_cut = list[dict[str, Any]](), 0
        for one in rounds:
            entries, before = list(entries_of(one)), tree.rounds[n_cut]
            for entry, clusters in zip(entries, match(entries, places, before), strict=True):
                rows.append(_row(entry, clusters, before, tree.rounds[-1], places))
            n_cut += any(entry.decision.action in CUTS for entry in entries)
        _overrule(rows)
        refuse(list(_same_names(rows)))
        tables.write(pa.Table.from_pylist(rows, DECISIONS), out["decisions"])
        return Counts(len(rows), len(rows))


def _row(
    entry: Entry, clusters: Sequence[Match], before: Labels, after: Labels, places: dict[str, list[int]]
) -> dict[str, Any]:
    """The row of a decision in DECISIONS. `before` and `after` `[F]` are clusters before the round and now."""
    decision = entry.decision
    parts = np.unique(after[np.isin(before, [one.now for one in clusters])]).tolist()
    if decision.action in ("rename", "not_member") or (decision.action == "merge" and decision.name):
        members = after[[group for one in clusters for group in one.groups]]
        parts = [int(np.bincount(members).argmax())]
    images, applied = decision.images, True
    effect = {
        "rename": f"cluster {parts[0]} is named {decision.name!r}",
        "merge": f"one cluster, {parts[0]}" + (f", named {decision.name!r}" if decision.name else ""),
        "split": f"clusters {' and '.join(map(str, parts))}",
        "drop": f"{_clusters(parts)} dropped",
        "tag": f"{_clusters(parts)} tagged {decision.tag!r}",
    }
    if decision.action == "not_member":
        images = [key for key in images if parts[0] in after[places.get(key, [])]]
        applied = bool(images)
        effect["not_member"] = f"{len(images):,} of {len(decision.images):,} images excluded from cluster {parts[0]}"
    if decision.action == "merge" and len({one.now for one in clusters}) == 1:
        effect["merge"] = f"no effect: cluster {parts[0]} has all of them already"
    values = decision.model_dump(include={"action", "name", "tag", "reason", "date", "by"})
    first = decision.clusters[0]
    place = {"file": entry.file, "number": entry.number, "cluster": first.cluster, "title": first.title}
    return {
        **place,
        **values,
        "images": images,
        "clusters": parts,
        "applied": applied,
        "effect": effect[decision.action],
    }


def _clusters(numbers: Sequence[int]) -> str:
    return f"cluster {numbers[0]} is" if len(numbers) == 1 else f"clusters {', '.join(map(str, numbers))} are"


def _overrule(rows: Sequence[dict[str, Any]]) -> None:
    """Mark the names that later decisions replace, and the drops of clusters that later decisions merge."""
    named, merged = dict[int, dict[str, Any]](), dict[int, dict[str, Any]]()  # by cluster, the next decision
    for row in reversed(rows):
        later = {"rename": named, "drop": merged}.get(row["action"], {})
        if overruling := next((later[k] for k in row["clusters"] if k in later), None):
            row["applied"] = False
            row["effect"] = f"replaced by decision {overruling['number']} of {overruling['file']}"
        named |= dict.fromkeys(row["clusters"], row) if row["name"] else {}
        merged |= dict.fromkeys(row["clusters"], row) if row["action"] == "merge" else {}


def _same_names(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """A sentence for each two clusters with one name."""
    last = {row["clusters"][0]: row for row in rows if row["name"] and row["applied"]}
    first: dict[str, dict[str, Any]] = {}
    for row in last.values():
        other = first.setdefault(row["name"], row)
        if other is not row:
            places = " and ".join(f"{each['file']}, decision {each['number']}" for each in (other, row))
            yield f"{places}: two clusters get the name {row['name']!r}: merge them, or change one of the names"


class Exclude(Stage):
    """Add to ASSIGNMENTS why a decision excludes an image: its cluster is dropped, or it is not of its cluster."""

    version = 1
    products = (Product("assignments", rows="out"),)
    each = ("assignments",)
    whole = ("decisions",)

    def open(self, context: Context) -> Work:
        rows = [row for row in tables.read(context.file("decisions")).to_pylist() if row["applied"]]
        dropped = [k for row in rows if row["action"] == "drop" for k in row["clusters"]]
        strangers = {
            (key, k) for row in rows if row["action"] == "not_member" for k in row["clusters"] for key in row["images"]
        }

        def work(files: Inputs, out: Outputs) -> Counts:
            table = tables.read(files["assignments"])
            metadata = tables.read_schema(files["assignments"]).metadata or {}
            cluster = table["cluster"].to_numpy()
            excluded = np.full(len(table), None, object)
            excluded[np.isin(cluster, dropped)] = CLUSTER_DROPPED
            places = zip(table["key"].to_pylist(), cluster.tolist(), strict=True)
            excluded[[place in strangers for place in places]] = NOT_MEMBER
            counts = Counts(len(table), len(table))
            at = table.column_names.index("margin") + 1
            table = table.add_column(at, tables.EXCLUDED, pa.array(excluded, pa.string()))
            footer = {key.decode(): value.decode() for key, value in metadata.items() if key.startswith(b"cpp.")}
            tables.write(table, out["assignments"], counts, footer)
            return counts

        return work
