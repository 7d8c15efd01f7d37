"""What became of the inputs of a run: files, pictures, rows, rejected and ignored, for its summary and `run.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from cpp.files import scratch, tables
from cpp.files.iterables import map_threads
from cpp.files.tables import Counts
from cpp.sources.ignored import FileCounts

THREADS = 16  # files read at the same time
MANY = 1000  # shards from which on the reasons of rejected rows are not counted


def source_counts(files: FileCounts, rows: Counts, rejected: list[str]) -> dict[str, Any]:
    """The numbers; `rejected` are the paths of the tables of rejected rows."""
    reasons = Counter[str]()
    if rows.rejected and len(rejected) <= MANY:
        for column in map_threads(_reasons, rejected, THREADS, 4 * THREADS):
            reasons.update(column)
    return {
        "files": files.files,
        "pictures": rows.rows_in,
        "rows": rows.rows_out,
        "rejected": rows.rejected,
        "ignored": files.ignored.total(),
        "rejected_reasons": dict(reasons.most_common()),
        "ignored_reasons": dict(files.ignored.most_common()),
    }


def sentence(counts: dict[str, Any], unit: str) -> str:
    """One line about the inputs; `unit` is what a row of the input is."""
    why = ", ".join(f"{n:,} {reason}" for reason, n in counts["rejected_reasons"].items())
    return (
        f"inputs: {counts['files']:,} files, {counts['pictures']:,} {unit}, {counts['rows']:,} rows, "
        f"{counts['rejected']:,} rejected{f' ({why})' if why else ''}, {counts['ignored']:,} ignored"
    )


def _reasons(path: str) -> Iterable[str]:
    with scratch.local_copy(path) as local:
        return list(tables.read(local, columns=["reason"])["reason"].to_pylist())
