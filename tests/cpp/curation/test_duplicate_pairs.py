"""The search for near-duplicates: nothing is lost, copies are not compared, guests count."""

from collections.abc import Callable

import numpy as np
import pytest

from cpp.curation import duplicate_pairs
from cpp.curation.duplicate_pairs import KINDS, Rows, duplicate_forest
from cpp.curation.spanning_forest import connected
from tests.support.pairs import same


def rows(X: np.ndarray, cluster: np.ndarray, guest: np.ndarray | None = None, files: np.ndarray | None = None) -> Rows:
    vector = X.astype(np.float16)
    none = np.zeros(len(X), np.uint64)
    return Rows(
        cluster.astype(np.int32),
        np.zeros(len(X), bool) if guest is None else guest,
        np.unique(vector.view(np.uint16), axis=0, return_inverse=True)[1],
        none if files is None else files.astype(np.uint64),
        vector,
    )


def clustered(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows around 3 centres, each tenth a little moved copy of another of its cluster, each twentieth an equal one."""
    rng = np.random.default_rng(seed)
    cluster = rng.integers(3, size=n)
    X = rng.standard_normal((3, 24))[cluster] + 0.6 * rng.standard_normal((n, 24))
    for i in range(10, n, 10):
        of = rng.choice(np.flatnonzero(cluster[:i] == cluster[i])) if (cluster[:i] == cluster[i]).any() else i
        X[i] = X[of] if i % 20 == 0 else X[of] + 0.02 * rng.standard_normal(24)
    return X / np.linalg.norm(X, axis=1, keepdims=True), cluster


def naive(found: Rows, counts: Callable[[int, int], bool]) -> np.ndarray:
    """Cosines of all pairs that count, in float64."""
    X = found.vector.astype(np.float64)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    S = X @ X.T
    n = len(X)
    return np.where([[i < j and counts(i, j) for j in range(n)] for i in range(n)], S, -1)


@pytest.mark.parametrize("tile", [7, 64, 2048])
def test_all_pairs_of_a_cluster_are_found_whatever_the_tiles(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicate_pairs, "TILE", tile)
    given = rows(*clustered(200, 0))
    S = naive(given, lambda i, j: bool(given.cluster[i] == given.cluster[j]))
    found = duplicate_forest(given, 0.7)
    assert np.abs(np.abs(S[np.minimum(found.a, found.b), np.maximum(found.a, found.b)]) - found.similarity).max() < 1e-6
    for threshold in (0.7, 0.75, 0.8, 0.9, 0.95, 0.99, 0.9999):
        kept = found.similarity >= threshold
        i, j = np.nonzero(threshold - 1e-7 <= S)
        assert same(connected(200, found.a[kept], found.b[kept]), connected(200, i, j)), threshold
    assert (found.similarity >= 0.99).sum() >= 15


def test_guests_are_compared_with_members_and_not_with_each_other() -> None:
    X, cluster = clustered(120, 1)
    guest = np.arange(120) % 3 == 0
    given = rows(X, cluster, guest)
    S = naive(given, lambda i, j: bool(given.cluster[i] == given.cluster[j] and not (guest[i] and guest[j])))
    found = duplicate_forest(given, 0.8)
    i, j = np.nonzero(S >= 0.8)
    equal = duplicate_pairs._repeats(given.vector_id)  # of equal rows one stands for all
    every = np.concatenate([np.stack([i, j]), equal], axis=1)
    assert same(connected(120, found.a, found.b), connected(120, *every))


def test_ten_thousand_copies_are_compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    pairs = duplicate_pairs.pairs_from
    monkeypatch.setattr(
        duplicate_pairs, "pairs_from", lambda A, B, lowest: compared.append(len(A) * len(B)) or pairs(A, B, lowest)
    )
    X, _ = clustered(9, 2)
    found = duplicate_forest(rows(np.repeat(X, [10_000, *[1] * 8], axis=0), np.zeros(10_008)), 0.99)
    assert sum(compared) == 81
    assert (found.kind == KINDS.index("vector")).sum() == 9_999


def test_the_kind_of_a_pair_is_the_strongest_there_is() -> None:
    X = np.eye(4)[[0, 0, 0, 1, 1, 2]]
    X[4, 2] = 0.05  # the same file, whose vector came out otherwise
    X[5, 3] = 0.1
    files = np.array([5, 6, 6, 7, 7, 8])
    found = duplicate_forest(rows(X, np.zeros(6), files=files), 0.9)
    said = {(min(a, b), max(a, b)): KINDS[k] for a, b, k in zip(found.a, found.b, found.kind, strict=True)}
    vector = next(pair for pair, kind in said.items() if kind == "vector")
    assert vector in {(0, 1), (0, 2)}
    assert said == {vector: "vector", (1, 2): "bytes", (3, 4): "bytes"}
    assert found.similarity.max() == 1


def test_there_may_be_nothing_to_find() -> None:
    for X in (np.eye(4)[:0], np.eye(4)[:1], np.eye(4)):
        assert len(duplicate_forest(rows(X, np.arange(len(X)) % 2), 0.8).a) == 0
