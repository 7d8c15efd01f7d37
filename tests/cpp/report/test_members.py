"""The members that the pages list: how many of each cluster, and which."""

import numpy as np
import pyarrow as pa
import pytest

from cpp.report import members


def brute_force_level(sizes: list[int], budget: int) -> int:
    return max(n for n in range(1, max(sizes) + 1) if n == 1 or sum(min(size, n) for size in sizes) <= budget)


@pytest.mark.parametrize("budget", [0, 3, 7, 12, 19, 20, 100])
def test_large_clusters_share_what_small_ones_leave(budget: int) -> None:
    sizes = [1, 2, 2, 5, 10]
    assert members.level(np.array(sizes), budget) == brute_force_level(sizes, budget)


def test_the_most_typical_members_of_each_cluster_are_listed_and_the_first_have_pictures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(members, "KEYS", 7)
    monkeypatch.setattr(members, "PICTURES", 3)
    rng = np.random.default_rng(0)
    score, cluster = rng.random(30, np.float32), np.repeat([0, 1], [2, 28])
    rows = pa.record_batch({
        "cluster": pa.array(cluster, pa.int32()), "score": score, "margin": score, "key": [str(i) for i in range(30)],
        "image_shard": ["s"] * 30,
    })  # fmt: skip
    listed = members.choose([rows.slice(0, 9), rows.slice(9)], np.array([2, 28]))
    of_second = 2 + np.argsort(-score[2:])[:5]
    assert listed["key"].to_pylist() == [str(i) for i in (*np.argsort(-score[:2]), *of_second)]
    assert listed["picture"].to_pylist() == [True, False, True, False, False, False, False]


def test_no_images_no_members() -> None:
    assert members.choose([], np.zeros(2, np.int64)).num_rows == 0
