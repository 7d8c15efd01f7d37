"""The stages of curation: a balanced subset, the lists of kept and dropped images, and their counts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
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
from pipelines.engine.stage import Context, Inputs, Outputs, Stage, Work
from pipelines.stages.artifacts import TreeFile, read_tree

CANDIDATES = 2048  # images of a cluster among which diverse ones are chosen
HELD = 1 << 18  # candidates whose codes are in memory at a time


class Rows(NamedTuple):
    """A block of rows: the number of the first, and for each row `[n]` its cluster in the finest layer, whether it
    stays, and the values that rows of a cluster are ordered by."""

    first: int
    cluster: NDArray[np.int64]
    stays: NDArray[np.bool_]
    confidence: NDArray[np.float64]
    score: NDArray[np.float64]
    lot: NDArray[np.float64]


class Balance(Stage):
    """Choose a balanced subset of `size` rows among those that stay, and what each cluster contributes.

    Memory grows with `size`, by some forty bytes a row, and not with the number of images.
    """

    version = 1
    products = (Product("chosen"), Product("shares"))
    whole = ("assignments", "codes", "labels", "outliers", "duplicates", "tree")
    size: int
    power: float
    by: decisions.By
    threshold: float | None
    seed: int

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        tree = read_tree(context)
        sizes, all_rows = np.zeros(tree.finest, np.int64), 0
        for rows in self._rows(context, tree):
            sizes += np.bincount(rows.cluster[rows.stays], minlength=tree.finest)
            all_rows += len(rows.cluster)
        finest = tree.clusters[tree.finest]
        coarser = [parents(finest, cluster) for K, cluster in tree.clusters.items() if tree.finest != K]
        taken = balance.hierarchical_shares(coarser, sizes, self.size, self.power)
        chosen = (
            self._diverse(context, tree, sizes, taken) if self.by == "diversity" else self._first(context, tree, taken)
        )
        shards, starts = _shards(context)
        cuts = np.searchsorted(chosen, starts)
        rows_by_shard = [chosen[a:b] - start for a, b, start in zip(cuts[:-1], cuts[1:], starts[:-1], strict=True)]
        schema = pa.schema([("shard", pa.string()), ("rows", pa.list_(pa.int64()))])
        tables.write(pa.table({"shard": shards, "rows": rows_by_shard}, schema=schema), out["chosen"])
        tables.write(pa.table({"cluster": np.arange(tree.finest), "stay": sizes, "taken": taken}), out["shares"])
        n = int(taken.sum())
        which = f"{n:,} images" if n == self.size else f"all {n:,} remaining images (curate.size is {self.size:,})"
        clusters = f"{int((taken > 0).sum()):,} of {tree.finest:,} clusters"
        print(f"balance: the subset has {which} from {clusters}", flush=True)
        return Counts(all_rows, all_rows)

    def _first(self, context: Context, tree: TreeFile, taken: NDArray[np.int64]) -> NDArray[np.int64]:
        """The first rows of each cluster, in ascending order: by confidence, or by random draw."""
        best = TopRows(taken, tree.finest)
        for rows in self._rows(context, tree, lots=True):
            staying = np.flatnonzero(rows.stays)
            confidence, score = rows.confidence[staying], rows.score[staying]
            if self.by != "confidence":
                confidence = score = np.zeros(len(staying))
            best.add(rows.first + staying, rows.cluster[staying], confidence, score, rows.lot[staying])
        return best.rows()

    def _diverse(
        self, context: Context, tree: TreeFile, sizes: NDArray[np.int64], taken: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Rows that lie far apart among `CANDIDATES` of each cluster; a random draw if more are taken. Sorted."""
        diverse = taken < np.minimum(sizes, CANDIDATES)
        selected = [self._first(context, tree, np.where(diverse, 0, taken))]
        candidates = np.where(diverse & (taken > 0), np.minimum(sizes, CANDIDATES), 0)
        block = np.cumsum(candidates) // HELD
        for number in np.unique(block[candidates > 0]).tolist():
            drawn = self._first(context, tree, np.where(block == number, candidates, 0))
            selected.append(drawn[_far_apart(context, tree, drawn, taken, self.seed)])
        return np.sort(np.concatenate(selected))

    def _rows(self, context: Context, tree: TreeFile, lots: bool = False) -> Iterator[Rows]:
        """All rows in their order; `lots` adds the random draw."""
        finest, first = tree.column(tree.finest), 0
        columns = {"assignments": [finest, "score", *(["key", "image_shard"] if lots else [])]}
        columns |= {"labels": ["confidence"], "outliers": ["outlier"], "duplicates": ["kept"]}
        available = [kind for kind in columns if kind in context.whole]
        streams = (tables.batches(context.whole[kind], columns[kind], context.prefetch) for kind in available)
        for parts in tables.align_batches(*streams):
            tables_by_kind = dict(zip(available, parts, strict=True))
            assigned, n = tables_by_kind["assignments"], len(parts[0])
            gone = leaving(tables_by_kind.get("duplicates"), tables_by_kind.get("outliers"), self.threshold)
            lot = np.zeros(n)
            if lots:
                lot = decisions.random_ranks(
                    self.seed, assigned["image_shard"].to_pylist(), assigned["key"].to_pylist()
                )
            confidence = np.full(n, np.nan)
            if "labels" in tables_by_kind:
                labels = tables_by_kind["labels"]
                confidence = labels["confidence"].to_numpy(zero_copy_only=False).astype(np.float64)
            yield Rows(
                first,
                assigned[finest].to_numpy().astype(np.int64),
                ~np.logical_or.reduce([np.zeros(n, np.bool_), *gone.values()]),
                confidence,
                assigned["score"].to_numpy().astype(np.float64),
                lot,
            )
            first += n


def leaving(
    duplicates: pa.Table | pa.RecordBatch | None, outliers: pa.Table | pa.RecordBatch | None, threshold: float | None
) -> dict[Reason, NDArray[np.bool_]]:
    """Rows that leave before the balance, by reason, from the tables of duplicates and outliers row for row."""
    return decisions.removals(
        None if duplicates is None else ~np.asarray(duplicates["kept"].to_numpy(zero_copy_only=False), np.bool_),
        None if outliers is None else np.asarray(outliers["outlier"].to_numpy(zero_copy_only=False)),
        threshold,
    )


def _far_apart(
    context: Context, tree: TreeFile, drawn: NDArray[np.int64], taken: NDArray[np.int64], seed: int
) -> NDArray[np.int64]:
    """Of the ascending rows `drawn`, those of each cluster that lie farthest apart, as many as are taken."""
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
            index = pa.array(drawn[low:high] - first)
            taken_rows = assigned.take(index)
            lot = decisions.random_ranks(seed, taken_rows["image_shard"].to_pylist(), taken_rows["key"].to_pylist())
            cluster = taken_rows.column(0).to_numpy().astype(np.int64)
            parts.append((tables.matrix(codes.take(index)["code"]), cluster, lot))
        first += len(codes)
    Z, cluster, lot = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.lexsort((lot, cluster))  # the order of the files must not matter
    ends = np.flatnonzero(np.diff(cluster[order])) + 1
    groups = np.split(order, ends)
    return np.concatenate([rows[farthest_first(Z[rows], int(taken[cluster[rows[0]]]))] for rows in groups])


def _shards(context: Context) -> tuple[list[str], NDArray[np.int64]]:
    """The names of the shards in order, and the number of the first row of each, with the total at the end."""
    paths = context.whole["assignments"]
    rows = [tables.read_counts(path)[1] for path in paths]
    return [shard_of(path) for path in paths], np.cumsum([0, *rows])


class Curate(Stage):
    """Write every image of a shard to KEEP or to DROP, the latter with the reason."""

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

        def work(files: Inputs, out: Outputs) -> Counts:
            table = tables.read(files["assignments"], columns=["key", "image_shard"])
            duplicate_rows, outlier_rows = (
                tables.read(files[kind], columns=[column]) if kind in files else None
                for kind, column in (("duplicates", "kept"), ("outliers", "outlier"))
            )
            reasons = leaving(duplicate_rows, outlier_rows, self.threshold)
            if chosen is not None:
                left = np.ones(len(table), np.bool_)
                left[chosen[shard_of(files["assignments"])]] = False
                gone = np.logical_or.reduce([np.zeros(len(table), np.bool_), *reasons.values()])
                reasons[Reason.BALANCE] = left & ~gone
            keep, drop = decisions.keep_and_drop(table["key"], table["image_shard"], reasons)
            counts = Counts(len(table), len(keep), len(drop))
            tables.write(keep, out["keep"], counts)
            tables.write(drop, out["drop"], counts)
            return counts

        return work


class Summary(Stage):
    """Count the kept images, and the dropped images by reason."""

    version = 1
    products = (Product("curation", ".json"),)
    whole = ("keep", "drop")
    asked: int | None

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        kept = sum(tables.read_counts(path)[1] for path in context.whole["keep"])
        dropped = Counter({reason.value: 0 for reason in Reason})
        for batch in tables.batches(context.whole["drop"], ["reason"], context.prefetch):
            dropped.update(batch["reason"].to_pylist())
        rows = kept + dropped.total()
        counts = {"images": rows, "kept": kept, "asked": self.asked, "dropped": dict(dropped)}
        out["curation"].write_text(json.dumps(counts, indent=2) + "\n", encoding="utf-8")
        print(f"curation: {kept:,} of {rows:,} images are kept", flush=True)
        return Counts(rows, rows)
