"""Filters against plain loops: what passes, what is counted, and the surest n of each cluster while rows pass by."""

import numpy as np

from cpp.export.filters import Filter, passing


def test_what_does_not_pass_is_counted_once_with_its_reason() -> None:
    cluster = np.array([0, 1, 1, 2, 1, 0])
    confidence = np.array([0.9, 0.5, 0.4, 0.9, np.nan, 0.1])
    passed = passing(cluster, confidence, Filter(frozenset({0, 1}), 0.5))
    assert passed.keep.tolist() == [True, True, False, False, False, False]
    assert sorted(passed.left_out.values()) == [1, 3]
    assert passing(cluster, confidence, Filter()).keep.all()
    assert passing(cluster, confidence, Filter()).left_out == {}


def test_what_curation_dropped_is_looked_at_first() -> None:
    cluster, confidence = np.array([0, 0, 1, 1]), np.array([0.9, 0.1, 0.9, 0.1])
    found = passing(cluster, confidence, Filter(frozenset({0}), 0.5), {"outlier": np.array([1, 2])})
    assert found.keep.tolist() == [True, False, False, False]
    assert found.left_out == {"dropped by curation: outlier": 2, "of a cluster that was not asked for": 1}
