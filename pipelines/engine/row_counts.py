"""Rows in equal rows out plus rejected, for every shard that is done: what the files say themselves, checked, summed.

Of a step with many shards the sums are kept with the other results, under a name that is made of the names, sizes and
times of change of all files that they were read from. Where a file was made anew, changed or cut off there is no such
name and all footers are read again, so what is kept cannot be out of date.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cpp.files import scratch, tables
from cpp.files.integrity import damage
from cpp.files.iterables import ahead
from cpp.files.tables import Counts, read_counts
from cpp.store.local import Store
from cpp.store.results import Product, fingerprint
from pipelines.engine.plan import Step
from pipelines.engine.shard_index import Made, Names, Paths

THREADS = 16  # that wait for footers
MANY = 1000  # shards: of fewer the footers are read in no time
ACCOUNTS = Product("accounts")

Rows = NDArray[np.int64]  # `[shards, 3]`: the fields of `Counts`


class AccountingError(RuntimeError):
    """Rows went missing, or came from nowhere."""


class DamagedError(AccountingError):
    """Results that were whole once and are cut off or overwritten: `files` are their products, paths and why."""

    def __init__(self, step: str, files: list[tuple[Product, str, str]]) -> None:
        self.files = files
        _, path, why = files[0]
        others = f", and {len(files) - 1} more" if files[1:] else ""
        super().__init__(f"{step}: {path} is damaged ({why}){others}. Remove it and run again: it is made anew")


class RowAccounting:
    """The rows of every shard, as far as steps were checked."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._out: dict[str, tuple[Names, Rows]] = {}  # product -> shards, and rows that came out of each

    def check(self, step: Step) -> Counts | None:
        """Check that for every shard that is done all rows are there, and add them up. None for what runs once.

        AccountingError where they are not, DamagedError where files cannot be read.
        """
        if not step.stage.each:
            return None
        results = step.results()
        kept = self._kept(step, results)
        counts = self._read(kept) if kept else None
        if counts is None:
            counts = self._counted(step, results)
            if kept:
                with self._store.commit({ACCOUNTS.name: kept}) as out:
                    columns = dict(zip(Counts._fields, counts.T, strict=True))
                    tables.write(pa.table(columns), out[ACCOUNTS.name])
        main = step.stage.products[0]
        if main.rows:
            self._out[main.name] = results[main.name].names, counts[:, 1]
        return Counts(*counts.sum(axis=0).tolist())

    def _kept(self, step: Step, results: Mapping[str, Made]) -> str | None:
        """Where the sums of a step are kept, None where they are not."""
        if len(step.done) < MANY:
            return None
        stamps = [self._store.stamp(Paths(made)) for made in results.values()]
        if None in stamps:
            return None
        came = {kind: fingerprint(self._out[kind][1].tolist()) for kind in step.stage.each if kind in self._out}
        return str(self._store.path(ACCOUNTS, step.name, fingerprint(stamps, came)))

    def _read(self, path: str) -> Rows | None:
        if Path(path).name not in self._store.listing(ACCOUNTS) or damage(path):
            return None
        with scratch.borrowed(path) as local:
            table = tables.read(local)
        return np.stack([table[field].to_numpy() for field in Counts._fields], axis=1)

    def _counted(self, step: Step, results: Mapping[str, Made]) -> Rows:
        """The counts of every shard, which all its files have in their footers."""
        found, damaged = list[Rows](), []
        for product in step.stage.products:
            made = results[product.name]
            if product.suffix != ".parquet":
                ends = zip(Paths(made), ahead(damage, Paths(made), THREADS, 4 * THREADS), strict=True)
                damaged += [(product, path, why) for path, why in ends if why]
                continue
            came = {kind: self._came(kind, made.names) for kind in step.stage.each if kind in self._out}
            rows = np.zeros((len(made), len(Counts._fields)), np.int64)
            for i, footer in enumerate(ahead(_footer, Paths(made), THREADS, 4 * THREADS)):
                if isinstance(footer, str):
                    damaged.append((product, made.file(i).path, footer))
                    continue
                _balance(step.name, product, made, i, *footer, {k: int(of[i]) for k, of in came.items()})
                rows[i] = footer[0]
            found.append(rows)
        if damaged:
            raise DamagedError(step.name, damaged)
        if not found:
            return np.zeros((len(step.done), len(Counts._fields)), np.int64)
        for i in np.flatnonzero((np.stack(found) != found[0]).any(axis=(0, 2))).tolist():
            paths = ", ".join(made.file(i).path for made in results.values())
            raise AccountingError(
                f"{step.name}, shard {step.done[i]}: rows do not add up: its files are of attempts that went "
                f"differently. Remove {paths} and run again"
            )
        return found[0]

    def _came(self, kind: str, names: Names) -> Rows:
        """The rows of these shards that came out of the step that made `kind`."""
        known, out = self._out[kind]
        return out if known is names else out[[known.at(name) for name in names]]


def _footer(path: str) -> tuple[Counts, int] | str:
    """The counts and the rows of a file, or what is wrong with it."""
    try:
        return read_counts(path)
    except ValueError as error:
        return damage(path) or str(error.__cause__ or error)


def _balance(
    step: str, product: Product, made: Made, i: int, counts: Counts, rows: int, came: Mapping[str, int]
) -> None:
    expected = {"out": counts.rows_out, "rejected": counts.rejected, None: rows}[product.rows]
    if not counts.balanced or rows != expected or set(came.values()) - {counts.rows_in}:
        raise AccountingError(
            f"{step}, shard {made.names[i]}: rows do not add up: {dict(came) or 'the source'} came in; "
            f"counted {counts.rows_in} in, {counts.rows_out} out, {counts.rejected} rejected; "
            f"{product.name} has {rows} rows. Remove {made.file(i).path} and run again"
        )
