"""Contradictions between the decisions of one round, which name clusters by the same numbers. Knows no results."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from pipelines.config.decisions import Cluster, Entry, Round, entries_of
from pipelines.config.errors import ConfigError

ANYWHERE = ({"split", "merge"}, {"split", "drop"})  # pairs of actions on a cluster that contradict each other
BETWEEN_FILES = (*ANYWHERE, {"drop", "merge"}, {"drop", "rename"}, {"split", "rename"})


def check(rounds: Sequence[Round]) -> None:
    """ConfigError that lists all contradictions, with both files, if there are any."""
    faults = list(dict.fromkeys(fault for each in rounds for fault in _contradictions(each)))
    if faults:
        remedy = "nothing is applied: remove one decision of each pair, or decide again on the page of the run"
        raise ConfigError("\n".join(["decisions contradict each other:", *(f"  {fault}" for fault in faults), remedy]))


def _contradictions(one: Round) -> Iterator[str]:
    """A sentence for every contradiction of a round, by cluster."""
    merged = merged_clusters(entries_of(one))
    for cluster, (first, second) in _pairs(one):
        actions = {first.decision.action, second.decision.action}
        if actions in (ANYWHERE if first.file == second.file else BETWEEN_FILES) or _drops_before_merge(first, second):
            yield f"{cluster}: {first.place} and {second.place}"
    names: dict[int, dict[str, tuple[Cluster, Entry]]] = defaultdict(dict)
    for entry in entries_of(one):
        if entry.decision.name:  # the last one of a file counts
            cluster = entry.decision.clusters[0]
            names[merged.get(cluster.cluster, cluster.cluster)][entry.file] = cluster, entry
    for of_cluster in names.values():
        for (cluster, first), (_, second) in itertools.combinations(of_cluster.values(), 2):
            if first.decision.name != second.decision.name:
                texts = f"{first.decision.name!r} in {first.place}, {second.decision.name!r} in {second.place}"
                yield f"{cluster}: two names, {texts}"


def _pairs(one: Round) -> Iterator[tuple[Cluster, tuple[Entry, Entry]]]:
    """All pairs of decisions about the same cluster, in order."""
    by_cluster: dict[int, list[tuple[Cluster, Entry]]] = defaultdict(list)
    for entry in entries_of(one):
        for cluster in entry.decision.clusters:
            by_cluster[cluster.cluster].append((cluster, entry))
    for entries in by_cluster.values():
        for (cluster, first), (_, second) in itertools.combinations(entries, 2):
            yield cluster, (first, second)


def _drops_before_merge(first: Entry, second: Entry) -> bool:
    return first.decision.action == "drop" and second.decision.action == "merge"


def merged_clusters(entries: Iterable[Entry]) -> dict[int, int]:
    """The clusters that the merges of a round join, each with the number that stands for all of them."""
    number: dict[int, int] = {}
    for entry in entries:
        if entry.decision.action == "merge":
            joined = {number.get(c.cluster, c.cluster) for c in entry.decision.clusters}
            number |= {c.cluster: min(joined) for c in entry.decision.clusters}
            number |= {k: min(joined) for k, of in number.items() if of in joined}
    return number
