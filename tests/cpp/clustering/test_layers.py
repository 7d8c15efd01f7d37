"""Layers are nested cuts of the merge tree of fine groups, and isolated rows are in none of the groups."""

import numpy as np
import pytest
import torch
from torch import Tensor

from cpp.clustering.layers import Layers, build_layers, layers, mean_silhouette, parents
from cpp.clustering.merge_tree import Tree
from cpp.clustering.partition import PARTS, FineGroups, fine_groups
from cpp.evaluation.metrics import scores
from cpp.nearest import Nearest
from cpp.rate_reduction.coding_rate import Moments
from cpp.rate_reduction.head import Codes
from tests.support.vectors import blobs


def tree(bits: list[float]) -> Tree:
    """A tree with this curve, of groups that merge in a chain."""
    F = len(bits)
    merged = [(0, 1), *((F + t, t + 2) for t in range(F - 2))]
    return Tree(np.array(merged[: F - 1], np.int64).reshape(-1, 2), np.array(bits, np.float64), 0.1, F)


def counted(found: FineGroups, Z: Tensor) -> Moments:
    return found.moments([Z.numpy()], 100).moments


def build(
    sizes: list[int], n_clusters: int, requested: object = (), fine: int | None = None
) -> tuple[FineGroups, Moments, Layers]:
    Z, _ = blobs(sizes, 0.05)
    found = fine_groups(Codes(Z, Z), n_clusters=n_clusters, fine=fine, seed=0)
    parts = counted(found, Z)
    return found, parts, build_layers(found, parts, requested)  # type: ignore[arg-type]


def nested(*levels: int) -> tuple[Tensor, Tensor]:
    """Unit rows of clusters in clusters, in 8 dimensions: the number of the coarsest, of those in each, and so on."""
    generator = torch.Generator().manual_seed(1)
    centres, length = torch.eye(8)[: levels[0]], 0.25
    for n in levels[1:]:
        centres = (centres[:, None] + length * torch.randn(len(centres), n, 8, generator=generator)).flatten(0, 1)
        length /= 4
    noise = length * torch.randn(40 * len(centres), 8, generator=generator)
    truth = torch.arange(len(centres)).repeat_interleave(40)
    return torch.nn.functional.normalize(centres[truth] + noise), truth


def test_requested_layers() -> None:
    moments = Moments.of(torch.eye(4), torch.arange(4), 4)
    assert layers(tree([5, 4, 3, 2]), moments, 3, [2, 4]) == [2, 3, 4]
    with pytest.raises(
        ValueError, match=r"partition.layers has 9, but there are only 4 fine groups: raise partition.fine"
    ):
        layers(tree([5, 4, 3, 2]), moments, 3, [9])


@pytest.mark.parametrize("levels", [(5, 5), (3, 4, 3)])
def test_automatic_layers_are_the_coarser_levels(levels: tuple[int, ...]) -> None:
    Z, truth = nested(*levels)
    K = np.cumprod(levels)
    found = build_layers(groups := fine_groups(Codes(Z, Z), n_clusters=int(K[-1]), seed=0), counted(groups, Z), "auto")
    assert list(found.clusters) == K.tolist()
    near = Nearest(groups.centroids)(Z.numpy(), 100).group
    for k in K.tolist():
        assert scores((truth // (K[-1] // k)).numpy(), found.clusters[k][near]).ari == 1


def test_an_automatic_layer_without_a_peak_has_a_quarter_of_the_clusters() -> None:
    groups = Moments.of(torch.eye(40).repeat_interleave(2, 0), torch.arange(80) // 2, 40)
    assert layers(tree([1.0] * 40), groups, 20, "auto") == [5, 20]
    assert layers(tree([1.0] * 40), groups, 4, "auto") == [4]


def test_the_mean_silhouette_is_that_of_the_mean_distances_of_clusters() -> None:
    Z, truth = nested(2, 3)
    distance, a, b = 1 - Z @ Z.T, [], []
    for k in range(3):
        own = truth // 2 == k
        a.append(float(distance[own][:, own].sum() / (own.sum() * (own.sum() - 1))))
        b.append(min(float(distance[own][:, truth // 2 == j].mean()) for j in range(3) if j != k))
    expected = np.mean([(y - x) / max(x, y) for x, y in zip(a, b, strict=True)])
    groups = Moments.of(Z, truth, 6)
    assert mean_silhouette(groups, np.arange(6) // 2) == pytest.approx(expected, abs=1e-5)


def test_fine_groups_divide_the_clusters() -> None:
    sizes = [40, 60, 90, 30, 120, 50, 70]
    groups, parts, found = build(sizes, n_clusters=7, fine=57)
    assert 57 <= len(groups.centroids) <= 57 + 7
    assert sorted(np.bincount(groups.cluster)) == [4, 5, 7, 8, 9, 12, 15]  # in proportion to the sizes, rounded up
    assert found.main == len(sizes)
    assert (found.clusters[7] == groups.cluster).all()
    Z, truth = blobs(sizes, 0.05)
    near = Nearest(groups.centroids, cluster=found.clusters[found.main])
    assert scores(truth.numpy(), near(Z.numpy(), 100).cluster).ari == 1
    assert parts.count_K.sum() > 0.99 * sum(sizes)


def test_parents_of_nested_layers() -> None:
    _, _, found = build([40, 60, 90, 30, 120, 50, 70], n_clusters=7, requested=[3, 20], fine=57)
    coarse, main, fine_ = (found.clusters[K] for K in (3, 7, 20))
    for finer, coarser, K in ((fine_, main, 20), (main, coarse, 7)):
        above = parents(finer, coarser)
        assert len(above) == K
        assert (above[finer] == coarser).all()


def test_requested_groups_are_the_clusters() -> None:
    _, parts, found = build([40, 60, 90], n_clusters=3)
    assert found.main == 3
    assert (found.clusters[3] == np.arange(3)).all()
    assert parts.count_K.sum() == 190


def test_isolated_rows_form_no_clusters() -> None:
    Z, truth = blobs([80, 80, 80], 0.05)
    stray = torch.nn.functional.normalize(torch.randn(20, 24, generator=torch.Generator().manual_seed(5)))
    both = torch.cat([Z, stray])
    found = fine_groups(Codes(both, both), n_clusters=3, isolated=False, seed=0)
    parts = counted(found, both)
    assert 235 <= parts.count_K.sum() <= 240
    assert scores(truth.numpy(), Nearest(found.centroids)(Z.numpy(), 100).cluster).ari == 1


def test_moments_do_not_depend_on_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    Z, _ = blobs([100, 80], 0.05)
    stray = torch.nn.functional.normalize(torch.randn(20, 24, generator=torch.Generator().manual_seed(5)))
    both = torch.cat([Z[::2], stray, Z[1::2]])
    found = fine_groups(Codes(both, both), n_clusters=25, isolated=False, seed=0)
    whole = counted(found, both)
    assert 0 < whole.count_K.sum() < len(both)
    monkeypatch.setattr("cpp.clustering.partition.HELD", 50 * Z.shape[1])
    parts, n, _ = found.moments((block.numpy() for block in both.split(7)), 100)
    assert n == len(both)
    assert torch.equal(parts.count_K, whole.count_K)
    torch.testing.assert_close(parts.gram_Kdd, whole.gram_Kdd, rtol=0, atol=1e-9)


def test_fine_also_leaves_out_isolated_rows() -> None:
    Z, _ = blobs([80, 80, 80], 0.05)
    stray = torch.nn.functional.normalize(torch.randn(20, 24, generator=torch.Generator().manual_seed(5)))
    both = torch.cat([Z, stray])
    found = fine_groups(Codes(both, both), n_clusters=3, fine=50, seed=0)
    assert 50 <= len(found.centroids) <= 53
    assert counted(found, both).count_K.sum() <= 240


def test_empty_group_is_in_cluster_0() -> None:
    groups, parts, _ = build([40, 60, 90], n_clusters=6)
    for part in (parts.count_K, parts.sum_Kd, parts.gram_Kdd):
        part[2 * PARTS : 3 * PARTS] = 0
    found = build_layers(groups, parts, [])
    assert found.main == 5
    assert found.clusters[5][2] == 0


def test_one_cluster_and_one_group() -> None:
    _, _, found = build([50], n_clusters=1, requested="auto")
    assert (found.main, list(found.clusters)) == (1, [1])


def test_candidate_of_least_length_is_chosen() -> None:
    Z, _ = blobs([60, 80, 70, 50], 0.05)
    found = fine_groups(Codes(Z, Z), method="kmeans", candidates=[2, 4, 9], seed=0)
    assert list(found.candidates) == [2, 4, 9]
    assert len(found.centroids) == 4 == min(found.candidates, key=found.candidates.__getitem__)
