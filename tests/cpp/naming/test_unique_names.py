"""Unique names: additions that fit one cluster only, and numbers."""

import numpy as np

from cpp.naming.unique_names import unique_names

SIZE = np.array([10, 20, 10])


def test_names_of_one_cluster_stay() -> None:
    assert unique_names(["cat", None, "dog"], [{}, {}, {}], SIZE) == ["cat", None, "dog"]


def test_the_largest_cluster_keeps_the_plain_name() -> None:
    assert unique_names(["cat"] * 3, [{"cat": 1.0}] * 3, SIZE) == ["cat 2", "cat", "cat 3"]


def test_an_addition_fits_its_cluster_and_is_rare_among_the_others() -> None:
    shares = [{"cat": 0.6, "sofa": 0.3, "rug": 0.1}, {"cat": 0.8, "sofa": 0.1}, {"cat": 0.7, "sofa": 0.25}]
    assert unique_names(["cat"] * 3, shares, SIZE) == ["cat 2", "cat", "cat 3"]  # the others have sofas, too
    shares[2] = {"cat": 0.7, "sofa": 0.15}
    assert unique_names(["cat"] * 3, shares, SIZE) == ["cat + sofa", "cat", "cat 2"]


def test_another_sense_of_the_name_is_no_addition() -> None:
    shares = [{"fish": 0.5, "fish (food)": 0.4}, {"fish": 1.0}]
    assert unique_names(["fish"] * 2, shares, SIZE[:2]) == ["fish 2", "fish"]


def test_a_name_that_is_taken_is_not_given_again() -> None:
    assert unique_names(["cat", "cat", "cat 2"], [{}, {}, {}], SIZE) == ["cat 3", "cat", "cat 2"]
