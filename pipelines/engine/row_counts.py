"""Row accounting: check rows_in == rows_out + rejected, and between steps, from each file's footer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cpp.files.integrity import damage
from cpp.files.iterables import map_threads
from cpp.files.tables import Counts, Footer, read_counts
from cpp.store.results import Product
from pipelines.engine.plan import Step
from pipelines.engine.shard_index import FilePaths, ShardNames

THREADS = 16  # footers read at the same time


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
    """Checks the steps of a run in order, and remembers the output rows of each shard for the steps that follow.

    `reasons` has the number of rejected rows for each reason by step, `outdated` the shards of the last step that
    another reading may give more rows.
    """

    def __init__(self) -> None:
        self.reasons: dict[str, Counter[str]] = {}
        self.outdated: list[str] = []
        self._rows_out: dict[str, tuple[ShardNames, NDArray[np.int64]]] = {}  # product -> shards and their output rows

    def check(self, step: Step) -> Counts | None:
        """Check all finished shards and return the sum of their counts; None for a step that runs once.

        Raises AccountingError if rows do not add up, DamagedError if files cannot be read.
        """
        counts = self._count(step)
        main = step.stage.products[0]
        if main.rows:
            self._rows_out[main.name] = step.done, counts[:, 1]
        return Counts(*counts.sum(axis=0).tolist()) if step.stage.each else None

    def _count(self, step: Step) -> NDArray[np.int64]:
        """Read and check the counts of every shard `[shards, 3]`, which the footers of all its tables repeat."""
        results, counts, damaged = step.results(), [], []
        reasons = self.reasons[step.name] = Counter[str]()
        self.outdated = []
        rows_in = {kind: self._rows_in(kind, step.done) for kind in step.stage.each if kind in self._rows_out}
        for product in step.stage.products:
            files, has_counts = results[product.name], bool(step.stage.each) and product.suffix == ".parquet"
            paths = FilePaths(files) if product.suffix else ()
            rows = np.zeros((len(files), 3), np.int64)
            read = _read_footer if has_counts else damage
            for i, footer in enumerate(map_threads(read, paths, THREADS, 4 * THREADS)):
                if isinstance(footer, str):
                    damaged.append((product, paths[i], footer))
                elif footer is not None:
                    rows[i], n_rows, of_shard = footer
                    reasons.update(of_shard)
                    self.outdated += [step.done[i]] if step.stage.is_outdated(of_shard) else []
                    source = {kind: int(column[i]) for kind, column in rows_in.items()}
                    if problem := _imbalance(product, footer.counts, n_rows, source):
                        raise AccountingError(
                            f"{step.name}, shard {step.done[i]}: {problem}. Remove {paths[i]} and run again"
                        )
            counts += [rows] if has_counts else []
        if damaged:
            raise DamagedError(step.name, damaged)
        if not counts:
            return np.zeros((len(step.done), 3), np.int64)
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


def _read_footer(path: str) -> Footer | str:
    """The counts in the footer of a table, or its damage."""
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
