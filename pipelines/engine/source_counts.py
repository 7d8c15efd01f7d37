"""What became of the inputs of a run: files, pictures, rows, rejected and ignored, for its summary and `run.json`."""

from __future__ import annotations

from collections import Counter
from typing import Any

from cpp.files.tables import Counts
from cpp.sources.ignored import FileCounts


def source_counts(files: FileCounts, rows: Counts, reasons: Counter[str]) -> dict[str, Any]:
    """The numbers; `reasons` has that of the rejected rows for each reason."""
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
