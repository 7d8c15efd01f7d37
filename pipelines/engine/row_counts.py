"""Row accounting: check rows_in == rows_out + rejected, and between steps, from each file's footer.

The counts of a step with many shards are stored in the cache, under a fingerprint of the names, sizes and modification
times of the files that they were read from. If one of these files changes, the footers of all are read again.
"""

from __future__ import annotations

from collections.abc import Mapping
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
        if not step.stage.each:
            files = [(p, path) for p in step.stage.products if p.suffix for path in FilePaths(results[p.name])]
            if damaged := [(product, path, reason) for product, path in files if (reason := damage(path))]:
                raise DamagedError(step.name, damaged)
            return None
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
            self._rows_out[main.name] = results[main.name].names, counts[:, 1]
        return Counts(*counts.sum(axis=0).tolist())

    def _stored_path(self, step: Step, results: Mapping[str, ShardFiles]) -> str | None:
        """The file for the counts of a step; None if they are not stored."""
        if len(step.done) < MANY:
            return None
        stamps = [self._store.version_digest(FilePaths(files)) for files in results.values()]
        if None in stamps:
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
        counts, damaged = list[Rows](), []
        for product in step.stage.products:
            files = results[product.name]
            if product.suffix != ".parquet":
                reasons = zip(
                    FilePaths(files), map_threads(damage, FilePaths(files), THREADS, 4 * THREADS), strict=True
                )
                damaged += [(product, path, reason) for path, reason in reasons if reason]
                continue
            rows_in = {kind: self._rows_in(kind, files.names) for kind in step.stage.each if kind in self._rows_out}
            rows = np.zeros((len(files), len(Counts._fields)), np.int64)
            for i, footer in enumerate(map_threads(_read_footer, FilePaths(files), THREADS, 4 * THREADS)):
                if isinstance(footer, str):
                    damaged.append((product, files.file(i).path, footer))
                    continue
                rows[i], n_rows = footer
                source = {kind: int(column[i]) for kind, column in rows_in.items()}
                if problem := _imbalance(product, footer[0], n_rows, source):
                    raise AccountingError(
                        f"{step.name}, shard {files.names[i]}: {problem}. Remove {files.file(i).path} and run again"
                    )
            counts.append(rows)
        if damaged:
            raise DamagedError(step.name, damaged)
        if not counts:
            return np.zeros((len(step.done), len(Counts._fields)), np.int64)
        for i in np.flatnonzero((np.stack(counts) != counts[0]).any(axis=(0, 2))).tolist():
            paths = ", ".join(files.file(i).path for files in results.values())
            raise AccountingError(
                f"{step.name}, shard {step.done[i]}: rows do not add up: its files have different counts, so they are "
                f"from different attempts. Remove {paths} and run again"
            )
        return counts[0]

    def _rows_in(self, kind: str, names: ShardNames) -> NDArray[np.int64]:
        """Input rows of these shards: the output rows of the step that wrote `kind`."""
        shards, rows = self._rows_out[kind]
        return rows if shards is names else rows[[shards.at(name) for name in names]]


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
