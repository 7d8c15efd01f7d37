"""Row accounting: check rows_in == rows_out + rejected, and between steps, from each file's footer.

The counts of a step with many shards are stored in the cache, under a fingerprint of the names, sizes and modification
times of the files that they were read from. If one of these files changes, the footers of all are read again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cpp.files import scratch, tables
from cpp.files.integrity import damage
from cpp.files.iterables import map_threads
from cpp.files.tables import Counts, read_counts
from cpp.store.local import Store
from cpp.store.results import Product, fingerprint
from pipelines.engine.plan import Step
from pipelines.engine.shard_index import FilePaths, ShardFiles, ShardNames

THREADS = 16  # footers read at the same time
MANY = 1000  # shards from which on the counts are stored
ACCOUNTS = Product("accounts")

Rows = NDArray[np.int64]  # `[shards, 3]`: the fields of `Counts`


class AccountingError(RuntimeError):
    """Rows are missing, or there are more than came in."""


class DamagedError(AccountingError):
    """Result files are cut off or overwritten. `files` lists their product, path and damage."""

    def __init__(self, step: str, files: list[tuple[Product, str, str]]) -> None:
        self.files = files
        _, path, reason = files[0]
        others = f", and {len(files) - 1} more" if files[1:] else ""
        super().__init__(f"{step}: {path} is damaged ({reason}){others}. Remove it and run again to recompute it")


class RowAccounting:
    """Checks the steps of a run in order, and remembers the output rows of each shard for the steps that follow."""

    def __init__(self, store: Store) -> None:
        self._store = store
        # product -> shards and output rows of each
        self._rows_out: dict[str, tuple[ShardNames, NDArray[np.int64]]] = {}

    def check(self, step: Step) -> Counts | None:
        """Check all finished shards and return the sum of their counts; None for a step that runs once.

        Raises AccountingError if rows do not add up, DamagedError if files cannot be read.
        """
        results = step.results()
        stored = self._stored_path(step, results)
        counts = self._load(stored) if stored else None
        if counts is None:
            counts = self._count(step, results)
            if stored:
                with self._store.commit({ACCOUNTS.name: stored}) as out:
                    columns = dict(zip(Counts._fields, counts.T, strict=True))
                    tables.write(pa.table(columns), out[ACCOUNTS.name])
        main = step.stage.products[0]
        if main.rows:
            self._rows_out[main.name] = step.done, counts[:, 1]
        return Counts(*counts.sum(axis=0).tolist()) if step.stage.each else None

    def _stored_path(self, step: Step, results: Mapping[str, ShardFiles]) -> str | None:
        """The file for the counts of a step; None if they are not stored: for few shards, and in a bucket."""
        if len(step.done) < MANY:
            return None
        try:
            stamps = [_stamp(FilePaths(files)) for files in results.values()]
        except FileNotFoundError:
            return None
        rows_in = {
            kind: fingerprint(self._rows_out[kind][1].tolist()) for kind in step.stage.each if kind in self._rows_out
        }
        return str(self._store.path(ACCOUNTS, step.name, fingerprint(stamps, rows_in)))

    def _load(self, path: str) -> Rows | None:
        if Path(path).name not in self._store.listing(ACCOUNTS) or damage(path):
            return None
        with scratch.local_copy(path) as local:
            table = tables.read(local)
        return np.stack([table[field].to_numpy() for field in Counts._fields], axis=1)

    def _count(self, step: Step, results: Mapping[str, ShardFiles]) -> Rows:
        """Read and check the counts of every shard, which the footers of all its tables repeat."""
        counts, damaged = [], []
        rows_in = {kind: self._rows_in(kind, step.done) for kind in step.stage.each if kind in self._rows_out}
        for product in step.stage.products:
            files, has_counts = results[product.name], bool(step.stage.each) and product.suffix == ".parquet"
            paths = FilePaths(files) if product.suffix else ()
            rows = np.zeros((len(files), len(Counts._fields)), np.int64)
            read = _read_footer if has_counts else damage
            for i, footer in enumerate(map_threads(read, paths, THREADS, 4 * THREADS)):
                if isinstance(footer, str):
                    damaged.append((product, paths[i], footer))
                elif footer is not None:
                    rows[i], n_rows = footer
                    source = {kind: int(column[i]) for kind, column in rows_in.items()}
                    if problem := _imbalance(product, footer[0], n_rows, source):
                        raise AccountingError(
                            f"{step.name}, shard {step.done[i]}: {problem}. Remove {paths[i]} and run again"
                        )
            counts += [rows] if has_counts else []
        if damaged:
            raise DamagedError(step.name, damaged)
        if not counts:
            return np.zeros((len(step.done), len(Counts._fields)), np.int64)
        for i in np.flatnonzero((np.stack(counts) != counts[0]).any(axis=(0, 2))).tolist():
            tables_of_shard = ", ".join(files.file(i).path for files in results.values())
            raise AccountingError(
                f"{step.name}, shard {step.done[i]}: rows do not add up: its files have different counts, so they are "
                f"from different attempts. Remove {tables_of_shard} and run again"
            )
        return counts[0]

    def _rows_in(self, kind: str, names: ShardNames) -> NDArray[np.int64]:
        """Input rows of these shards: the output rows of the step that wrote `kind`."""
        shards, rows = self._rows_out[kind]
        return rows[shards.positions(names)]


def _stamp(paths: Iterable[str]) -> str:
    """A digest that changes with the name, size or modification time of any file."""
    digest = hashlib.sha256()
    for path in paths:
        stat = os.stat(path)
        digest.update(f"{os.path.basename(path)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _read_footer(path: str) -> tuple[Counts, int] | str:
    """Counts and number of rows of a table, or its damage."""
    try:
        return read_counts(path)
    except ValueError as error:
        return damage(path) or str(error.__cause__ or error)


def _imbalance(product: Product, counts: Counts, n_rows: int, source: Mapping[str, int]) -> str | None:
    """Describe a table whose rows do not add up; `source` has the rows of its shard in each input."""
    expected = {"out": counts.rows_out, "rejected": counts.rejected, None: n_rows}[product.rows]
    if counts.balanced and n_rows == expected and not set(source.values()) - {counts.rows_in}:
        return None
    return (
        f"rows do not add up: {dict(source) or 'the source'} came in; counted {counts.rows_in} in, "
        f"{counts.rows_out} out, {counts.rejected} rejected; {product.name} has {n_rows} rows"
    )
