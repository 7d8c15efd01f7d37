"""What an append says of images that came later: `python -m tests.bench.growth` on the labelled sets of CPP_TEST_DATA.

A part of a set is fitted, as many clusters as it has classes. Appended are the rest of it, classes that were not
fitted, another set, and the rest with as much of another set. Labels make the parts and score; they decide nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpp.clustering import drift
from cpp.clustering.drift import Profile
from cpp.clustering.layers import Layers, build_layers
from cpp.clustering.partition import PARTS, FineGroups, fine_groups
from cpp.evaluation.metrics import scores
from cpp.nearest import Nearest
from cpp.rate_reduction.coding_rate import Moments
from cpp.rate_reduction.fit import fit
from cpp.rate_reduction.head import Head
from cpp.rate_reduction.recipes import Discriminant
from tests.bench import heading
from tests.bench.head import SETS, read

FITTED = 0.7  # of the images, or of the classes
BATCH = 8192
WHY = {"The clusters save": "bits", "have a score": "scores", "were appended to": "number"}  # parts of the reasons


class Fitted(NamedTuple):
    """What a run keeps of its images: the head, the groups, their clusters and moments, the profile."""

    head: Head
    fine: FineGroups
    found: Layers
    nearest: Nearest
    parts: Moments
    profile: Profile

    def assign(self, X: Tensor) -> tuple[Profile, Moments, NDArray[np.int64]]:
        """Profile and moments of images, and their clusters."""
        Z = self.head.project(X, BATCH).Z.numpy()
        of = self.nearest(Z, BATCH)
        new, cluster, close = Profile.empty(self.found.main), of.cluster.astype(np.int64), of.score >= self.fine.reach
        new.add(cluster, of.score, of.margin)
        P = torch.from_numpy(Z[close] @ self.fine.basis)
        return new, Moments.of(P, torch.from_numpy(cluster[close]), self.found.main), cluster


def fitted(X: Tensor, K: int) -> Fitted:
    """As a run with the default settings makes it."""
    head, _ = fit(X, Discriminant(), K, 0)
    codes = head.project(X, BATCH)
    fine = fine_groups(codes, n_clusters=K, directions=32, seed=0)
    moments = fine.moments([codes.Z.numpy()], BATCH).moments
    found = build_layers(fine, moments, [])
    cluster = torch.from_numpy(found.clusters[found.main])
    into = cluster.repeat_interleave(PARTS) * PARTS + torch.arange(PARTS).repeat(len(cluster))
    parts = moments.merge(into, found.main * PARTS)
    nearest = Nearest(fine.centroids, False, found.clusters[found.main])
    made = Fitted(head, fine, found, nearest, parts, Profile.empty(found.main))
    return made._replace(profile=made.assign(X)[0])


def said(run: Fitted, X: Tensor) -> tuple[dict[str, Any], dict[str, float | None], list[str]]:
    """What an append of images without any that is rejected says: of them, in bits, and why a refit is due."""
    new, came, _ = run.assign(X)
    cost = drift.added_bits(run.parts, came, run.found.tree.e)
    about = new.summary(0, run.profile)
    return about, cost, drift.refit_reasons(run.profile.summary(0, run.profile), about, cost)


def cases(X: Tensor, classes: NDArray[np.integer], other: Tensor) -> Iterator[tuple[str, Fitted, Tensor]]:
    """Fitted parts of a set, and what is appended to them."""
    rng = np.random.default_rng(0)
    order, n = rng.permutation(len(X)), int(FITTED * len(X))
    run, rest = fitted(X[order[:n]], len(np.unique(classes))), X[order[n:]]
    yield "the rest", run, rest
    some = other[rng.permutation(len(other))[: len(rest)]]
    yield "the rest, and as much of the other set", run, torch.cat([rest[: len(some)], some])
    yield "the other set", run, other
    named = rng.permutation(np.unique(classes))
    seen = np.isin(classes, named[: int(FITTED * len(named))])
    yield "classes that were not fitted", fitted(X[seen], int(FITTED * len(named))), X[~seen]


def agreement(X: Tensor, classes: NDArray[np.integer]) -> list[float]:
    """ARI of the rest: appended with the classes, in a run of all with the classes, one with the other."""
    order, n, K = np.random.default_rng(0).permutation(len(X)), int(FITTED * len(X)), len(np.unique(classes))
    later = order[n:]
    appended, whole = fitted(X[order[:n]], K).assign(X[later])[2], fitted(X, K).assign(X)[2][later]
    return [scores(a, b).ari for a, b in ((classes[later], appended), (classes[later], whole), (appended, whole))]


def main() -> None:
    data = Path(os.environ.get("CPP_TEST_DATA") or sys.exit("set CPP_TEST_DATA to the folder of real data"))
    sets = {name: read(data / folder) for name, folder in SETS.items()}
    print(f"{heading()}\n\n| fitted | appended | images | bits kept | low scores | small margins | refit |")
    print("|---" * 7 + "|")
    for name, (X, classes) in sets.items():
        other = "oxford_pets" if name == "dtd" else "dtd"
        for what, run, new in cases(X, classes, sets[other][0]):
            about, cost, why = said(run, new)
            saved, usual = cost["appended_saved"], cost["fitted_saved"]
            kept = "" if saved is None or usual is None else f"{saved / usual:.0%}"
            shares = f"{about['low_score']:.1%} | {about['small_margin']:.1%}"
            called = what.replace("the other set", other)
            due = ", ".join(short for part, short in WHY.items() if any(part in reason for reason in why)) or "no"
            print(f"| {name}, {run.profile.rows:,} | {called} | {len(new):,} | {kept} | {shares} | {due} |", flush=True)
    print("\n| ARI of the rest | appended, classes | whole run, classes | appended, whole run |\n" + "|---" * 4 + "|")
    for name, (X, classes) in sets.items():
        print(f"| {name} | {' | '.join(f'{100 * ari:.1f}' for ari in agreement(X, classes))} |", flush=True)


if __name__ == "__main__":
    main()
