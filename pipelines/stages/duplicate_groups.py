"""The stages that say which duplicates go: groups at a threshold, the rows of each shard, and the page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cpp.curation.duplicate_groups import Curve, Examples, Groups, Keep, Linked, Links, group, respan
from cpp.curation.duplicate_pairs import KINDS
from cpp.files import tables
from cpp.files.tables import Counts
from cpp.report import thumbnails
from cpp.store.results import Product
from pipelines.engine.stage import Context, Stage, Work
from pipelines.stages.artifacts import FACTS, SHARD_BITS, shard_number


@dataclass(frozen=True, kw_only=True)
class Group(Stage):
    """All pairs -> groups at a threshold, the curve over thresholds, what of it is shown, and counts.

    One task of pairs is held at a time, all of them where pairs lie across clusters.
    """

    version = 1
    products = (
        Product("duplicate_groups"),
        Product("duplicate_curve"),
        Product("duplicate_examples"),
        Product("duplicate_counts", ".json"),
    )
    each = ()
    whole = ("similar_pairs", "similar_rows")
    threshold: float
    lowest: float
    keep: Keep
    neighbours: bool

    def open(self, context: Context) -> Work:
        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            curve, examples = Curve(self.lowest), Examples(self.lowest)
            by_kind, sizes = Counter[str](), Counter[int]()
            groups = 0
            path = out["duplicate_groups"]
            with pq.ParquetWriter(path, GROUPS, compression="zstd", write_page_checksum=True) as writer:
                for linked, links in _forests(context, self.neighbours):
                    found = group(linked, links, self.threshold, self.keep)
                    writer.write_table(_table(linked, found, groups), row_group_size=4096)
                    groups += int(found.kept.sum())
                    by_kind.update(KINDS[kind] for kind in links.kind[links.similarity >= np.float32(self.threshold)])
                    sizes.update(np.bincount(found.group).tolist())
                    curve.add(len(linked.place), links)
                    examples.add(linked, links, found)
            columns = {"threshold": curve.thresholds, "dropped": curve.dropped, "groups": curve.groups}
            tables.write(pa.table(columns), out["duplicate_curve"])
            tables.write(_shown(examples), out["duplicate_examples"])
            rows = sum(tables.read_counts(path)[0].rows_in for path in context.whole["similar_pairs"])
            said = {
                "rows": rows,
                "groups": groups,
                "dropped": {kind: by_kind[kind] for kind in KINDS},
                "largest": max(sizes, default=0),
            }
            out["duplicate_counts"].write_text(json.dumps(said) + "\n")
            gone = sum(by_kind.values())
            print(f"duplicates: {gone:,} of {rows:,} rows go, of {groups:,} groups one each stays", flush=True)
            return Counts(rows, rows)

        return work


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
    """Rows and pairs, task by task, or all in one."""
    read = zip(context.files("similar_rows"), context.files("similar_pairs"), strict=True)
    parts = ((tables.read(rows), tables.read(pairs)) for rows, pairs in read)
    if not together:
        yield from (_linked(*part) for part in parts)
        return
    linked, links = _linked(*(pa.concat_tables(some) for some in zip(*parts, strict=True)))
    yield linked, respan(len(linked.place), links)


def _linked(rows: pa.Table, pairs: pa.Table) -> tuple[Linked, Links]:
    columns = (rows[name].to_numpy() for name in ("place", *FACTS))
    place, *facts = columns
    place, once = np.unique(place, return_index=True)
    a, b = (np.searchsorted(place, pairs[end].to_numpy()) for end in "ab")
    linked = Linked(place, *(fact[once] for fact in facts))
    return linked, Links(a, b, pairs["similarity"].to_numpy(), pairs["kind"].to_numpy())


def _table(linked: Linked, found: Groups, start: int) -> pa.Table:
    place = linked.place[found.row]
    columns = [place >> SHARD_BITS, place & ((1 << SHARD_BITS) - 1), found.group + start, *found[2:]]
    return pa.table(dict(zip(GROUPS.names, columns, strict=True)), schema=GROUPS)


def _shown(examples: Examples) -> pa.Table:
    """What is shown: for each pair and group, numbered from 0, its rows in order."""
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


@dataclass(frozen=True, kw_only=True)
class Duplicates(Stage):
    """A shard of ASSIGNMENTS -> DUPLICATES, row for row, and pictures of those of its images that are shown."""

    version = 1
    products = (Product("duplicates", rows="out"), Product("duplicate_pictures"))
    each = ("assignments", "scattered")
    whole = ("scattered", "duplicate_groups", "duplicate_examples")
    images: bool

    def open(self, context: Context) -> Work:
        shown = tables.read(context.file("duplicate_examples"), columns=["shard", "row"])

        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            number = shard_number(files["scattered"], context)
            table = tables.read(files["assignments"], columns=["key", "image_shard"])
            mine = pc.field("shard") == number
            found = [context.file("duplicate_groups")], GROUPS.names, context.prefetch, mine
            groups = pa.Table.from_batches(list(tables.batches(*found)), GROUPS)
            counts = Counts(len(table), len(table))
            tables.write(_duplicates(table["key"], groups), out["duplicates"], counts)
            rows = shown.filter(pc.equal(shown["shard"], number))["row"].unique().sort()
            tables.write(self._pictures(table.take(rows), rows, number, context), out["duplicate_pictures"], counts)
            return counts

        return work

    def _pictures(self, some: pa.Table, rows: pa.Array, number: int, context: Context) -> pa.Table:
        """Key and picture of some rows of a shard."""
        keys, places = some["key"].to_pylist(), some["image_shard"].to_pylist()
        wanted = [thumbnails.Wanted(key, large=True, small=False) for key in keys]
        place = places[0] if places and self.images else None
        made = thumbnails.make(place, wanted, thumbnails.LARGE, context.threads)
        by_key = dict(zip(made["key"].to_pylist(), made["large"].to_pylist(), strict=True))
        pictures = pa.array([by_key[key] for key in keys], pa.binary())
        at = {"shard": pa.repeat(number, len(some)), "row": rows}
        return pa.table({**at, "key": some["key"], "image_shard": some["image_shard"], "large": pictures})


def _duplicates(key: pa.ChunkedArray, groups: pa.Table) -> pa.Table:
    """DUPLICATES of a shard: a row that is in no group is kept, and has nulls."""
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
