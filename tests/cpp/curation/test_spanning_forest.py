"""The spanning forest: it connects at every threshold what all pairs connect."""

import numpy as np
import pytest

from cpp.curation import spanning_forest
from cpp.curation.spanning_forest import Forest, connected
from tests.support.pairs import same


@pytest.mark.parametrize("waiting", [10, 500, 1 << 18])
def test_at_every_threshold_the_forest_connects_what_the_pairs_connect(
    waiting: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spanning_forest, "PENDING", waiting)
    rng = np.random.default_rng(0)
    n, lowest = 60, 0.8
    a, b = np.triu_indices(n, 1)
    some = rng.permutation(len(a))[:900]
    a, b = a[some], b[some]
    similarity = rng.uniform(lowest, 1, len(a)).astype(np.float32)
    found = Forest(n, lowest)
    for part in np.array_split(np.arange(len(a)), 7):
        found.add(a[part], b[part], similarity[part])
    found.settle()
    assert len(found.a) == n - len(np.unique(connected(n, a, b)))
    for threshold in [*np.linspace(lowest, 1, 50), *similarity[:20]]:
        kept, every = found.similarity >= threshold, similarity >= threshold
        assert same(connected(n, found.a[kept], found.b[kept]), connected(n, a[every], b[every]))


def test_pairs_that_connect_nothing_new_do_not_wait() -> None:
    found = Forest(300, 0.5)
    a, b = np.triu_indices(300, 1)
    similarity = np.where(b == a + 1, 0.99, 0.6).astype(np.float32)
    chain = similarity > 0.9
    found.add(a[chain], b[chain], similarity[chain])
    found.settle()
    found.add(a[~chain], b[~chain], similarity[~chain])
    assert found._n_pending == 0
    assert len(found.a) == 299


def test_a_forest_of_no_pairs_is_empty() -> None:
    found = Forest(5, 0.8)
    found.settle()
    assert len(found.a) == 0
