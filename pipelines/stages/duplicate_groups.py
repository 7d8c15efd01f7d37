"""The stages that form groups of duplicates at a threshold, and mark in each shard the rows that are kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cpp.curation import duplicate_groups
from cpp.curation.duplicate_groups import Linked, curve_thresholds
from cpp.curation.duplicate_pairs import KINDS
from cpp.curation.spanning_forest import Pairs
from cpp.files import tables
from cpp.files.tables import Counts
from cpp.files.top_rows import SmallestRows
from cpp.report import thumbnails
from cpp.store.results import Product
from pipelines.engine.stage import Context, Inputs, Outputs, Stage, Work
from pipelines.stages.artifacts import FACTS, SHARD_BITS, shard_number

ROW_BITS = (1 << SHARD_BITS) - 1
GROUPS = pa.schema(
    {"shard": "int64", "row": "int64", "group": "int64", "kept": "bool", "similarity": "float32", "kind": "int8"}
)
EXAMPLE = {"what": "string", "number": "int64", "size": "int64", "similarity": "float64", "band": "float64"}
SHOWN = pa.schema(EXAMPLE | {"shard": "int64", "row": "int64"})


class Group(Stage):
    """Group all pairs at the threshold, and write the curve over thresholds, examples and counts.

    The pairs of one task are in memory at a time; all of them if pairs span clusters.
    """

    version = 1
    products = (
        Product("duplicate_groups"),
        Product("duplicate_curve"),
        Product("duplicate_examples"),
        Product("duplicate_counts", ".json"),
    )
    whole = ("similar_pairs", "similar_rows")
    threshold: float
    lowest: float
    keep: duplicate_groups.Keep
    neighbours: bool

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        thresholds = curve_thresholds(self.lowest)
        dropped, groups = np.zeros((2, len(thresholds)), np.int64)
        example_pairs, largest = SmallestRows(duplicate_groups.PAIRS), list[tuple[int, list[int]]]()
        by_kind, n_groups = np.zeros(len(KINDS), np.int64), 0
        with pq.ParquetWriter(out["duplicate_groups"], GROUPS, compression="zstd", write_page_checksum=True) as writer:
            for linked, pairs in _forests(context, self.neighbours):
                grouped = duplicate_groups.group(linked, pairs, self.threshold, self.keep)
                writer.write_table(_table(linked, grouped, n_groups), row_group_size=4096)
                n_groups += int(grouped.kept.sum())
                by_kind += np.bincount(pairs.kind[pairs.similarity >= np.float32(self.threshold)], minlength=len(KINDS))
                more_dropped, more_groups = duplicate_groups.curve(len(linked.place), pairs, thresholds)
                dropped, groups = dropped + more_dropped, groups + more_groups
                candidates = duplicate_groups.example_pairs(linked, pairs, self.lowest)
                example_pairs.add(candidates.pop("drawn"), pa.record_batch(candidates))
                largest += duplicate_groups.largest_groups(linked, grouped)
                largest = sorted(largest, key=lambda group: -group[0])[: duplicate_groups.LARGEST]
        curve = {"threshold": thresholds, "dropped": dropped, "groups": groups}
        tables.write(pa.table(curve), out["duplicate_curve"])
        tables.write(_shown(example_pairs.rows(), largest), out["duplicate_examples"])
        rows = sum(tables.read_counts(path)[0].rows_in for path in context.whole["similar_pairs"])
        counts = {
            "rows": rows,
            "groups": n_groups,
            "dropped": dict(zip(KINDS, by_kind.tolist(), strict=True)),
            "largest": largest[0][0] if largest else 0,
        }
        out["duplicate_counts"].write_text(json.dumps(counts) + "\n")
        text = f"{by_kind.sum():,} of {rows:,} rows are duplicates; one of each of {n_groups:,} groups is kept"
        print(f"duplicates: {text}", flush=True)
        return Counts(rows, rows)


def _forests(context: Context, together: bool) -> Iterator[tuple[Linked, Pairs]]:
    """The rows and pairs of each task of the search; of all tasks in one if `together`."""
    paths = zip(context.files("similar_rows"), context.files("similar_pairs"), strict=True)
    parts = ((tables.read(rows), tables.read(pairs)) for rows, pairs in paths)
    if not together:
        yield from (_linked(*part) for part in parts)
        return
    linked, pairs = _linked(*(pa.concat_tables(column) for column in zip(*parts, strict=True)))
    yield linked, duplicate_groups.merge_forests(len(linked.place), pairs)


def _linked(rows: pa.Table, pairs: pa.Table) -> tuple[Linked, Pairs]:
    """SIMILAR_ROWS without repeated rows, and SIMILAR_PAIRS with numbers of these rows in place of places."""
    place, first = np.unique(rows["place"].to_numpy(), return_index=True)
    a, b = (np.searchsorted(place, pairs[end].to_numpy()) for end in "ab")
    linked = Linked(place, *(rows[fact].to_numpy()[first] for fact in FACTS))
    return linked, Pairs(a, b, pairs["similarity"].to_numpy(), pairs["kind"].to_numpy())


def _table(linked: Linked, grouped: duplicate_groups.Groups, start: int) -> pa.Table:
    """DUPLICATE_GROUPS of a forest; `start` is added to the numbers of its groups."""
    place = linked.place[grouped.row]
    columns = [place >> SHARD_BITS, place & ROW_BITS, grouped.group + start, *grouped[2:]]
    return pa.table(columns, schema=GROUPS)


def _shown(example_pairs: list[dict[str, Any]], largest: list[tuple[int, list[int]]]) -> pa.Table:
    """The rows of each example pair, the most similar first, and of each of the largest groups."""
    example_pairs.sort(key=lambda pair: (-pair["cluster"], -pair["similarity"]))
    shown = [
        ("pair", i, 2, pair["similarity"], pair["band"], pair[end])
        for i, pair in enumerate(example_pairs)
        for end in "ab"
    ]
    shown += [("group", i, size, None, None, place) for i, (size, places) in enumerate(largest) for place in places]
    rows = [(*example, place >> SHARD_BITS, place & ROW_BITS) for *example, place in shown]
    return pa.Table.from_pylist([dict(zip(SHOWN.names, row, strict=True)) for row in rows], SHOWN)


class Duplicates(Stage):
    """Write DUPLICATES of a shard, row for row with ASSIGNMENTS, and pictures of its images that the page shows."""

    version = 1
    products = (Product("duplicates", rows="out"), Product("duplicate_pictures"))
    each = ("assignments", "scattered")
    whole = ("scattered", "duplicate_groups", "duplicate_examples")
    images: bool

    def open(self, context: Context) -> Work:
        shown = tables.read(context.file("duplicate_examples"), columns=["shard", "row"])

        def work(files: Inputs, out: Outputs) -> Counts:
            number = shard_number(files["scattered"], context)
            table = tables.read(files["assignments"], columns=["key", "image_shard"])
            counts = Counts(len(table), len(table))
            of_shard = pc.field("shard") == number
            batches = tables.batches([context.file("duplicate_groups")], GROUPS.names, context.prefetch, of_shard)
            duplicates = _duplicates(table["key"], pa.Table.from_batches(batches, GROUPS))
            tables.write(duplicates, out["duplicates"], counts)
            rows = shown.filter(pc.equal(shown["shard"], number))["row"].unique().sort()
            images = table.take(rows)
            places = list(zip(images["image_shard"].to_pylist(), images["key"].to_pylist(), strict=True))
            pictures = thumbnails.large_pictures(places if self.images else [], context.threads)
            large = pa.array([pictures.get(place) for place in places], pa.binary())
            columns = {"shard": pa.repeat(number, len(rows)), "row": rows, "key": images["key"]}
            columns |= {"image_shard": images["image_shard"], "large": large}
            tables.write(pa.table(columns), out["duplicate_pictures"], counts)
            return counts

        return work


def _duplicates(key: pa.ChunkedArray, groups: pa.Table) -> pa.Table:
    """DUPLICATES of a shard. A row outside all groups is kept and has nulls."""
    position = np.full(len(key), -1)
    position[groups["row"].to_numpy()] = np.arange(len(groups))
    rows = groups.take(pa.array(position, mask=position < 0))
    columns = {"key": key, "group": rows["group"], "kept": pc.fill_null(rows["kept"], True)}
    return pa.table(columns | {"similarity": rows["similarity"], "kind": pa.array(KINDS).take(rows["kind"])})
