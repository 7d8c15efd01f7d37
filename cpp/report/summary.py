"""The run in one paragraph, for someone who reads nothing else. Knows no files and no HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Facts:
    """What the paragraph is about. `about` is what the tree says of K; `encoders` their identities by column."""

    clustered: int
    rejected: int
    n_clusters: int
    asked: bool  # whether somebody gave K
    about: Mapping[str, Any]
    named: int | None  # clusters with a name that is not unsure, None without a vocabulary
    seconds: Mapping[str, float]
    rates: Mapping[str, float | None]
    encoders: Mapping[str, Mapping[str, str]]


def summary(facts: Facts) -> list[str]:
    """Sentences."""
    came = facts.clustered + facts.rejected
    rejected = f"{facts.rejected:,}" if facts.rejected else "none"
    said = [f"{came:,} images came in, {facts.clustered:,} were clustered and {rejected} rejected."]
    said.append(_clusters(facts))
    if facts.named is not None:
        unsure = facts.n_clusters - facts.named
        said.append(f"{facts.named:,} have a name, of {unsure:,} it is unsure." if unsure else "All have a name.")
    said += [*_encoders(facts), _time(facts)]
    return said


def _clusters(facts: Facts) -> str:
    plural = "s" if facts.n_clusters != 1 else ""
    if facts.asked:
        low, high = facts.about["low"], facts.about["high"]
        between = f"between {low:,} and {high:,}" if low < high else f"at {low:,}"
        return (
            f"They form {facts.n_clusters:,} cluster{plural}, as was asked; the coding length alone puts K {between}."
        )
    return f"They form {facts.n_clusters:,} cluster{plural}, found by the coding length."


def _encoders(facts: Facts) -> Sequence[str]:
    if not facts.encoders:
        return ["Their vectors were given, not made by this run."]
    return [
        f"Encoder: {known['model']}, weights {known['pretrained']} (SHA-256 {known['sha256'][:12]}…)."
        for known in facts.encoders.values()
    ]


def _time(facts: Facts) -> str:
    total = sum(facts.seconds.values())
    slowest = max(facts.seconds, key=facts.seconds.__getitem__, default=None)
    if slowest is None:
        return "No time was recorded."
    rate = facts.rates.get(slowest)
    pace = f", {rate:,.0f} images/s" if rate and slowest in ("encode", "import", "project", "assign", "vote") else ""
    return f"The steps took {_words(total)} of work, most of it in {slowest} ({_words(facts.seconds[slowest])}{pace})."


def _words(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds" if seconds >= 10 else f"{seconds:.1f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def how_partitioned(how: Mapping[str, Any]) -> str:
    """A sentence from the method of a partition and the silhouettes that chose it."""
    names = {"kmeans": "k-means", "spectral": "spectral clustering"}
    compared = " and ".join(f"{names[method]} {value:.3f}" for method, value in how["silhouettes"].items())
    said = f"Partition by {names[how['method']]}" + (f"; the silhouettes were {compared}." if compared else ".")
    if tried := how.get("candidates"):
        least = min(tried, key=tried.__getitem__)
        said += (
            f" Of {', '.join(map(str, tried))} clusters, each partitioned anew, {least} have the least coding length."
        )
    return said
