"""What leaves and why: the first reason that holds, each image in one list, an order by lot that is nobody's."""

import numpy as np
import pyarrow as pa

from cpp.curation.decisions import DROP, KEEP, DropReason, keep_and_drop, random_ranks, removals


def test_an_image_is_dropped_for_the_first_reason_that_applies() -> None:
    duplicates = pa.table({"kept": [False, False, True, True]})
    outliers = pa.table({"outlier": pa.array([0.99, 0.1, 0.99, 0.9], pa.float32())})
    reasons = removals(4, {"duplicates": duplicates, "outliers": outliers}, 0.9)
    assert reasons.tolist() == [
        DropReason.DUPLICATE,
        DropReason.DUPLICATE,
        DropReason.OUTLIER,
        "",
    ]  # the threshold itself stays
    assert removals(4, {"outliers": outliers}, None).tolist() == [""] * 4
    assert removals(4, {"outliers": outliers}, 0.5).tolist() == [
        DropReason.OUTLIER,
        "",
        DropReason.OUTLIER,
        DropReason.OUTLIER,
    ]


def test_every_image_is_in_one_of_the_lists() -> None:
    images = pa.table({"key": list("abcd"), "image_shard": ["s", "s", "s", None]})
    keep, drop = keep_and_drop(images, np.array([DropReason.DUPLICATE.value, "", DropReason.BALANCE.value, ""], object))
    assert (keep.schema, drop.schema) == (KEEP, DROP)
    assert keep.to_pydict() == {"key": ["b", "d"], "row": [1, 3], "image_shard": ["s", None]}
    assert drop["row"].to_pylist() == [0, 2]
    assert drop["reason"].to_pylist() == ["duplicate of an image that is kept", "beyond the share of its cluster"]


def test_random_ranks_depend_on_the_name_and_the_seed_alone() -> None:
    def ranks(seed: int, *names: tuple[str | None, str]) -> list[float]:
        shards, keys = zip(*names, strict=True)
        return random_ranks(seed, pa.table({"image_shard": pa.array(shards, pa.string()), "key": keys})).tolist()

    names: list[tuple[str | None, str]] = [("s", "a"), ("s", "b"), (None, "a")]
    first = ranks(0, *names)
    assert len(set(first)) == 3
    assert ranks(0, *names[::-2]) == first[::-2]
    assert not set(ranks(1, *names)) & set(first)
    assert 0.45 < np.mean(ranks(0, *((None, str(i)) for i in range(2000)))) / 2**53 < 0.55
