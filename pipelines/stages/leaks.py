"""The stage `leaks`: near-duplicates between the splits of a data set, as a list and a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cpp.curation import duplicate_groups
from cpp.curation.duplicate_groups import LEAKS
from cpp.curation.duplicate_pairs import KINDS
from cpp.curation.strongest_pairs import Pairs
from cpp.files import tables
from cpp.files.tables import Counts
from cpp.report import section_pages, thumbnails
from cpp.store.results import Product
from pipelines.engine.stage import Context, Inputs, Outputs, Stage
from pipelines.stages.artifacts import SHARD_BITS, all_files

SHOWN = 40  # pairs on the page
ROW_BITS = (1 << SHARD_BITS) - 1


class Leaks(Stage):
    """Write the pairs of duplicates whose images are in different splits, the most similar first, and their page.

    The split of every image is in memory, and so are all pairs.
    """

    version = 2
    products = (Product("leaks"), Product("leaks_page", ".html"))
    whole = ("run_assignments", "run_similar_pairs", "assignments", "similar_pairs")
    title: str
    split: str
    threshold: float
    images: bool
    others: Mapping[str, str]

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        names, codes, starts = self._splits(context)
        pairs = self._pairs(context, starts)
        pairs = duplicate_groups.between_splits(pairs, codes)
        order = np.lexsort((pairs.b, pairs.a, -pairs.similarity))
        pairs = Pairs(pairs.a[order], pairs.b[order], pairs.similarity[order], pairs.kind[order])
        rows = _images(context, starts, np.unique(np.concatenate([pairs.a, pairs.b])))
        columns: dict[str, Any] = {}
        for prefix, end in (("", pairs.a), ("other_", pairs.b)):
            of_end = rows.take(pa.array(np.searchsorted(rows["number"].to_numpy(), end)))
            columns |= {f"{prefix}{name}": of_end[name] for name in ("key", "image_shard")}
            columns[f"{prefix}split"] = [names[code] for code in codes[end]]
        columns |= {"similarity": pairs.similarity, "kind": [KINDS[kind] for kind in pairs.kind]}
        table = pa.table({name: columns[name] for name in LEAKS.names}, LEAKS)
        tables.write(table, out["leaks"])
        counts = Counter(zip(columns["split"], columns["other_split"], strict=True))
        sizes = Counter(names[code] for code in codes.tolist() if code >= 0)
        shown = list(self._shown(table, context))
        page = section_pages.leaks(self.title, self.split, sizes, counts, shown, self.others)
        out["leaks_page"].write_text(page, encoding="utf-8")
        print(f"leaks: {len(table):,} pairs of duplicates are in different splits ({self.split})", flush=True)
        return Counts(len(codes), len(codes))

    def _splits(self, context: Context) -> tuple[list[str], NDArray[np.int32], NDArray[np.int64]]:
        """The names of the splits, the number of each row's split, -1 if it has none, and the first row of shards."""
        number, codes, counts = dict[str, int](), list[int](), [0]
        for path in all_files("assignments", context):
            if self.split in tables.read_schema(path).names:
                values = tables.read(path, columns=[self.split])[self.split]
                texts = [None if value is None else str(value) for value in values.to_pylist()]
            else:
                texts = [None] * tables.read_footer(path).num_rows
            codes += [-1 if text is None else number.setdefault(text, len(number)) for text in texts]
            counts.append(len(texts))
        return list(number), np.array(codes, np.int32), np.cumsum(counts)

    def _pairs(self, context: Context, starts: NDArray[np.int64]) -> Pairs:
        """All pairs from the threshold on, with row numbers over all shards."""
        kinds = ("run_similar_pairs", "similar_pairs")
        table = pa.concat_tables(tables.read(path) for kind in kinds for path in context.files(kind))
        table = table.filter(pc.greater_equal(table["similarity"], np.float32(self.threshold)))
        a, b = (starts[place >> SHARD_BITS] + (place & ROW_BITS) for place in (table[end].to_numpy() for end in "ab"))
        return Pairs(a, b, table["similarity"].to_numpy(), table["kind"].to_numpy())

    def _shown(self, table: pa.Table, context: Context) -> Iterator[list[dict[str, Any]]]:
        """The two images of the first pairs, with their pictures."""
        pairs = table.slice(0, SHOWN).to_pylist()
        places = [(pair[f"{end}image_shard"], pair[f"{end}key"]) for pair in pairs for end in ("", "other_")]
        pictures = thumbnails.large_pictures(places if self.images else [], context.threads)
        for pair in pairs:
            ends = [{name: pair[f"{end}{name}"] for name in ("key", "image_shard", "split")} for end in ("", "other_")]
            shared = {"similarity": pair["similarity"], "kind": pair["kind"]}
            yield [{**row, **shared, "large": pictures.get((row["image_shard"], row["key"]))} for row in ends]


def _images(context: Context, starts: NDArray[np.int64], numbers: NDArray[np.int64]) -> pa.Table:
    """`number`, key and shard of the rows with these ascending numbers."""
    parts = [pa.table({"key": pa.array([], pa.string()), "image_shard": pa.array([], pa.string())})]
    for path, first, last in zip(all_files("assignments", context), starts[:-1], starts[1:], strict=True):
        low, high = np.searchsorted(numbers, [first, last])
        if high > low:
            table = tables.read(path, columns=["key", "image_shard"])
            parts.append(table.take(pa.array(numbers[low:high] - first)).replace_schema_metadata())
    return pa.concat_tables(parts).append_column("number", pa.array(numbers))
