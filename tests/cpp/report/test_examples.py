"""Which members are shown: the most typical, the least decided, the farthest; each once."""

import numpy as np
import pyarrow as pa
import pytest

from cpp.report.examples import EXAMPLES, KINDS, SHOWN, _share, choose


def batches(cluster: np.ndarray, score: np.ndarray, margin: np.ndarray, parts: int) -> list[pa.RecordBatch]:
    about = {
        "cluster": pa.array(cluster, pa.int32()),
        "score": pa.array(score, pa.float32()),
        "margin": pa.array(margin, pa.float32()),
        "key": [f"k{i}" for i in range(len(cluster))],
        "image_shard": pa.array(["a.tar"] * len(cluster)),
    }
    whole = pa.table(about)
    size = -(-len(cluster) // parts)
    return [whole.slice(start, size).to_batches()[0] for start in range(0, len(cluster), size)]


def test_members_are_the_extremes_that_a_sort_over_everything_finds() -> None:
    rng = np.random.default_rng(1)
    cluster, score, margin = rng.integers(0, 3, 300), rng.permutation(300) / 300, rng.permutation(300) / 300
    found = choose(batches(cluster, score, margin, 4), 3)
    assert found.schema.equals(EXAMPLES)
    for k in range(3):
        mine = np.flatnonzero(cluster == k)
        typical = mine[np.argsort(-score[mine])][: KINDS["typical"]].tolist()
        rest = [i for i in mine[np.argsort(margin[mine])].tolist() if i not in typical]
        borderline = rest[: KINDS["borderline"]]
        odd = [i for i in mine[np.argsort(score[mine])].tolist() if i not in typical + borderline][: KINDS["odd"]]
        for kind, expected in (("typical", typical), ("borderline", borderline), ("odd", odd)):
            rows = [r for r in found.to_pylist() if (r["cluster"], r["kind"]) == (k, kind)]
            assert [r["key"] for r in rows] == [f"k{i}" for i in expected]
            assert [r["rank"] for r in rows] == list(range(len(expected)))


@pytest.mark.parametrize("size", [1, 2, 3, 10, 16, 17])
def test_of_a_small_cluster_each_member_is_shown_once_and_half_of_them_as_typical(size: int) -> None:
    ramp = np.arange(size) / size
    found = choose(batches(np.zeros(size, int), ramp, ramp[::-1], 1), 1)
    keys = found["key"].to_pylist()
    assert len(set(keys)) == len(keys) == min(size, sum(KINDS.values()))
    assert found["kind"].to_pylist().count("typical") == min((size + 1) // 2, KINDS["typical"])


def test_many_clusters_show_fewer_members_each() -> None:
    assert [_share(8, n) for n in (1, 1000, 50_000)] == [8, 8, 1]
    assert sum(_share(n, 20_000) for n in KINDS.values()) * 20_000 <= SHOWN
