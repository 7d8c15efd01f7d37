"""The stages of curation: a balanced subset, and the lists of kept and dropped images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cpp.clustering.layers import parents
from cpp.curation import balance, decisions
from cpp.curation.decisions import DropReason
from cpp.files import tables
from cpp.files.tables import Counts
from cpp.files.thinning import stays
from cpp.files.top_rows import SmallestRows
from cpp.store.results import Product, shard_of
from pipelines.engine.stage import Context, Inputs, Outputs, Stage, Work
from pipelines.stages.artifacts import TreeFile, read_tree

CANDIDATES = 2048  # images of a cluster among which diverse ones are chosen
HELD = 1 << 18  # candidates whose codes are in memory at a time
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Balance(Stage):
    """Choose a balanced subset of `size` rows among the remaining ones, and count what each cluster contributes.

    In an append the images that the run keeps count, and appended rows are chosen as far as `size` is not met. Memory
    grows with `size`, by some forty bytes a row, and not with the number of images.
    """

    version = 2
    products = (Product("chosen"), Product("shares"))
    whole = ("assignments", "codes", "labels", "outliers", "duplicates", "tree", "run_curation", "thinned")
    size: int
    power: float
    by: decisions.By
    threshold: float | None
    seed: int

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        tree, paths = read_tree(context), context.whole["assignments"]
        finest = tree.clusters[tree.finest]
        clusters = (cluster for _, cluster, *_ in self._rows(context, tree))
        sizes = sum(
            (np.bincount(cluster, minlength=tree.finest) for cluster in clusters), np.zeros(tree.finest, np.int64)
        )
        coarser = [parents(finest, cluster) for K, cluster in tree.clusters.items() if tree.finest != K]
        kept = sum(json.loads(Path(path).read_text())["kept"] for path in context.files("run_curation"))
        size = max(self.size - kept, 0)
        taken = balance.hierarchical_shares(coarser, sizes, size, self.power)
        choose = self._diverse if self.by == "diversity" else self._first
        chosen = choose(context, tree, sizes, taken)
        starts = np.cumsum([0, *(tables.read_counts(path)[1] for path in paths)])
        by_shard = np.split(chosen, np.searchsorted(chosen, starts[1:-1]))
        rows = [rows - start for rows, start in zip(by_shard, starts[:-1], strict=True)]
        schema = pa.schema({"shard": "string", "rows": pa.list_(pa.int64())})
        tables.write(pa.table({"shard": [shard_of(path) for path in paths], "rows": rows}, schema), out["chosen"])
        tables.write(pa.table({"cluster": np.arange(tree.finest), "stay": sizes, "taken": taken}), out["shares"])
        n = int(taken.sum())
        which = f"{n:,} images" if n == size else f"all {n:,} remaining images (curate.size is {self.size:,})"
        clusters_taken = f"{int((taken > 0).sum()):,} of {tree.finest:,} clusters"
        print(f"balance: the subset has {which} from {clusters_taken}", flush=True)
        return Counts(int(starts[-1]), int(starts[-1]))

    def _first(self, context: Context, tree: TreeFile, sizes: Ints, taken: Ints) -> Ints:
        """The first rows of each cluster, in ascending order: by confidence, or by random draw."""
        best = SmallestRows(taken)
        for row, cluster, confidence, score, drawn in self._rows(context, tree, draw=True):
            best.add(-confidence, pa.record_batch({"cluster": cluster, "row": row}), -score, drawn)
        return np.sort(best.column("row"))

    def _diverse(self, context: Context, tree: TreeFile, sizes: Ints, taken: Ints) -> Ints:
        """Rows that lie far apart among `CANDIDATES` of each cluster; a random draw if more are taken. Sorted."""
        diverse = taken < np.minimum(sizes, CANDIDATES)
        selected = [self._first(context, tree, sizes, np.where(diverse, 0, taken))]
        candidates = np.where(diverse & (taken > 0), np.minimum(sizes, CANDIDATES), 0)
        block = np.cumsum(candidates) // HELD
        for number in np.unique(block[candidates > 0]):
            drawn = self._first(context, tree, sizes, np.where(block == number, candidates, 0))
            selected.append(drawn[self._far_apart(context, tree, drawn, taken)])
        return np.sort(np.concatenate(selected))

    def _far_apart(self, context: Context, tree: TreeFile, drawn: Ints, taken: Ints) -> Ints:
        """Of the ascending rows `drawn`, those of each cluster that lie farthest apart, as many as are taken."""
        columns = {"codes": ["code"], "assignments": [tree.column(tree.finest), "key", "image_shard"]}
        first, parts = 0, []
        for batches in _aligned(context, columns):
            codes, assigned = batches["codes"], batches["assignments"]
            low, high = np.searchsorted(drawn, [first, first + len(codes)])
            index = pa.array(drawn[low:high] - first)
            images = assigned.take(index)
            cluster = np.asarray(images.column(0), np.int64)
            parts.append((tables.matrix(codes["code"].take(index)), cluster, decisions.random_ranks(self.seed, images)))
            first += len(codes)
        Z, cluster, draw = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        order = np.lexsort((draw, cluster))  # the order of the files must not matter
        groups = np.split(order, np.flatnonzero(np.diff(cluster[order])) + 1)
        return np.concatenate([rows[balance.farthest_first(Z[rows], int(taken[cluster[rows[0]]]))] for rows in groups])

    def _rows(
        self, context: Context, tree: TreeFile, draw: bool = False
    ) -> Iterator[tuple[Ints, Ints, Floats, Floats, Floats]]:
        """The remaining rows in batches: row numbers, clusters of the finest layer, and what orders rows of a cluster.

        The latter are confidence and score, 0 unless rows are chosen `by` them, and with `draw` a random number.
        """
        finest, first = tree.column(tree.finest), 0
        among = stays(context.whole.get("thinned", ()), context.whole["assignments"], shard_of)
        columns = {"assignments": [finest, "score", *(["key", "image_shard"] if draw else [])]}
        if tables.EXCLUDED in tables.read_schema(context.whole["assignments"][0]).names:
            columns["assignments"].append(tables.EXCLUDED)
        for batches in _aligned(context, columns | {"labels": ["confidence"]} | decisions.COLUMNS):
            n = len(batches["assignments"])
            remaining = np.flatnonzero(decisions.removals(n, batches, self.threshold) == "")
            if among is not None:
                remaining = remaining[among[first + remaining]]
            assigned = batches["assignments"].take(pa.array(remaining))
            confidence = score = drawn = np.zeros(len(remaining))
            if self.by == "confidence":
                score, confidence = np.asarray(assigned["score"], np.float64), np.full(len(remaining), np.nan)
                if "labels" in batches:
                    confidence = np.asarray(batches["labels"]["confidence"], np.float64)[remaining]
            if draw:
                drawn = decisions.random_ranks(self.seed, assigned)
            yield first + remaining, np.asarray(assigned[finest], np.int64), confidence, score, drawn
            first += n


def _aligned(context: Context, columns: Mapping[str, list[str]]) -> Iterator[dict[str, pa.RecordBatch]]:
    """Columns of those inputs that exist, in batches whose rows correspond."""
    available = {kind: names for kind, names in columns.items() if kind in context.whole}
    streams = (tables.batches(context.whole[kind], names, context.prefetch) for kind, names in available.items())
    for batches in tables.align_batches(*streams):
        yield dict(zip(available, batches, strict=True))


class Curate(Stage):
    """Write every image of a shard to KEEP or to DROP, the latter with the reason."""

    version = 1
    products = (Product("keep", rows="out"), Product("drop", rows="rejected"))
    each = ("assignments", "outliers", "duplicates")
    whole = ("chosen",)
    threshold: float | None

    def open(self, context: Context) -> Work:
        chosen = tables.read(context.file("chosen")) if "chosen" in context.whole else None

        def work(files: Inputs, out: Outputs) -> Counts:
            images = tables.with_exclusions(files["assignments"], ["key", "image_shard"])
            columns = {
                kind: tables.read(files[kind], names) for kind, names in decisions.COLUMNS.items() if kind in files
            }
            columns["assignments"] = images
            reasons = decisions.removals(len(images), columns, self.threshold)
            if chosen is not None:
                beyond = reasons == ""
                shard = chosen["shard"].index(shard_of(files["assignments"])).as_py()
                beyond[chosen["rows"][shard].values.to_numpy()] = False
                reasons[beyond] = DropReason.BALANCE.value
            keep, drop = decisions.keep_and_drop(images, reasons)
            counts = Counts(len(images), len(keep), len(drop))
            tables.write(keep, out["keep"], counts)
            tables.write(drop, out["drop"], counts)
            return counts

        return work
