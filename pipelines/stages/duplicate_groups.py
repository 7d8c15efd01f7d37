"""The stages that form groups of duplicates at a threshold, and mark in each shard the rows that are kept."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cpp.curation import decisions, duplicate_groups
from cpp.curation.duplicate_groups import Linked, curve_thresholds
from cpp.curation.duplicate_pairs import KINDS
from cpp.curation.strongest_pairs import Pairs, merged
from cpp.files import tables
from cpp.files.tables import Counts
from cpp.files.top_rows import SmallestRows
from cpp.report import thumbnails
from cpp.store.results import Product, shard_of
from pipelines.engine.stage import Context, Inputs, Outputs, Stage, Work
from pipelines.stages.artifacts import BATCH, FACTS, SHARD_BITS, all_files, shard_number

ROW_BITS = (1 << SHARD_BITS) - 1
GROUPS = pa.schema(
    {
        **{"shard": "int64", "row": "int64", "group": "int64", "kept": "bool", "similarity": "float32", "kind": "int8"},
        **{"kept_key": "string", "kept_image_shard": "string"},
    }
)
EXAMPLE = {"what": "string", "number": "int64", "size": "int64", "similarity": "float64", "band": "float64"}
SHOWN = pa.schema(EXAMPLE | {"shard": "int64", "row": "int64"})


class Group(Stage):
    """Group all pairs at the threshold, and write the curve over thresholds, examples and counts.

    In an append these are the pairs of the run too.

    All pairs are in memory, of each row at most `strongest_pairs.LIMIT` and those of copies. An image that a decision
    excludes, or that a `balanced` subset cannot have because it is beyond the `keep` of its `images.group`, is kept
    only among images of this kind.
    """

    version = 4
    products = (
        Product("duplicate_groups"),
        Product("duplicate_curve"),
        Product("duplicate_examples"),
        Product("duplicate_counts", ".json"),
    )
    whole: ClassVar[tuple[str, ...]] = (
        "run_similar_pairs", "run_similar_rows", "similar_pairs", "similar_rows", "run_assignments", "assignments",
        "run_thinned", "thinned",
    )  # fmt: skip
    threshold: float
    lowest: float
    keep: duplicate_groups.Keep
    balanced: bool
    outlier_threshold: float | None

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        thresholds = curve_thresholds(self.lowest)
        linked, pairs, images = _read(context)
        linked = linked._replace(removed=self._removed(context, linked.place))
        grouped = duplicate_groups.group(linked, pairs, self.threshold, self.keep)
        tables.write(_table(linked, grouped, images), out["duplicate_groups"], row_group_size=4096)
        dropped, groups = duplicate_groups.curve(linked, pairs, thresholds, self.keep)
        tables.write(pa.table({"threshold": thresholds, "dropped": dropped, "groups": groups}), out["duplicate_curve"])
        example_pairs = SmallestRows(duplicate_groups.PAIRS)
        candidates = duplicate_groups.example_pairs(linked, pairs, self.lowest)
        example_pairs.add(candidates.pop("drawn"), pa.record_batch(candidates))
        largest = duplicate_groups.largest_groups(linked, grouped)
        tables.write(_shown(example_pairs.rows(), largest), out["duplicate_examples"])
        rows = sum(tables.read_counts(path)[0].rows_in for path in context.whole["similar_pairs"])
        by_kind, n_groups = np.bincount(grouped.kind[~grouped.kept], minlength=len(KINDS)), int(grouped.kept.sum())
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

    def _removed(self, context: Context, place: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each image leaves the data set for another reason than its duplicates, `[n]` by ascending place."""
        spare = dict[str, list[int]]()
        for path in all_files("thinned", context) if self.balanced else ():
            table = tables.read(path)
            spare |= zip(table["shard"].to_pylist(), table["rows"].to_pylist(), strict=True)
        outliers, parts = all_files("outliers", context), []
        for number, path in enumerate(all_files("assignments", context)):
            n = tables.read_footer(path).num_rows
            columns = {"assignments": tables.with_exclusions(path, [])}
            if outliers:
                columns["outliers"] = tables.read(outliers[number], decisions.COLUMNS["outliers"])
            removed = decisions.removals(n, columns, self.outlier_threshold) != ""
            removed[np.asarray(spare.get(shard_of(path), []), np.int64)] = True
            low, high = np.searchsorted(place, [number << SHARD_BITS, (number + 1) << SHARD_BITS])
            parts.append(removed[place[low:high] & ROW_BITS])
        return np.concatenate(parts)


class GroupNoOutliers(Group):
    """Form groups in which an outlier above `outlier_threshold` is kept only among outliers."""

    whole = (*Group.whole, "run_outliers", "outliers")


def _read(context: Context) -> tuple[Linked, Pairs, pa.Table]:
    """The rows and pairs of all tasks of the search, with numbers of these rows in place of places; key and shard."""
    rows, pairs = (
        pa.concat_tables(tables.read(path) for part in (f"run_{kind}", kind) for path in context.files(part))
        for kind in ("similar_rows", "similar_pairs")
    )
    place, first = np.unique(rows["place"].to_numpy(), return_index=True)
    a, b = (np.searchsorted(place, pairs[end].to_numpy()) for end in "ab")
    batches = [shard_of(path)[:BATCH] for path in context.whole.get("similar_rows", ())]  # one file for each shard
    batch_of_shard = np.zeros(len(context.whole.get("run_similar_rows", ())) + len(batches), np.int64)
    if "run_similar_rows" in context.whole:
        batch_of_shard[-len(batches) :] = 1 + np.unique(batches, return_inverse=True)[1]
    facts = {fact: rows[fact].to_numpy()[first] for fact in FACTS}
    linked = Linked(place, batch=batch_of_shard[place >> SHARD_BITS], **facts)
    numbered = merged(Pairs(a, b, pairs["similarity"].to_numpy(), pairs["kind"].to_numpy()))
    return linked, numbered, rows.select(["key", "image_shard"]).take(first)


def _table(linked: Linked, grouped: duplicate_groups.Groups, images: pa.Table) -> pa.Table:
    """DUPLICATE_GROUPS of the groups, by shard. `images` has key and shard of every linked row."""
    place, n = linked.place[grouped.row], int(grouped.kept.sum())
    kept = np.empty(n, np.int64)
    kept[grouped.group[grouped.kept]] = grouped.row[grouped.kept]
    of_dropped = images.take(pa.array(kept[grouped.group], mask=grouped.kept))
    columns = [place >> SHARD_BITS, place & ROW_BITS, *grouped[1:], *of_dropped.columns]
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

    version = 2
    products = (Product("duplicates", rows="out"), Product("duplicate_pictures"))
    each = ("assignments", "scattered")
    whole = ("run_scattered", "scattered", "duplicate_groups", "duplicate_examples")
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
    columns |= {"similarity": rows["similarity"], "kind": pa.array(KINDS).take(rows["kind"])}
    return pa.table(
        columns | {name: rows[name] for name in ("kept_key", "kept_image_shard")}, duplicate_groups.DUPLICATES
    )
