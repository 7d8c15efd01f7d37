"""What leaves and why: the first reason that holds, each image in one list, an order by lot that is nobody's."""

import numpy as np
import pyarrow as pa

from cpp.curation.decisions import DROP, KEEP, Reason, keep_and_drop, random_ranks, removals


def test_an_image_leaves_for_the_first_reason_that_holds() -> None:
    copies, odd = np.array([True, True, False, False]), np.array([0.99, 0.1, 0.99, 0.9], np.float32)
    found = removals(copies, odd, 0.9)
    assert found[Reason.DUPLICATE].tolist() == [True, True, False, False]
    assert found[Reason.OUTLIER].tolist() == [False, False, True, False]  # the threshold itself stays
    assert removals(None, odd, None) == {}
    assert list(removals(None, odd, 0.5)) == [Reason.OUTLIER]


def test_every_image_is_in_one_of_the_lists() -> None:
    keys = pa.array(list("abcd"))
    reasons = {Reason.DUPLICATE: np.array([1, 0, 0, 0], bool), Reason.BALANCE: np.array([0, 0, 1, 0], bool)}
    keep, drop = keep_and_drop(keys, pa.array(["s", "s", "s", None]), reasons)
    assert (keep.schema, drop.schema) == (KEEP, DROP)
    assert keep.to_pydict() == {"key": ["b", "d"], "row": [1, 3], "image_shard": ["s", None]}
    assert drop["row"].to_pylist() == [0, 2]
    assert drop["reason"].to_pylist() == ["duplicate of an image that is kept", "beyond the share of its cluster"]


def test_lots_depend_on_the_name_and_the_seed_alone() -> None:
    found = random_ranks(0, ["s", "s", None], ["a", "b", "a"])
    assert len(set(found.tolist())) == 3
    assert random_ranks(0, [None, "s"], ["a", "a"]).tolist() == [found[2], found[0]]
    assert (random_ranks(1, ["s", "s", None], ["a", "b", "a"]) != found).all()
    many = random_ranks(0, [None] * 2000, map(str, range(2000))) / 2**53
    assert 0.45 < many.mean() < 0.55
