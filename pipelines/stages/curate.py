"""The stages that curate: which images a balanced subset takes, lists of what is kept and dropped, and their sum."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cpp.clustering.choose_k import parents
from cpp.curation import balance, decisions
from cpp.curation.decisions import Reason
from cpp.curation.k_center import farthest_first
from cpp.files import tables
from cpp.files.tables import Counts
from cpp.files.top_rows import TopRows
from cpp.store.results import Product, shard_of
from pipelines.engine.stage import Context, Stage, Work
from pipelines.stages.artifacts import TreeFile, read_tree

SEEN = 2048  # images of a cluster that the most diverse are chosen from
HELD = 1 << 18  # such images whose codes are in memory at a time


class Rows(NamedTuple):
    """Some rows in a stream of all: the number of the first, and of each `[n]` its cluster of the finest layer, whether
    it stays, and what rows of a cluster are ordered by."""

    first: int
    cluster: NDArray[np.int64]
    stays: NDArray[np.bool_]
    confidence: NDArray[np.float64]
    score: NDArray[np.float64]
    lot: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Balance(Stage):
    """What stays of ASSIGNMENTS -> CHOSEN, the rows of every shard that are in a subset of `size`, and their shares.

    Its memory grows with `size`, by some forty bytes, and not with the images that there are.
    """

    version = 1
    products = (Product("chosen"), Product("shares"))
    each = ()
    whole = ("assignments", "codes", "labels", "outliers", "duplicates", "tree")
    size: int
    power: float
    by: decisions.By
    threshold: float | None
    seed: int

    def open(self, context: Context) -> Work:
        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            tree = read_tree(context)
            sizes, all_rows = np.zeros(tree.finest, np.int64), 0
            for rows in self._rows(context, tree):
                sizes += np.bincount(rows.cluster[rows.stays], minlength=tree.finest)
                all_rows += len(rows.cluster)
            finest = tree.clusters[tree.finest]
            coarser = [parents(finest, of) for K, of in tree.clusters.items() if tree.finest != K]
            taken = balance.down(coarser, sizes, self.size, self.power)
            chosen = (
                self._diverse(context, tree, sizes, taken)
                if self.by == "diversity"
                else self._first(context, tree, taken)
            )
            shards, starts = _shards(context)
            cuts = np.searchsorted(chosen, starts)
            of = [chosen[a:b] - start for a, b, start in zip(cuts[:-1], cuts[1:], starts[:-1], strict=True)]
            kind = pa.schema([("shard", pa.string()), ("rows", pa.list_(pa.int64()))])
            tables.write(pa.table({"shard": shards, "rows": of}, schema=kind), out["chosen"])
            tables.write(pa.table({"cluster": np.arange(tree.finest), "stay": sizes, "taken": taken}), out["shares"])
            n, asked = int(taken.sum()), f"{self.size:,}"
            said = f"{n:,} images" if n == self.size else f"all {n:,} images that stay, {asked} were asked for"
            print(f"balance: {said}, from {int((taken > 0).sum()):,} of {tree.finest:,} clusters", flush=True)
            return Counts(all_rows, all_rows)

        return work

    def _first(self, context: Context, tree: TreeFile, taken: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows that come first in their clusters, ascending: the surest, or those drawn by lot."""
        best = TopRows(taken, tree.finest)
        for rows in self._rows(context, tree, lots=True):
            at = np.flatnonzero(rows.stays)
            sure, score = (rows.confidence[at], rows.score[at])
            if self.by != "confidence":
                sure = score = np.zeros(len(at))
            best.add(rows.first + at, rows.cluster[at], sure, score, rows.lot[at])
        return best.rows()

    def _diverse(
        self, context: Context, tree: TreeFile, sizes: NDArray[np.int64], taken: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Rows far from each other, of `SEEN` of each cluster drawn by lot; all by lot where more are taken. Sorted."""
        apart = taken < np.minimum(sizes, SEEN)
        found = [self._first(context, tree, np.where(apart, 0, taken))]
        seen = np.where(apart & (taken > 0), np.minimum(sizes, SEEN), 0)
        part = np.cumsum(seen) // HELD
        for number in np.unique(part[seen > 0]).tolist():
            mine = np.where(part == number, seen, 0)
            drawn = self._first(context, tree, mine)
            found.append(drawn[_apart(context, tree, drawn, taken, self.seed)])
        return np.sort(np.concatenate(found))

    def _rows(self, context: Context, tree: TreeFile, lots: bool = False) -> Iterator[Rows]:
        """All rows in their order, with a column `lot` where it is wanted."""
        finest, first = tree.column(tree.finest), 0
        columns = {"assignments": [finest, "score", *(["key", "image_shard"] if lots else [])]}
        columns |= {"labels": ["confidence"], "outliers": ["outlier"], "duplicates": ["kept"]}
        there = [kind for kind in columns if kind in context.whole]
        streams = (tables.batches(context.whole[kind], columns[kind], context.prefetch) for kind in there)
        for parts in tables.align_batches(*streams):
            of = dict(zip(there, parts, strict=True))
            assigned, n = of["assignments"], len(parts[0])
            gone = leaving(of.get("duplicates"), of.get("outliers"), self.threshold)
            lot = np.zeros(n)
            if lots:
                lot = decisions.lots(self.seed, assigned["image_shard"].to_pylist(), assigned["key"].to_pylist())
            sure = np.full(n, np.nan)
            if "labels" in of:
                sure = of["labels"]["confidence"].to_numpy(zero_copy_only=False).astype(np.float64)
            yield Rows(
                first,
                assigned[finest].to_numpy().astype(np.int64),
                ~np.logical_or.reduce([np.zeros(n, np.bool_), *gone.values()]),
                sure,
                assigned["score"].to_numpy().astype(np.float64),
                lot,
            )
            first += n


def leaving(
    duplicates: pa.Table | pa.RecordBatch | None, outliers: pa.Table | pa.RecordBatch | None, threshold: float | None
) -> dict[Reason, NDArray[np.bool_]]:
    """Rows that leave before the balance, by reason, from what is known of them row for row."""
    return decisions.leaves(
        None if duplicates is None else ~np.asarray(duplicates["kept"].to_numpy(zero_copy_only=False), np.bool_),
        None if outliers is None else np.asarray(outliers["outlier"].to_numpy(zero_copy_only=False)),
        threshold,
    )


def _apart(
    context: Context, tree: TreeFile, drawn: NDArray[np.int64], taken: NDArray[np.int64], seed: int
) -> NDArray[np.int64]:
    """Of the rows `drawn`, ascending, those of each cluster that lie farthest from each other, as many as are taken."""
    streams = (
        tables.batches(context.whole["codes"], ["code"], context.prefetch),
        tables.batches(
            context.whole["assignments"], [tree.column(tree.finest), "key", "image_shard"], context.prefetch
        ),
    )
    first, parts = 0, list[tuple[NDArray[np.float16], NDArray[np.int64], NDArray[np.float64]]]()
    for codes, assigned in tables.align_batches(*streams):
        low, high = np.searchsorted(drawn, [first, first + len(codes)])
        if high > low:
            at = pa.array(drawn[low:high] - first)
            some = assigned.take(at)
            lot = decisions.lots(seed, some["image_shard"].to_pylist(), some["key"].to_pylist())
            cluster = some.column(0).to_numpy().astype(np.int64)
            parts.append((tables.matrix(codes.take(at)["code"]), cluster, lot))
        first += len(codes)
    Z, cluster, lot = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.lexsort((lot, cluster))  # the order of the files is not to matter
    ends = np.flatnonzero(np.diff(cluster[order])) + 1
    groups = np.split(order, ends)
    return np.concatenate([rows[farthest_first(Z[rows], int(taken[cluster[rows[0]]]))] for rows in groups])


def _shards(context: Context) -> tuple[list[str], NDArray[np.int64]]:
    """Names of the shards in order, and where the rows of each begin, and the last end."""
    paths = context.whole["assignments"]
    rows = [tables.read_counts(path)[1] for path in paths]
    return [shard_of(path) for path in paths], np.cumsum([0, *rows])


@dataclass(frozen=True, kw_only=True)
class Curate(Stage):
    """A shard of ASSIGNMENTS -> KEEP and DROP: every image is in one of the two, and what is dropped has its reason."""

    version = 1
    products = (Product("keep", rows="out"), Product("drop", rows="rejected"))
    each = ("assignments", "outliers", "duplicates")
    whole = ("chosen",)
    threshold: float | None

    def open(self, context: Context) -> Work:
        chosen: dict[str, NDArray[np.int64]] | None = None
        if "chosen" in context.whole:
            table = tables.read(context.file("chosen"))
            rows = table["rows"].combine_chunks()
            cuts, flat = rows.offsets.to_numpy(), rows.values.to_numpy()
            names = table["shard"].to_pylist()
            chosen = {name: flat[a:b] for name, a, b in zip(names, cuts[:-1], cuts[1:], strict=True)}

        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            table = tables.read(files["assignments"], columns=["key", "image_shard"])
            copies, odd = (
                tables.read(files[kind], columns=[column]) if kind in files else None
                for kind, column in (("duplicates", "kept"), ("outliers", "outlier"))
            )
            reasons = leaving(copies, odd, self.threshold)
            if chosen is not None:
                left = np.ones(len(table), np.bool_)
                left[chosen[shard_of(files["assignments"])]] = False
                gone = np.logical_or.reduce([np.zeros(len(table), np.bool_), *reasons.values()])
                reasons[Reason.BALANCE] = left & ~gone
            keep, drop = decisions.listed(table["key"], table["image_shard"], reasons)
            counts = Counts(len(table), len(keep), len(drop))
            tables.write(keep, out["keep"], counts)
            tables.write(drop, out["drop"], counts)
            return counts

        return work


@dataclass(frozen=True, kw_only=True)
class Summary(Stage):
    """KEEP and DROP of all shards -> `curation.json`: how many are kept, and how many dropped for each reason."""

    version = 1
    products = (Product("curation", ".json"),)
    each = ()
    whole = ("keep", "drop")
    asked: int | None

    def open(self, context: Context) -> Work:
        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            kept = sum(tables.read_counts(path)[1] for path in context.whole["keep"])
            dropped = Counter({reason.value: 0 for reason in Reason})
            for batch in tables.batches(context.whole["drop"], ["reason"], context.prefetch):
                dropped.update(batch["reason"].to_pylist())
            rows = kept + dropped.total()
            found = {"images": rows, "kept": kept, "asked": self.asked, "dropped": dict(dropped)}
            out["curation"].write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
            print(f"curation: {kept:,} of {rows:,} images are kept", flush=True)
            return Counts(rows, rows)

        return work
