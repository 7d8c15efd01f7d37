"""The stages that group duplicates at a threshold, and say for the rows of each shard which are kept."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cpp.curation.duplicate_groups import Curve, Examples, Groups, Keep, Linked, Links, group, merge_forests
from cpp.curation.duplicate_pairs import KINDS
from cpp.files import tables
from cpp.files.tables import Counts
from cpp.report import thumbnails
from cpp.store.results import Product
from pipelines.engine.stage import Context, Inputs, Outputs, Stage, Work
from pipelines.stages.artifacts import FACTS, SHARD_BITS, shard_number


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
    keep: Keep
    neighbours: bool

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        curve, examples = Curve(self.lowest), Examples(self.lowest)
        by_kind, sizes = Counter[str](), Counter[int]()
        groups = 0
        path = out["duplicate_groups"]
        with pq.ParquetWriter(path, GROUPS, compression="zstd", write_page_checksum=True) as writer:
            for linked, links in _forests(context, self.neighbours):
                grouped = group(linked, links, self.threshold, self.keep)
                writer.write_table(_table(linked, grouped, groups), row_group_size=4096)
                groups += int(grouped.kept.sum())
                by_kind.update(KINDS[kind] for kind in links.kind[links.similarity >= np.float32(self.threshold)])
                sizes.update(np.bincount(grouped.group).tolist())
                curve.add(len(linked.place), links)
                examples.add(linked, links, grouped)
        columns = {"threshold": curve.thresholds, "dropped": curve.dropped, "groups": curve.groups}
        tables.write(pa.table(columns), out["duplicate_curve"])
        tables.write(_shown(examples), out["duplicate_examples"])
        rows = sum(tables.read_counts(path)[0].rows_in for path in context.whole["similar_pairs"])
        counts = {
            "rows": rows,
            "groups": groups,
            "dropped": {kind: by_kind[kind] for kind in KINDS},
            "largest": max(sizes, default=0),
        }
        out["duplicate_counts"].write_text(json.dumps(counts) + "\n")
        gone = sum(by_kind.values())
        print(
            f"duplicates: {gone:,} of {rows:,} rows are duplicates; one of each of {groups:,} groups is kept",
            flush=True,
        )
        return Counts(rows, rows)


GROUPS = pa.schema(
    [
        ("shard", pa.int64()),
        ("row", pa.int64()),
        ("group", pa.int64()),
        ("kept", pa.bool_()),
        ("similarity", pa.float32()),
        ("kind", pa.int8()),
    ]
)


def _forests(context: Context, together: bool) -> Iterator[tuple[Linked, Links]]:
    """Rows and pairs, task by task; all at once if `together`."""
    read = zip(context.files("similar_rows"), context.files("similar_pairs"), strict=True)
    parts = ((tables.read(rows), tables.read(pairs)) for rows, pairs in read)
    if not together:
        yield from (_linked(*part) for part in parts)
        return
    linked, links = _linked(*(pa.concat_tables(column) for column in zip(*parts, strict=True)))
    yield linked, merge_forests(len(linked.place), links)


def _linked(rows: pa.Table, pairs: pa.Table) -> tuple[Linked, Links]:
    columns = (rows[name].to_numpy() for name in ("place", *FACTS))
    place, *facts = columns
    place, once = np.unique(place, return_index=True)
    a, b = (np.searchsorted(place, pairs[end].to_numpy()) for end in "ab")
    linked = Linked(place, *(fact[once] for fact in facts))
    return linked, Links(a, b, pairs["similarity"].to_numpy(), pairs["kind"].to_numpy())


def _table(linked: Linked, grouped: Groups, start: int) -> pa.Table:
    place = linked.place[grouped.row]
    columns = [place >> SHARD_BITS, place & ((1 << SHARD_BITS) - 1), grouped.group + start, *grouped[2:]]
    return pa.table(dict(zip(GROUPS.names, columns, strict=True)), schema=GROUPS)


def _shown(examples: Examples) -> pa.Table:
    """The rows of each example pair and group, which are numbered from 0."""
    shown: list[dict[str, Any]] = []
    for number, pair in enumerate(examples.pairs()):
        about = {"what": "pair", "number": number, "size": 2, "similarity": pair.similarity, "band": pair.band}
        shown += [{**about, "shard": place >> SHARD_BITS, "row": place & ((1 << SHARD_BITS) - 1)} for place in pair[2:]]
    for number, (size, places) in enumerate(examples.groups()):
        about = {"what": "group", "number": number, "size": size, "similarity": None, "band": None}
        shown += [{**about, "shard": place >> SHARD_BITS, "row": place & ((1 << SHARD_BITS) - 1)} for place in places]
    return pa.Table.from_pylist(shown, SHOWN)


SHOWN = pa.schema(
    [
        ("what", pa.string()),
        ("number", pa.int64()),
        ("size", pa.int64()),
        ("similarity", pa.float64()),
        ("band", pa.float64()),
        ("shard", pa.int64()),
        ("row", pa.int64()),
    ]
)


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
            own = pc.field("shard") == number
            batches = tables.batches([context.file("duplicate_groups")], GROUPS.names, context.prefetch, own)
            groups = pa.Table.from_batches(list(batches), GROUPS)
            counts = Counts(len(table), len(table))
            tables.write(_duplicates(table["key"], groups), out["duplicates"], counts)
            rows = shown.filter(pc.equal(shown["shard"], number))["row"].unique().sort()
            tables.write(self._pictures(table.take(rows), rows, number, context), out["duplicate_pictures"], counts)
            return counts

        return work

    def _pictures(self, images: pa.Table, rows: pa.Array, number: int, context: Context) -> pa.Table:
        """Keys and pictures of these rows of a shard."""
        keys, places = images["key"].to_pylist(), images["image_shard"].to_pylist()
        requests = [thumbnails.Request(key, large=True, small=False) for key in keys]
        place = places[0] if places and self.images else None
        made = thumbnails.make(place, requests, thumbnails.LARGE, context.threads)
        by_key = dict(zip(made["key"].to_pylist(), made["large"].to_pylist(), strict=True))
        pictures = pa.array([by_key[key] for key in keys], pa.binary())
        at = {"shard": pa.repeat(number, len(images)), "row": rows}
        return pa.table({**at, "key": images["key"], "image_shard": images["image_shard"], "large": pictures})


def _duplicates(key: pa.ChunkedArray, groups: pa.Table) -> pa.Table:
    """DUPLICATES of a shard. A row outside all groups is kept and has nulls."""
    at = groups["row"].to_numpy()
    place = np.full(len(key), -1)
    place[at] = np.arange(len(at))
    taken = pa.array(place, mask=place < 0)
    kept = np.ones(len(key), bool)
    kept[at] = groups["kept"].to_numpy(zero_copy_only=False)
    kind = pa.DictionaryArray.from_arrays(groups["kind"].combine_chunks(), pa.array(KINDS)).cast(pa.string())
    columns = {"group": groups["group"], "similarity": groups["similarity"], "kind": kind}
    taken_columns = {name: column.take(taken) for name, column in columns.items()}
    return pa.table({"key": key, "group": taken_columns.pop("group"), "kept": kept, **taken_columns})
