"""The tree of merges against one that looks at all pairs at every step; cuts, lengths, neighbours and edges."""

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cpp.clustering import merge_tree
from cpp.clustering.coding_length import coding_length
from cpp.clustering.merge_tree import Tree, affinity, grow
from cpp.evaluation.metrics import scores
from cpp.rate_reduction.coding_rate import Moments
from tests.support.vectors import subspaces


def pieces(F: int, K: int, d: int, rows: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of K Gaussian clusters, and which of F groups each is in; group f is a piece of cluster f mod K."""
    g = torch.Generator().manual_seed(seed)
    centres = torch.nn.functional.normalize(torch.randn(K, d, generator=g, dtype=torch.float64))
    group = torch.arange(F).repeat_interleave(rows)
    return centres[group % K] + 0.1 * torch.randn(F * rows, d, generator=g, dtype=torch.float64), group


def fine(F: int = 30, K: int = 4, d: int = 5, rows: int = 12) -> Moments:
    return Moments.of(*pieces(F, K, d, rows), F)


def exhaustive(moments: Moments, e: float) -> tuple[list[frozenset[int]], list[float]]:
    """The groups that every merge makes, and the lengths from F clusters down to one, all pairs tried at each step."""
    parts = [frozenset([k]) for k in range(len(moments.count_K))]

    def length(partition: list[frozenset[int]]) -> float:
        into = torch.empty(len(moments.count_K), dtype=torch.int64)
        for k, part in enumerate(partition):
            into[list(part)] = k
        return coding_length(moments.merge(into, len(partition)), e)

    made, lengths = [], [length(parts)]
    while len(parts) > 1:
        pairs = itertools.combinations(parts, 2)
        tried = [[*(part for part in parts if part not in pair), pair[0] | pair[1]] for pair in pairs]
        all_lengths = [length(partition) for partition in tried]
        parts = tried[int(np.argmin(all_lengths))]
        made.append(parts[-1])
        lengths.append(min(all_lengths))
    return made, lengths


def unions(found: Tree) -> list[frozenset[int]]:
    groups = [frozenset([k]) for k in range(found.n_groups)]
    for a, b in found.merged:
        groups.append(groups[a] | groups[b])
    return groups[found.n_groups :]


def test_tree_is_exhaustive_if_all_groups_are_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge_tree, "NEAR", 100)
    moments = fine(18)
    found = grow(moments, 0.05)
    made, lengths = exhaustive(moments, 0.05)
    assert unions(found) == made
    assert found.bits[::-1].tolist() == pytest.approx(lengths)


def test_tree_is_close_with_few_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = fine()
    monkeypatch.setattr(merge_tree, "NEAR", 100)
    whole = grow(moments, 0.05)
    monkeypatch.setattr(merge_tree, "NEAR", 4)
    found = grow(moments, 0.05)
    assert found.best == whole.best == 4
    assert np.array_equal(found.cut(4), whole.cut(4))
    assert (found.bits - whole.bits).max() < 0.02 * np.ptp(whole.bits)


@pytest.mark.parametrize("chunk", [1, 10**9])
def test_chunks_change_nothing(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = grow(fine(), 0.05)
    monkeypatch.setattr(merge_tree, "_CHUNK_FLOATS", chunk)
    found = grow(fine(), 0.05)
    assert np.array_equal(found.merged, expected.merged)
    assert found.bits == pytest.approx(expected.bits)


def test_length_of_every_cut_equals_its_merged_moments() -> None:
    moments = fine()
    found = grow(moments, 0.05)
    for K in range(1, 31):
        cut = torch.from_numpy(found.cut(K))
        assert found.bits[K - 1] == pytest.approx(coding_length(moments.merge(cut, K), 0.05))


def test_cuts_are_nested_and_numbered_by_first_group() -> None:
    found = grow(fine(), 0.05)
    finer: NDArray[np.int64] = found.cut(30)
    assert finer.tolist() == list(range(30))
    for K in range(29, 0, -1):
        cut = found.cut(K)
        clusters, first = np.unique(cut, return_index=True)
        assert clusters.tolist() == list(range(K))
        assert (np.diff(first) > 0).all()
        assert len(np.unique(np.stack([finer, cut], 1), axis=0)) == K + 1  # each of the finer is inside one
        finer = cut


def test_merges_follow_scipy_linkage_numbering() -> None:
    from scipy.cluster.hierarchy import fcluster, is_valid_linkage

    found = grow(fine(), 0.05)
    size = [1] * 30
    for a, b in found.merged:
        size.append(size[a] + size[b])
    linkage = np.column_stack([found.merged, np.arange(29.0), size[30:]])
    assert is_valid_linkage(linkage)
    assert scores(fcluster(linkage, 5, "maxclust"), found.cut(5)).ari == 1


@pytest.mark.parametrize("K", [0, 31])
def test_cut_out_of_range_is_an_error(K: int) -> None:
    with pytest.raises(ValueError, match=f"cannot cut 30 groups into {K} clusters: K must be from 1 to 30"):
        grow(fine(), 0.05).cut(K)


@pytest.mark.parametrize("refine", [False, True])
def test_one_group_is_one_cluster(refine: bool) -> None:
    moments = fine(1, 1)
    found = grow(moments, 0.05, refine)
    assert (found.best, found.n_groups, found.merged.shape, found.cut(1).tolist()) == (1, 1, (0, 2), [0])
    assert found.bits.tolist() == pytest.approx([coding_length(moments, found.e)])


@pytest.mark.parametrize(("K", "expected"), [(1, [0, 0]), (2, [0, 1])])
def test_two_groups_form_one_or_two_clusters(K: int, expected: list[int]) -> None:
    found = grow(fine(2, K, rows=40), 0.05)
    assert found.best == K
    assert found.cut(found.best).tolist() == expected
    assert found.merged.tolist() == [[0, 1]]


def test_few_isolated_rows_form_no_cluster() -> None:
    F, d = 20, 16
    Z, group = pieces(F, 4, d, 12)
    apart = 3 * torch.nn.functional.normalize(pieces(3, 3, d, 3, seed=1)[0])
    moments = Moments.of(torch.cat([Z, apart]), torch.cat([group, F + torch.arange(9) // 3]), F + 3)
    found = grow(moments, d * 0.1**2)
    assert found.bits.argmin() + 1 > 4  # by length alone they would be
    assert found.best == found.most == 4
    assert scores(np.arange(F) % 4, found.cut(4)[:F]).ari == 1


def test_up_to_most_clusters_each_has_ten_rows() -> None:
    Z, group = pieces(40, 4, 5, 4)
    found = grow(Moments.of(Z, group, 40), 0.05)
    for K in range(1, 41):
        assert (4 * np.bincount(found.cut(K)).min() >= 10) == (found.most >= K)


def test_fewer_than_ten_rows_are_one_cluster() -> None:
    Z = torch.eye(3, dtype=torch.float64).repeat_interleave(3, 0)
    assert grow(Moments.of(Z, torch.arange(9) // 3, 3), 1e-3).best == 1


def test_groups_of_copies_of_one_row_are_merged() -> None:
    Z = torch.eye(3, dtype=torch.float64).repeat_interleave(20, 0)
    found = grow(Moments.of(Z, torch.arange(60) // 5, 12), 1e-6)
    assert found.cut(found.best).tolist() == [0] * 4 + [1] * 4 + [2] * 4


@pytest.mark.parametrize("K", [1, 5, 12])
def test_k_of_planted_clusters_is_recovered(K: int) -> None:
    F, d = 60, 16
    found = grow(Moments.of(*pieces(F, K, d, 10), F), d * 0.1**2, refine=True)
    assert found.best == K
    assert scores(np.arange(F) % K, found.cut(K)).ari == 1


def test_thin_groups_use_a_finer_distortion() -> None:
    Z, group = subspaces(900, 3, 2, 12, seed=0)
    piece = torch.from_numpy(group + 3 * (np.arange(900) % 15))
    found = grow(Moments.of(Z, piece, 45), 0.3, refine=True)
    assert found.e < 0.3
    assert found.best == 3
    assert scores(np.arange(45) % 3, found.cut(3)).ari == 1


@pytest.mark.parametrize("d", [4, 64])
def test_affinity_is_the_mean_squared_inner_product_of_the_rows(d: int) -> None:
    Z, group = pieces(8, 3, d, 6)
    squares = (Z @ Z.T).square().reshape(8, 6, 8, 6).sum((1, 3))
    expected = squares / (squares.diagonal()[:, None] * squares.diagonal()).sqrt()
    found = affinity(Moments.of(Z, group, 8))
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6 if d == 4 else 0.15)


@pytest.mark.parametrize("dense", [8, 7])
def test_merged_group_has_the_affinity_of_its_rows(dense: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge_tree, "DENSE", dense)
    moments = fine(8)
    merging = merge_tree._Merging(moments, 0.05)
    merging._merge(0.0, 2, 5)
    into = torch.tensor([0, 1, 2, 3, 4, 2, 5, 6])
    rows = [merging.row[k] for k in (0, 1, 8, 3, 4, 6, 7)]
    assert (merging.products is None) == (dense < 8)
    products = merging.sketch @ merging.sketch.mT if merging.products is None else merging.products
    found = (products * merging.scale[:, None] * merging.scale)[rows][:, rows]
    torch.testing.assert_close(found, affinity(moments.merge(into, 7)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("d", [8, 64])
def test_many_groups_have_the_tree_of_few_without_the_products_of_all_pairs(
    d: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = Moments.of(*pieces(60, 6, d, 10), 60)
    expected = grow(moments, 0.05)
    monkeypatch.setattr(merge_tree, "DENSE", 59)
    merging = merge_tree._Merging(moments, 0.05)
    assert merging.products is None
    many = merging.tree()
    assert many.merged.tolist() == expected.merged.tolist()
    assert many.bits == pytest.approx(expected.bits)


def test_thread_count_is_restored() -> None:
    before = torch.get_num_threads()
    grow(fine(5), 0.05)
    assert torch.get_num_threads() == before
