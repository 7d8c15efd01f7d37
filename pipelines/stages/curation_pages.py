"""The stages that write the pages of curation (duplicates, outliers, balance) and count the images that are kept."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cpp.curation.decisions import DropReason
from cpp.curation.duplicate_groups import Keep
from cpp.curation.outliers import PARTS
from cpp.files import tables
from cpp.files.tables import Counts
from cpp.files.top_rows import SmallestRows
from cpp.report import section_pages, thumbnails
from cpp.store.results import Product
from pipelines.engine.stage import Context, Inputs, Outputs, Stage
from pipelines.stages.artifacts import read_main_clusters

IMAGES = 8  # kept and dropped images that are shown of a cluster
PICTURE = ("shard", "row", "key", "image_shard", "large")  # columns of DUPLICATE_PICTURES


class OutliersPage(Stage):
    """OUTLIERS -> the page with the most unusual images by score and part, and the effect of each threshold."""

    version = 4
    products = (Product("outliers_page", ".html"),)
    whole = ("outliers", "assignments", "clusters")
    title: str
    threshold: float | None
    others: Mapping[str, str]
    images: bool

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        counts = np.zeros(section_pages.SCORE_BINS, np.int64)
        highest = SmallestRows(max(section_pages.OUTLIERS.values()))  # by kind: it stands in the column `cluster`
        for outliers, assigned in _aligned(context):
            bins = (outliers["outlier"].to_numpy() * section_pages.SCORE_BINS).astype(np.int64)
            counts += np.bincount(bins.clip(0, section_pages.SCORE_BINS - 1), minlength=section_pages.SCORE_BINS)
            columns = {"of": assigned["cluster"], "key": assigned["key"], "image_shard": assigned["image_shard"]}
            columns |= {name: outliers[name] for name in ("outlier", *PARTS)}
            for number, kind in enumerate(section_pages.OUTLIERS):
                value = outliers[kind].to_numpy(zero_copy_only=False).astype(np.float64)
                present = np.flatnonzero(~np.isnan(value))
                batch = pa.record_batch({"cluster": np.full(len(value), number, np.int32), **columns})
                highest.add(-value[present], batch.take(pa.array(present)))
        examples = self._examples(highest, context)
        page = section_pages.outliers(self.title, counts, self.threshold, examples, self.others)
        out["outliers_page"].write_text(page, encoding="utf-8")
        return Counts(int(counts.sum()), int(counts.sum()))

    def _examples(self, highest: SmallestRows, context: Context) -> list[dict[str, Any]]:
        """The most unusual images of each kind with their pictures and the titles of their clusters."""
        titles, kinds = [row["title"] for row in read_main_clusters(context)], list(section_pages.OUTLIERS)
        rows = []
        for number, of_kind in itertools.groupby(highest.rows(), key=itemgetter("cluster")):
            kind = kinds[number]
            shown = itertools.islice(of_kind, section_pages.OUTLIERS[kind])
            rows += [{**row, "kind": kind, "title": titles[row["of"]]} for row in shown]
        return _with_pictures(rows, self.images, context)


class Summary(Stage):
    """DROP -> the numbers of kept images and of dropped ones by reason; the page with sizes of clusters and examples.

    One step writes both, so that the page is never older than the lists.
    """

    version = 3
    products = (Product("curation", ".json"), Product("balance_page", ".html"))
    whole = ("drop", "assignments", "clusters", "tree")
    asked: int | None
    title: str
    how: str
    others: Mapping[str, str]
    images: bool

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        clusters = read_main_clusters(context)
        before, after = (np.zeros(len(clusters), np.int64) for _ in range(2))
        dropped = Counter({reason.value: 0 for reason in DropReason})
        shown = np.array(section_pages.clusters_shown(np.array([row["size"] for row in clusters])))
        typical = SmallestRows(IMAGES)  # by cluster and decision
        for batch, reasons in _decisions(context):
            cluster = batch["cluster"].to_numpy()
            kept = np.array([reason is None for reason in reasons], np.bool_)
            dropped.update(reason for reason in reasons if reason)
            before += np.bincount(cluster, minlength=len(before))
            after += np.bincount(cluster[kept], minlength=len(after))
            columns = {"of": batch["cluster"], "key": batch["key"], "image_shard": batch["image_shard"]}
            columns |= {"cluster": 2 * cluster + ~kept, "reason": pa.array(reasons, pa.string())}
            chosen = np.flatnonzero(np.isin(cluster, shown))
            typical.add(-batch["score"].to_numpy()[chosen], pa.record_batch(columns).take(pa.array(chosen)))
        rows = _with_pictures([{**row, "cluster": row["of"]} for row in typical.rows()], self.images, context)
        titles = [row["title"] for row in clusters]
        n, n_kept = int(before.sum()), int(after.sum())
        summary = {"images": n, "kept": n_kept, "asked": self.asked, "dropped": dict(dropped)}
        page = section_pages.balance(self.title, summary, self.how, titles, before, after, rows, self.others)
        out["balance_page"].write_text(page, encoding="utf-8")
        out["curation"].write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        print(f"curation: {n_kept:,} of {n:,} images are kept", flush=True)
        return Counts(n, n)


def _decisions(context: Context) -> Iterator[tuple[pa.RecordBatch, list[str | None]]]:
    """Batches of ASSIGNMENTS with the reason for which each row is dropped, None if it is kept."""
    columns = ["key", "image_shard", "cluster", "score"]
    for path, drop in zip(context.whole["assignments"], context.whole["drop"], strict=True):
        dropped = tables.read(drop, columns=["row", "reason"])
        reasons = dict(zip(dropped["row"].to_pylist(), dropped["reason"].to_pylist(), strict=True))
        start = 0
        for batch in tables.batches([path], columns, context.prefetch):
            yield batch, [reasons.get(row) for row in range(start, start + len(batch))]
            start += len(batch)


def _aligned(context: Context) -> Iterator[tuple[pa.RecordBatch, ...]]:
    """Batches of OUTLIERS and ASSIGNMENTS with the same rows."""
    columns = {"outliers": ["outlier", *PARTS], "assignments": ["key", "image_shard", "cluster"]}
    return tables.align_batches(
        *(tables.batches(context.whole[kind], names, context.prefetch) for kind, names in columns.items())
    )


def _with_pictures(rows: list[dict[str, Any]], images: bool, context: Context) -> list[dict[str, Any]]:
    """The rows with their large pictures, if pictures are allowed."""
    places = [(row["image_shard"], row["key"]) for row in rows] if images else []
    pictures = thumbnails.large_pictures(places, context.threads)
    return [{**row, "large": pictures.get((row["image_shard"], row["key"]))} for row in rows]


class DuplicatesPage(Stage):
    """Counts, curve and examples of near-duplicates -> their page."""

    version = 6
    products = (Product("duplicates_page", ".html"),)
    whole = ("duplicate_curve", "duplicate_examples", "duplicate_pictures", "duplicate_counts")
    title: str
    threshold: float
    keep: Keep
    lowest: float
    pictures: bool
    others: Mapping[str, str]

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        pictures: dict[tuple[int, int], dict[str, Any]] = {}
        for batch in tables.batches(context.whole["duplicate_pictures"], PICTURE, context.prefetch):
            pictures |= {(row["shard"], row["row"]): row for row in batch.to_pylist()}
        examples: dict[tuple[str, int], list[dict[str, Any]]] = {}
        for row in tables.read(context.file("duplicate_examples")).to_pylist():
            picture = pictures[row["shard"], row["row"]]
            examples.setdefault((row["what"], row["number"]), []).append({**row, **picture})
        counts = json.loads(Path(context.file("duplicate_counts")).read_text())
        curve = tables.read(context.file("duplicate_curve")).to_pydict()
        search = {name: getattr(self, name) for name in ("threshold", "keep", "lowest", "pictures")}
        page = section_pages.duplicates(self.title, search, counts, curve, list(examples.values()), self.others)
        out["duplicates_page"].write_text(page, encoding="utf-8")
        return Counts(counts["rows"], counts["rows"])
