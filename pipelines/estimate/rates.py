"""Measured rates of steps: what an estimate uses for a step that the run's event log does not know yet.

Knows no run. A step that is not listed has no rate that would hold on another machine, or for more rows; its time is
unknown until it has worked on a shard.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Rate(NamedTuple):
    """Rows per second of one worker with one CPU, and bytes written per row; None where it was not measured."""

    rows_per_second: float | None
    bytes_per_row: float | None


# One core of an AMD EPYC, 768-d vectors and 200 words, ten million rows (tests/bench/RESULTS.md, "bench-scale"); bytes
# are scaled to 512-d vectors. The steps of curation: 4,114 rows of Caltech-101 on the same machine on 2026-11-27.
RATES: Mapping[str, Rate] = {
    "encode": Rate(None, 940),  # depends on the model and the GPU
    "import": Rate(12_000, 940),
    "project": Rate(90_000, 240),
    "measure": Rate(24_000, 0),
    "assign": Rate(25_000, 30),
    "vote": Rate(28_500, 1330),
    "label": Rate(25 * 10_000, 0),  # 25 shards of 10,000 rows a second
    "labels": Rate(80_000, 15),
    "scatter": Rate(3_300, 1000),
    "search": Rate(31_000, 18),
    "duplicates": Rate(4_500, 100),
    "oddities": Rate(12_500, 20),
    "outliers": Rate(200_000, 21),
    "curate": Rate(150_000, 10),
}
WORKER_MEMORY = 1.5e9  # bytes of one worker with shards of 10,000 rows, at most (the same measurement)
