"""The run in one paragraph, for someone who reads nothing else. This module knows no files and no HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cpp.files.quantities import format_duration

PER_IMAGE = ("encode", "import", "project", "assign", "vote")  # steps whose rows are images
METHODS = {"kmeans": "k-means", "spectral": "spectral clustering"}


@dataclass(frozen=True)
class Facts:
    """What the paragraph reports. `k_metadata` is that of the tree on K; `encoders` has identities by column."""

    clustered: int
    rejected: int
    n_clusters: int
    k_was_set: bool
    k_metadata: Mapping[str, Any]
    named: int | None  # clusters with a sure name, None without a vocabulary
    seconds: Mapping[str, float]
    rates: Mapping[str, float | None]  # rows per second
    encoders: Mapping[str, Mapping[str, str]]


def summary(facts: Facts) -> list[str]:
    """The sentences of the paragraph."""
    images, rejected = facts.clustered + facts.rejected, f"{facts.rejected:,}" if facts.rejected else "none"
    sentences = [f"The run read {images:,} images: {facts.clustered:,} were clustered and {rejected} rejected."]
    sentences.append(_clusters(facts))
    if facts.named is not None:
        unsure = facts.n_clusters - facts.named
        sentences.append(
            f"{unsure:,} of {facts.n_clusters:,} clusters {'has' if unsure == 1 else 'have'} no sure name."
            if unsure
            else "Every cluster has a name."
        )
    return [*sentences, *_encoders(facts), _time(facts)]


def _clusters(facts: Facts) -> str:
    clusters = f"{facts.n_clusters:,} cluster{'s' * (facts.n_clusters != 1)}"
    if not facts.k_was_set:
        return f"The coding length chose {clusters}."
    low, high = facts.k_metadata["low"], facts.k_metadata["high"]
    chosen = f"between {low:,} and {high:,}" if low < high else f"{low:,}"
    return f"The configuration asks for {clusters}; the coding length alone would choose {chosen}."


def _encoders(facts: Facts) -> Sequence[str]:
    return [
        f"The encoder is {encoder['model']} with weights {encoder['pretrained']} (SHA-256 {encoder['sha256'][:12]}…)."
        for encoder in facts.encoders.values()
    ] or ["The vectors were imported, not computed by this run."]


def _time(facts: Facts) -> str:
    slowest = max(facts.seconds, key=facts.seconds.__getitem__, default=None)
    if slowest is None:
        return "No time was recorded."
    rate = facts.rates.get(slowest)
    pace = f", {rate:,.0f} images/s" if rate and slowest in PER_IMAGE else ""
    total, most = format_duration(sum(facts.seconds.values())), format_duration(facts.seconds[slowest])
    return f"The steps took {total} of work; the slowest was {slowest} ({most}{pace})."


def how_partitioned(metadata: Mapping[str, Any]) -> str:
    """A sentence from the method of a partition, the silhouettes that chose it and the candidates for K."""
    scores = " and ".join(f"{METHODS[method]} {value:.3f}" for method, value in metadata["silhouettes"].items())
    compared = f"; the silhouettes were {scores}" if scores else ""
    sentence = f"The sample was partitioned by {METHODS[metadata['method']]}{compared}."
    if lengths := metadata.get("candidates"):
        best = min(lengths, key=lengths.__getitem__)
        numbers = ", ".join(map(str, lengths))
        sentence += f" Of {numbers} clusters, each partitioned anew, {best} have the least coding length."
    return sentence
