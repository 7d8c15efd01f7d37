"""Parquet tables of a run: matrices as columns, row counts in the footer, checksums, reading in batches.

The tables and their schemas are described in `pipelines.stages.schemas`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cpp.files import filesystem as remote
from cpp.files.iterables import batched

if TYPE_CHECKING:
    import pyarrow.dataset as ds

COUNTS_KEY, REASONS_KEY = "cpp.counts", "cpp.reasons"
EMBEDDING = "embedding"
EXCLUDED = "excluded"  # the column of ASSIGNMENTS that decisions add
VectorColumns = list[str] | dict[str, float]  # columns of vectors to join, with equal weights or with these
AT_ONCE = 4  # files of one Arrow dataset, as a multiple of the prefetched files


class Counts(NamedTuple):
    """Row counts of one shard: each input row becomes an output row or a rejected row."""

    rows_in: int
    rows_out: int
    rejected: int = 0

    @property
    def balanced(self) -> bool:
        """Whether rows_in == rows_out + rejected."""
        return self.rows_in == self.rows_out + self.rejected


class Footer(NamedTuple):
    """The row counts of a shard, the number of rows of the file and, of rejected rows, the number for each reason."""

    counts: Counts
    n_rows: int
    reasons: Mapping[str, int]


REJECTED = pa.schema([("key", pa.string()), ("row", pa.int64()), ("reason", pa.string())])


def matrix_column(X: NDArray[np.floating]) -> pa.FixedSizeListArray:
    """Rows `[n, d]` -> fixed_size_list<float16>[d] of length n."""
    flat = pa.array(np.ascontiguousarray(X, dtype=np.float16).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, X.shape[1])


def matrix(column: pa.ChunkedArray | pa.Array) -> NDArray[np.float16]:
    """fixed_size_list<float16>[d] -> rows `[n, d]`. ValueError for another type or a null."""
    if not pa.types.is_fixed_size_list(column.type) or column.null_count:
        raise ValueError(f"expected a fixed_size_list column without nulls, got {column.type}")
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    dim = column.type.list_size
    rows = [chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim) for chunk in chunks]
    return np.concatenate(rows) if rows else np.empty((0, dim), np.float16)


def join_vectors(table: pa.Table | pa.RecordBatch, columns: VectorColumns) -> NDArray[np.float16]:
    """Concatenate vector columns of unit rows to unit rows `[n, sum of d]`.

    The cosine of two rows is the mean of their cosines in the columns, weighted if `columns` maps names to weights:
    each column is multiplied by the square root of its share of the weights.
    """
    parts = [matrix(table[column]) for column in columns]
    if len(parts) == 1:
        return parts[0]
    if not isinstance(columns, Mapping):
        return np.concatenate(parts, axis=1) / np.float16(len(parts) ** 0.5)
    shares = np.array(list(columns.values())) / sum(columns.values())
    return np.concatenate([X * np.float16(share**0.5) for X, share in zip(parts, shares, strict=True)], axis=1)


def write(
    table: pa.Table,
    path: Path,
    counts: Counts | None = None,
    metadata: Mapping[str, str] | None = None,
    row_group_size: int | None = None,
) -> None:
    """Write Parquet with the row counts of the shard and further `metadata` in its footer.

    A `row_group_size` lets a reader skip parts of an ordered table. Every page has a checksum.
    """
    footer = dict(metadata or {})
    if counts is not None:
        footer[COUNTS_KEY] = json.dumps(counts._asdict())
    table = table.replace_schema_metadata(footer)
    scalars = [f.name for f in table.schema if not pa.types.is_fixed_size_list(f.type)]  # vectors do not repeat
    pq.write_table(
        table, path, compression="zstd", use_dictionary=scalars, row_group_size=row_group_size, write_page_checksum=True
    )


def write_rejected(table: pa.Table, path: Path, counts: Counts) -> None:
    """Write REJECTED, with the number of rows for each reason in the footer."""
    reasons = Counter(table["reason"].to_pylist())
    write(table.cast(REJECTED), path, counts, {REASONS_KEY: json.dumps(reasons)})


def read(path: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A Parquet file of a run, or some of its columns. ValueError if a page does not match its checksum."""
    with _located(path) as (name, filesystem):
        return pq.read_table(name, columns=columns, filesystem=filesystem, page_checksum_verification=True)


def read_counts(path: str) -> Footer:
    """The counts in the footer. ValueError if those of the shard are missing or the file is damaged."""
    footer = read_footer(path)
    metadata = footer.metadata or {}
    if (counts := metadata.get(COUNTS_KEY.encode())) is None:
        raise ValueError(f"{path} has no row counts in its metadata: it was not written by this program")
    reasons = json.loads(metadata.get(REASONS_KEY.encode(), "{}"))
    return Footer(Counts(**json.loads(counts)), footer.num_rows, reasons)


def read_footer(path: str) -> pq.FileMetaData:
    """The footer of a Parquet file. ValueError if it is damaged."""
    with _located(path) as (name, filesystem):
        return pq.read_metadata(name, filesystem=filesystem)


@contextmanager
def _located(path: str) -> Iterator[tuple[str, Any]]:
    """The path and file system as Arrow takes them. Turns decoding errors into a ValueError that names the file."""
    (name,), filesystem = remote.arrow_filesystem([path])
    try:
        yield name, filesystem
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and (type(error) is not OSError or error.errno is not None):
            raise  # an error of the storage; Arrow's decoding errors have no errno
        raise ValueError(f"{path} is damaged ({error}). Remove it and run again to recompute it") from error


def read_schema(path: str) -> pa.Schema:
    """The schema of a Parquet file with its metadata. ValueError if the file is damaged."""
    return read_footer(path).schema.to_arrow_schema()


def batches(
    paths: Sequence[str], columns: Sequence[str], prefetch: int, where: pc.Expression | None = None
) -> Iterator[pa.RecordBatch]:
    """Columns of many Parquet files in order, with `prefetch` files read ahead, in memory independent of their number.

    `where` filters rows, and skips row groups by their statistics. ValueError if a file is damaged.
    """
    schema = None
    # in parts, because Arrow reads up to 1 GiB of a dataset ahead of a slow consumer, whatever the options
    for part in batched(paths, AT_ONCE * prefetch):
        files = _dataset(part, schema)
        schema = files.schema
        try:
            yield from files.to_batches(
                columns=list(columns), filter=where, fragment_readahead=prefetch, batch_readahead=prefetch
            )
        except OSError:
            for path in part:  # finds the damaged file, which Arrow does not name
                read(path, columns)
            raise


def exclusions(table: pa.Table | pa.RecordBatch) -> NDArray[np.object_]:
    """Why each row of ASSIGNMENTS is excluded by a decision of a person, `[n]`; None for a row that stays."""
    if EXCLUDED not in table.schema.names:
        return np.full(len(table), None, object)
    return np.array(table[EXCLUDED].to_pylist(), object)


def with_exclusions(path: str, columns: Sequence[str]) -> pa.Table:
    """Columns of a file of ASSIGNMENTS, with `excluded` if the run has it."""
    present = [EXCLUDED] if EXCLUDED in read_schema(path).names else []
    return read(path, [*columns, *present])


def vectors_of_keys(
    paths: Sequence[str], column: str, keys: Iterable[str], prefetch: int
) -> dict[str, NDArray[np.float32]]:
    """The vectors of the rows with these keys, `[n, d]` by key, since a key may be in several files. Reads all keys."""
    rows: dict[str, list[NDArray[np.float32]]] = {}
    requested = pc.field("key").isin(pa.array(sorted(set(keys)), pa.string()))
    for batch in batches(paths, ["key", column], prefetch, requested):
        for key, row in zip(batch["key"].to_pylist(), matrix(batch[column]).astype(np.float32), strict=True):
            rows.setdefault(key, []).append(row)
    return {key: np.stack(vectors) for key, vectors in rows.items()}


def _dataset(paths: Sequence[str], schema: pa.Schema | None = None) -> ds.Dataset:
    """The Parquet files as one Arrow dataset that verifies checksums of pages."""
    import pyarrow.dataset as ds  # not above: it imports pandas

    names, filesystem = remote.arrow_filesystem(paths)
    checked = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    return ds.dataset(names, schema, ds.ParquetFileFormat(default_fragment_scan_options=checked), filesystem=filesystem)


def align_batches(*streams: Iterator[pa.RecordBatch]) -> Iterator[tuple[pa.RecordBatch, ...]]:
    """Re-slice streams whose rows correspond, so that the batches yielded together have equal lengths.

    ValueError if one stream has fewer rows.
    """
    held: list[pa.RecordBatch | None] = [None] * len(streams)
    while True:
        held = [batch or next(filter(len, stream), None) for batch, stream in zip(held, streams, strict=True)]
        current = [batch for batch in held if batch is not None]
        if len(current) < len(streams):
            if current:
                raise ValueError(f"{len(current)} of {len(streams)} streams of rows are longer than the others")
            return
        n = min(map(len, current))
        yield tuple(batch.slice(0, n) for batch in current)
        held = [batch.slice(n) for batch in current]


def sample_rows(
    paths: Sequence[str],
    columns: VectorColumns,
    n: int,
    seed: int,
    prefetch: int,
    among: NDArray[np.bool_] | None = None,
) -> NDArray[np.float16]:
    """At most `n` rows of vector columns, joined to `[n, d]`; the rows of `sample_batches`."""
    drawn = sample_batches(paths, list(columns), n, seed, prefetch, among)
    return np.concatenate([join_vectors(batch, columns) for batch in drawn])


def sample_batches(
    paths: Sequence[str],
    columns: Sequence[str],
    n: int,
    seed: int,
    prefetch: int,
    among: NDArray[np.bool_] | None = None,
) -> Iterator[pa.RecordBatch]:
    """At most `n` rows, drawn from all files without replacement, in order; at least one batch.

    `among` marks the rows of all files that may be drawn, by default all. The choice depends only on it, the row
    counts, `n` and `seed`. ValueError if there are no rows.
    """
    total = _dataset(paths).count_rows()
    if total == 0:
        raise ValueError(f"there are no rows to sample in the {len(paths)} files of {', '.join(columns)}")
    chosen = np.arange(total) if among is None else np.flatnonzero(among)
    if len(chosen) > n:
        chosen = chosen[np.sort(np.random.default_rng(seed).choice(len(chosen), n, replace=False))]
    start = 0
    for batch in batches(paths, columns, prefetch):
        low, high = np.searchsorted(chosen, [start, start + len(batch)])
        if high > low:
            yield batch.take(pa.array(chosen[low:high] - start))
        start += len(batch)
