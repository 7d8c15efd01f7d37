"""Arrow tables of a run: matrices as columns, rows as Parquet, and how many rows went in and came out.

The schemas, one row for each image and in the order of the input:
  FEATURES     key: string, embedding: fixed_size_list<float16>[d] (embedding_2, ... of further encoders),
               image_shard: string, and the metadata as it came
  REJECTED     key: string, row: int64 (its place in the input shard), reason: string
  CODES        key: string, code: fixed_size_list<float16>[d]
  ASSIGNMENTS  key, cluster: int32, score: float32, second: int32, margin: float32, image_shard, metadata
  LABELS       key, label: string, confidence: float32, word: string, agrees: bool (`cpp.naming.cluster_table`)
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cpp.files import filesystem as remote

COUNTS_KEY = "cpp.counts"
EMBEDDING = "embedding"
CHECKED = ds.ParquetFileFormat(
    default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True)
)
AT_ONCE = 4  # times the files that are read ahead are one data set of Arrow's


class Counts(NamedTuple):
    """Rows of one shard: every row that came in went out or was rejected with a reason."""

    rows_in: int
    rows_out: int
    rejected: int = 0

    @property
    def balanced(self) -> bool:
        return self.rows_in == self.rows_out + self.rejected


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


def join_vectors(table: pa.Table | pa.RecordBatch, columns: Sequence[str]) -> NDArray[np.float16]:
    """Vector columns side by side, `[n, sum of d]`: of unit rows unit rows again, in which each counts the same."""
    parts = [matrix(table[column]) for column in columns]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1) / np.float16(len(parts) ** 0.5)


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


def read(path: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A Parquet file of a run, or some columns of it. ValueError where a page is not what was written."""
    (name,), filesystem = remote.arrow_filesystem([path])
    with _damage_said(path):
        return pq.read_table(name, columns=columns, filesystem=filesystem, page_checksum_verification=True)


def read_counts(path: str) -> tuple[Counts, int]:
    """The counts that `write` put in the metadata, and the number of rows.

    ValueError where there are no counts, or the file is damaged.
    """
    footer = read_footer(path)
    found = (footer.metadata or {}).get(COUNTS_KEY.encode())
    if found is None:
        raise ValueError(f"{path} has no row counts in its metadata: it was not written by this program")
    return Counts(**json.loads(found)), footer.num_rows


def read_footer(path: str) -> pq.FileMetaData:
    """What a Parquet file says of itself. ValueError where it is damaged."""
    (name,), filesystem = remote.arrow_filesystem([path])
    with _damage_said(path):
        return pq.read_metadata(name, filesystem=filesystem)


@contextmanager
def _damage_said(path: str) -> Iterator[None]:
    """Errors in the bytes of a file as a ValueError that names it; those of the storage as they are."""
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and (type(error) is not OSError or error.errno is not None):
            raise  # Arrow's own have no number
        raise ValueError(f"{path} is damaged ({error}). Remove it and run again: it is made anew") from error


def read_schema(path: str) -> pa.Schema:
    """The columns of a Parquet file, and what its metadata says."""
    (name,), filesystem = remote.arrow_filesystem([path])
    return pq.read_schema(name, filesystem=filesystem)


def batches(
    paths: Sequence[str], columns: Sequence[str], prefetch: int, where: pc.Expression | None = None
) -> Iterator[pa.RecordBatch]:
    """Columns of many Parquet files in order, `prefetch` files read ahead. Memory does not grow with their number.

    Only rows `where` it holds; groups of rows in which it cannot are not read. ValueError where a file is damaged.
    """
    schema = None
    for start in range(0, len(paths), AT_ONCE * prefetch):
        # of one data set Arrow reads up to a GiB ahead where its reader is slow, whatever it is told
        some = paths[start : start + AT_ONCE * prefetch]
        files = _dataset(some, schema)
        schema = files.schema
        try:
            yield from files.to_batches(
                columns=list(columns), filter=where, fragment_readahead=prefetch, batch_readahead=prefetch
            )
        except OSError:
            for path in some:  # which one it is, Arrow does not say
                read(path, columns)
            raise


def _dataset(paths: Sequence[str], schema: pa.Schema | None = None) -> ds.Dataset:
    names, filesystem = remote.arrow_filesystem(paths)
    return ds.dataset(names, schema, format=CHECKED, filesystem=filesystem)


def align_batches(*streams: Iterator[pa.RecordBatch]) -> Iterator[tuple[pa.RecordBatch, ...]]:
    """Batches of several streams of rows that belong together row for row, cut so that they have the same rows.

    ValueError where one stream has fewer rows.
    """
    held: list[pa.RecordBatch | None] = [None] * len(streams)
    while True:
        for i, stream in enumerate(streams):
            while (batch := held[i]) is None or not len(batch):
                held[i] = batch = next(stream, None)
                if batch is None:
                    break
        there = [batch for batch in held if batch is not None]
        if len(there) < len(streams):
            if there:
                raise ValueError(f"{len(there)} of {len(streams)} streams of rows are longer than the others")
            return
        n = min(map(len, there))
        yield tuple(batch.slice(0, n) for batch in there)
        held = [batch.slice(n) for batch in there]


def sample_rows(paths: Sequence[str], columns: Sequence[str], n: int, seed: int, prefetch: int) -> NDArray[np.float16]:
    """At most `n` rows `[n, d]` of vector columns, `joined`; which ones says `sampled`."""
    return np.concatenate([join_vectors(batch, columns) for batch in sample_batches(paths, columns, n, seed, prefetch)])


def sample_batches(
    paths: Sequence[str], columns: Sequence[str], n: int, seed: int, prefetch: int
) -> Iterator[pa.RecordBatch]:
    """At most `n` rows, drawn over all files without replacement, in their order; at least one batch.

    Which rows is a function of the row counts, `n` and `seed` alone. Only rows that were drawn are kept in memory.
    ValueError where there are no rows.
    """
    total = _dataset(paths).count_rows()
    if total == 0:
        raise ValueError(f"there are no rows to sample in the {len(paths)} files of {', '.join(columns)}")
    chosen = np.arange(total)
    if total > n:
        chosen = np.sort(np.random.default_rng(seed).choice(total, n, replace=False))
    start = 0
    for batch in batches(paths, columns, prefetch):
        low, high = np.searchsorted(chosen, [start, start + len(batch)])
        if high > low:
            yield batch.take(pa.array(chosen[low:high] - start))
        start += len(batch)
