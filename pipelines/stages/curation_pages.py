"""The stages that show what curation found: the oddest images, and what is taken from where."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cpp.curation.duplicate_groups import Keep
from cpp.curation.outliers import PARTS
from cpp.files import tables
from cpp.files.tables import Counts
from cpp.files.top_rows import SmallestRows
from cpp.report import balance_page, cards, duplicates_page, outliers_page, section_page, thumbnails
from cpp.store.results import Product
from pipelines.engine.stage import Context, Stage, Work
from pipelines.stages.artifacts import read_tree


@dataclass(frozen=True, kw_only=True)
class OutliersPage(Stage):
    """OUTLIERS -> the page with the oddest images by score and by part, and what would go at each threshold."""

    version = 1
    products = (Product("outliers_page", ".html"),)
    each = ()
    whole = ("outliers", "assignments", "clusters")
    title: str
    threshold: float | None
    others: Mapping[str, str]
    images: bool

    def open(self, context: Context) -> Work:
        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            counts = np.zeros(outliers_page.BARS, np.int64)
            kinds = list(outliers_page.SHOWN)
            kept = SmallestRows(max(outliers_page.SHOWN.values()))
            for odd, known in _aligned(context, "outliers", ["outlier", *PARTS], ["key", "image_shard", "cluster"]):
                at = (odd["outlier"].to_numpy() * outliers_page.BARS).astype(np.int64)
                counts += np.bincount(at.clip(0, outliers_page.BARS - 1), minlength=outliers_page.BARS)
                for number, kind in enumerate(kinds):
                    value = odd[kind].to_numpy(zero_copy_only=False).astype(np.float64)
                    some = np.flatnonzero(~np.isnan(value))
                    columns = {"key": known["key"], "image_shard": known["image_shard"], "of": known["cluster"]}
                    columns |= {name: odd[name] for name in ("outlier", *PARTS)}
                    batch = pa.record_batch({"cluster": np.full(len(odd), number, np.int32), **columns})
                    kept.add(-value[some], batch.take(pa.array(some)))
            oddest = self._shown(kept, kinds, context)
            page = outliers_page.page(self.title, counts, self.threshold, oddest, self.others)
            out["outliers_page"].write_text(section_page.render(page), encoding="utf-8")
            return Counts(int(counts.sum()), int(counts.sum()))

        return work

    def _shown(self, kept: SmallestRows, kinds: list[str], context: Context) -> list[dict[str, Any]]:
        """The oddest images of each kind, the oddest first, with their pictures and the names of their clusters."""
        names, counted = _names(context), dict.fromkeys(kinds, 0)
        found = []
        for row in sorted(kept.rows(), key=lambda row: float(row["value"])):
            kind = kinds[row["cluster"]]
            counted[kind] += 1
            if counted[kind] <= outliers_page.SHOWN[kind]:
                found.append({**row, "kind": kind, "name": names[row["of"]]})
        return _with_pictures(found, self.images, context)


@dataclass(frozen=True, kw_only=True)
class BalancePage(Stage):
    """KEEP and DROP -> the page with sizes of clusters before and after, and examples of what stays and goes."""

    version = 1
    products = (Product("balance_page", ".html"),)
    each = ()
    whole = ("drop", "assignments", "clusters", "curation", "tree")
    title: str
    how: str
    others: Mapping[str, str]
    images: bool

    def open(self, context: Context) -> Work:
        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            before, after = (np.zeros(read_tree(context).main, np.int64) for _ in range(2))
            names = _names(context)
            sizes = [row["size"] for row in _clusters(context)]
            wanted = np.array(balance_page.shown(np.array(sizes)))
            kept = SmallestRows(balance_page.IMAGES)
            for batch, reason in _decided(context):
                cluster = batch["cluster"].to_numpy()
                stays = np.array([why is None for why in reason], np.bool_)
                before += np.bincount(cluster, minlength=len(before))
                after += np.bincount(cluster[stays], minlength=len(after))
                some = np.flatnonzero(np.isin(cluster, wanted))
                columns = {"of": batch["cluster"], "key": batch["key"], "image_shard": batch["image_shard"]}
                two = {"cluster": 2 * cluster + stays, **columns, "reason": pa.array(reason, pa.string())}
                kept.add(-batch["score"].to_numpy()[some], pa.record_batch(two).take(pa.array(some)))
            rows = [{**row, "cluster": row["of"]} for row in sorted(kept.rows(), key=lambda row: float(row["value"]))]
            summary = json.loads(Path(context.file("curation")).read_text())
            shown = _with_pictures(rows, self.images, context)
            page = balance_page.page(self.title, summary, self.how, names, before, after, shown, self.others)
            out["balance_page"].write_text(section_page.render(page), encoding="utf-8")
            return Counts(int(before.sum()), int(before.sum()))

        return work


def _decided(context: Context) -> Iterator[tuple[pa.RecordBatch, list[str | None]]]:
    """ASSIGNMENTS shard by shard, with the reason for which each row is dropped, None for what is kept."""
    columns = ["key", "image_shard", "cluster", "score"]
    for path, drop in zip(context.whole["assignments"], context.whole["drop"], strict=True):
        why: dict[int, str] = {}
        for batch in tables.batches([drop], ["row", "reason"], context.prefetch):
            why |= dict(zip(batch["row"].to_pylist(), batch["reason"].to_pylist(), strict=True))
        first = 0
        for batch in tables.batches([path], columns, context.prefetch):
            yield batch, [why.get(row) for row in range(first, first + len(batch))]
            first += len(batch)


def _aligned(context: Context, kind: str, columns: list[str], known: list[str]) -> Iterator[tuple[pa.RecordBatch, ...]]:
    """Columns of a product beside those of ASSIGNMENTS, row for row."""
    wanted = {kind: columns, "assignments": known}
    return tables.align_batches(
        *(tables.batches(context.whole[name], some, context.prefetch) for name, some in wanted.items())
    )


def _clusters(context: Context) -> list[dict[str, Any]]:
    rows = tables.read(context.file("clusters")).to_pylist()
    return sorted((row for row in rows if row["main"]), key=lambda row: int(row["cluster"]))


def _names(context: Context) -> list[str]:
    """What the clusters of the main layer are called, by number."""
    return [card.title for card in cards.cards(_clusters(context), {}, {})]


def _with_pictures(rows: list[dict[str, Any]], images: bool, context: Context) -> list[dict[str, Any]]:
    """The rows with their large pictures, where these may be shown."""
    places = [(row["image_shard"], row["key"]) for row in rows] if images else []
    found = thumbnails.pictures(places, context.threads)
    return [{**row, "large": found.get((row["image_shard"], row["key"]))} for row in rows]


@dataclass(frozen=True, kw_only=True)
class DuplicatesPage(Stage):
    """What was found -> the page that shows it."""

    version = 1
    products = (Product("duplicates_page", ".html"),)
    each = ()
    whole = ("duplicate_curve", "duplicate_examples", "duplicate_pictures", "duplicate_counts")
    title: str
    threshold: float
    keep: Keep
    neighbours: bool
    bytes: bool
    others: Mapping[str, str]

    def open(self, context: Context) -> Work:
        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            pictures: dict[tuple[int, int], dict[str, Any]] = {}
            for batch in tables.batches(context.whole["duplicate_pictures"], PICTURE, context.prefetch):
                pictures |= {(row["shard"], row["row"]): row for row in batch.to_pylist()}
            shown: dict[tuple[str, int], list[dict[str, Any]]] = {}
            for row in tables.read(context.file("duplicate_examples")).to_pylist():
                picture = pictures[row["shard"], row["row"]]
                shown.setdefault((row["what"], row["number"]), []).append({**row, **picture})
            counts = json.loads(Path(context.file("duplicate_counts")).read_text())
            curve = tables.read(context.file("duplicate_curve")).to_pydict()
            how = duplicates_page.How(self.title, self.threshold, self.keep, self.neighbours, self.bytes)
            page = duplicates_page.page(how, counts, curve, list(shown.values()), self.others)
            out["duplicates_page"].write_text(section_page.render(page), encoding="utf-8")
            return Counts(counts["rows"], counts["rows"])

        return work


PICTURE = ("shard", "row", "key", "image_shard", "large")
