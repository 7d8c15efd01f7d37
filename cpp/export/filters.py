"""Which images are exported: those of some clusters, of some confidence, at most n of each cluster. Knows no files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Filter:
    """`clusters` of the exported layer, None for all; `min_confidence` from 0 to 1; at most `per_cluster` images."""

    clusters: frozenset[int] | None = None
    min_confidence: float | None = None
    per_cluster: int | None = None


class Passed(NamedTuple):
    """Which rows pass, `[n]`, and the number of rows left out, by reason."""

    keep: NDArray[np.bool_]
    left_out: Counter[str]


def passing(
    cluster: NDArray[np.integer],
    confidence: NDArray[np.floating],
    wanted: Filter,
    dropped: Mapping[str, NDArray[np.int64]] | None = None,
) -> Passed:
    """Apply all of a filter but `per_cluster` to rows with a `cluster` `[n]` and a `confidence` `[n]`, NaN if unknown.

    `dropped` has the rows that curation dropped, by reason. They are removed first; a row counts for one reason only.
    """
    keep, left_out = np.ones(len(cluster), np.bool_), Counter[str]()
    for reason, rows in (dropped or {}).items():
        keep[rows] = False
        left_out[f"dropped by curation: {reason}"] += len(rows)
    if wanted.clusters is not None:
        other = keep & ~np.isin(cluster, list(wanted.clusters))
        left_out["of a cluster that was not asked for"] += int(other.sum())
        keep &= ~other
    if wanted.min_confidence is not None:
        low = keep & ~(confidence >= wanted.min_confidence)
        left_out[f"of a confidence below {wanted.min_confidence:g}, or without one"] += int(low.sum())
        keep &= ~low
    return Passed(keep, +left_out)
