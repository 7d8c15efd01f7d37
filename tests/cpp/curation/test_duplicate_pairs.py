"""The search for near-duplicates: nothing is lost, copies are not compared, guests count."""

from collections.abc import Callable

import numpy as np
import pytest

from cpp.curation import blocks, duplicate_pairs, strongest_pairs
from cpp.curation.duplicate_pairs import KINDS, Rows, similar_pairs


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


def expected(given: Rows, S: np.ndarray, lowest: float) -> set[tuple[int, int]]:
    """The pairs from `lowest` on, those of copies with the first of them only."""
    first = np.unique(given.vector_id, return_index=True)[1]
    standing = first[given.vector_id]
    pairs = {(int(i), int(j)) for i, j in np.argwhere(lowest <= S) if standing[i] == i and standing[j] == j}
    return pairs | {(int(standing[i]), i) for i in range(len(S)) if standing[i] != i}


@pytest.mark.parametrize(
    ("tile", "directions", "few", "small_cell"),
    [((7, 5), 96, 1.0, 8), ((64, 64), 3, 1.0, 8), ((64, 64), 16, 1.0, 500), ((256, 4096), 3, 0.0, 3)],
)
def test_all_pairs_of_a_cell_are_found_whatever_the_blocks_and_the_bound(
    tile: tuple[int, int], directions: int, few: float, small_cell: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "TILE", tile)
    monkeypatch.setattr(blocks, "ROWS", small_cell)
    monkeypatch.setattr(blocks, "BATCH", 48)
    monkeypatch.setattr(duplicate_pairs, "DIRECTIONS", directions)
    monkeypatch.setattr(duplicate_pairs, "FEW", few)
    monkeypatch.setattr(strongest_pairs, "LIMIT", 200)
    given = rows(*clustered(200, 0))
    S = naive(given, lambda i, j: bool(given.cell[i] == given.cell[j]))
    result = similar_pairs(given, 0.7)
    low, high = np.minimum(result.a, result.b), np.maximum(result.a, result.b)
    assert len(np.unique([low, high], axis=1).T) == len(low)  # each pair once
    assert np.abs(S[low, high] - result.similarity).max() < 1e-6
    assert set(zip(low.tolist(), high.tolist(), strict=True)) == expected(given, S, 0.7)
    assert (result.similarity >= 0.99).sum() >= 15


def test_guests_are_compared_with_members_and_not_with_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strongest_pairs, "LIMIT", 200)
    monkeypatch.setattr(blocks, "ROWS", 6)
    X, cell = clustered(120, 1)
    X[::20] = X[1]  # no copies but these
    guest = np.arange(120) % 3 == 0
    given = rows(X, cell, guest)
    S = naive(given, lambda i, j: bool(given.cell[i] == given.cell[j] and not (guest[i] and guest[j])))
    result = similar_pairs(given, 0.8)
    near = {(min(a, b), max(a, b)) for a, b, k in zip(result.a, result.b, result.kind, strict=True) if k == 0}
    assert near <= {(int(i), int(j)) for i, j in np.argwhere(S >= 0.8)}
    distinct = np.flatnonzero(np.bincount(given.vector_id)[given.vector_id] == 1)
    assert {(int(i), int(j)) for i, j in np.argwhere(S >= 0.8) if {i, j} <= {*distinct.tolist()}} <= near


def test_pairs_that_are_no_copies_by_the_check_are_left_out_and_exact_copies_are_not_checked() -> None:
    X = np.eye(4)[[0, 0, 1, 1, 2]] + 0.01 * np.arange(5)[:, None]
    X[1] = X[0]
    given = rows(X / np.linalg.norm(X, axis=1, keepdims=True), np.zeros(5))
    assert {(0, 1), (2, 3)} <= {*zip(*(ends.tolist() for ends in similar_pairs(given, 0.9)[:2]), strict=True)}
    result = similar_pairs(given, 0.9, lambda a, b: np.zeros(len(a), bool))
    assert list(zip(result.a.tolist(), result.b.tolist(), strict=True)) == [(0, 1)]


def test_a_row_keeps_its_strongest_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strongest_pairs, "LIMIT", 2)
    monkeypatch.setattr(strongest_pairs, "PENDING", 3)
    strongest = strongest_pairs.StrongestPairs()
    for b, similarity in enumerate([0.91, 0.99, 0.92, 0.98, 0.97], 1):  # 0 is near all others
        strongest.add(np.array([0]), np.array([b]), np.float32([similarity]))
    strongest.add(np.array([1, 1]), np.array([2, 3]), np.float32([0.95, 0.96]))
    strongest.add(np.array([1]), np.array([4]), np.float32([0.97]))
    a, b, _ = strongest.pairs()
    kept = set(zip(a.tolist(), b.tolist(), strict=True))
    assert {(0, 2), (0, 4), (1, 3), (1, 4)} <= kept  # the two strongest of 0 and of 1
    assert (0, 1) not in kept


def test_ten_thousand_copies_are_compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = list[int]()

    def recorded(X: np.ndarray, members: int, lowest: float) -> blocks.Blocks:
        compared.append(len(X))
        return blocks.Blocks(X, members, lowest)

    monkeypatch.setattr(duplicate_pairs, "Blocks", recorded)
    X, _ = clustered(9, 2)
    found = similar_pairs(rows(np.repeat(X, [10_000, *[1] * 8], axis=0), np.zeros(10_008)), 0.99)
    assert compared == [9]
    assert (found.kind == KINDS.index("vector")).sum() == 9_999


def test_the_kind_of_a_pair_is_the_strongest_there_is() -> None:
    X = np.eye(4)[[0, 0, 0, 1, 1, 2]]
    X[4, 2] = 0.05  # the same file, whose vector came out otherwise
    X[5, 3] = 0.1
    files = np.array([5, 6, 6, 7, 7, 8])
    found = similar_pairs(rows(X, np.zeros(6), files=files), 0.9)
    said = {(min(a, b), max(a, b)): KINDS[k] for a, b, k in zip(found.a, found.b, found.kind, strict=True)}
    assert said == {(0, 1): "vector", (0, 2): "vector", (1, 2): "bytes", (3, 4): "bytes"}
    assert found.similarity.max() == 1


def test_there_may_be_nothing_to_find() -> None:
    for X in (np.eye(4)[:0], np.eye(4)[:1], np.eye(4)):
        assert len(similar_pairs(rows(X, np.arange(len(X)) % 2), 0.8).a) == 0
