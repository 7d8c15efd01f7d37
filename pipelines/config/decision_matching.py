"""Match decisions with clusters: each is recognised by where most of its typical images are now. Reads no files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.config.decision_conflicts import merged_clusters
from pipelines.config.decisions import Cluster, Entry

REMEDY = "nothing is applied: remove these decisions from the file, or decide again on the page of this run"


class Match(NamedTuple):
    """A cluster that a decision names: its number now, and the fine groups of those of its images that are in it."""

    entry: Entry
    cluster: Cluster
    now: int
    groups: list[int]


def keys_of(entries: Iterable[Entry]) -> set[str]:
    """The keys of all images that decisions name."""
    decisions = [entry.decision for entry in entries]
    members = {key for decision in decisions for cluster in decision.clusters for key in cluster.members}
    return members | {key for decision in decisions for key in decision.images}


def match(
    entries: Sequence[Entry], groups_of_key: Mapping[str, Sequence[int]], labels: NDArray[np.int64]
) -> list[list[Match]]:
    """The clusters of each decision of a round now, in order; `labels` `[F]` is the cluster of each fine group.

    ValueError that names every decision whose cluster is not found, or whose clusters are one now and should not be.
    """
    from cpp.clustering.recut import majority

    matches, faults = list[list[Match]](), list[str]()
    for entry in entries:
        matches.append([])
        for cluster in entry.decision.clusters:
            groups = [group for key in cluster.members for group in groups_of_key.get(key, ())]
            now = majority([int(labels[group]) for group in groups], len(cluster.members))
            if now is None:
                present = sum(key in groups_of_key for key in cluster.members)
                faults.append(
                    f"{entry.place}: {cluster} is not a cluster of this run: of its {len(cluster.members)} typical "
                    f"images {present} are in this run, and no cluster has more than half of them"
                )
            else:
                matches[-1].append(Match(entry, cluster, now, [group for group in groups if labels[group] == now]))
    refuse([*faults, *_joined(matches)])
    return matches


def refuse(faults: Sequence[str]) -> None:
    """ValueError with all faults, if there are any."""
    if faults:
        raise ValueError("\n".join(["decisions do not fit this run:", *(f"  {fault}" for fault in faults), REMEDY]))


def _joined(matches: Sequence[Sequence[Match]]) -> Iterator[str]:
    """A sentence for each two clusters of a round that are one now, unless the round merges them."""
    number = merged_clusters(entry_matches[0].entry for entry_matches in matches if entry_matches)
    first: dict[int, Match] = {}
    for one in (one for of_entry in matches for one in of_entry):
        before = first.setdefault(one.now, one)
        a, b = before.cluster, one.cluster
        if a.cluster != b.cluster and number.get(a.cluster, a.cluster) != number.get(b.cluster, b.cluster):
            yield f"{before.entry.place} and {one.entry.place}: {a} and {b} are one cluster in this run"
