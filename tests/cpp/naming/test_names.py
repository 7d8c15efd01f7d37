"""Names: hand-worked examples, unsure clusters, and unique names."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from cpp.naming import names as naming
from cpp.naming.names import names
from cpp.naming.vocabulary import Vocabulary
from cpp.naming.votes import SimilaritySums, VoteResult, Votes, vote


def axes(*words: str) -> Vocabulary:
    return Vocabulary.of(words, np.eye(len(words), dtype=np.float32))


def voted(X: torch.Tensor, cluster: list[int], vocabulary: Vocabulary, top: int = 5) -> tuple[Votes, SimilaritySums]:
    n_clusters = max(cluster) + 1
    result: VoteResult = vote(normalize(X), np.array(cluster, np.int32), vocabulary, top, 8, "cpu")
    total = SimilaritySums.zeros(n_clusters, X.shape[1], len(vocabulary))
    total.add_(result.present, result.sums)
    return result.votes, total


def blobs(K: int, per: int = 20, noise: float = 0.05) -> tuple[torch.Tensor, list[int]]:
    """Images around the first K axes."""
    cluster = [k for k in range(K) for _ in range(per)]
    return torch.eye(K)[cluster] + noise * torch.randn(K * per, K, generator=torch.Generator().manual_seed(0)), cluster


ZOO = axes("cat", "dog", "car", "ship", "tree", "chair", "piano", "spoon")


def test_clusters_around_words_are_named_with_high_confidence() -> None:
    results = names(*voted(*blobs(8), ZOO), ZOO)
    assert [n.name for n in results] == list(ZOO.words)
    assert min(n.confidence for n in results) > 0.9
    assert all(n.agree == 1 and n.top[0].word == n.name and n.status == "named" for n in results)


def test_lead_and_standing_by_hand() -> None:
    # two clusters of one image each on two axes: similarities are 1 and 0, mean 1/2 and deviation 1/2 of every word
    vocabulary = axes("cat", "ship")
    first, _ = names(*voted(torch.eye(2), [0, 1], vocabulary), vocabulary)
    assert first.lead == pytest.approx((0.5 - (-0.5)) / 0.5)
    assert first.standing == pytest.approx(0.5 / 0.5)
    odds = naming.INTERCEPT + naming.LEAD * 2 + naming.STANDING * 1
    assert first.confidence == pytest.approx(1 / (1 + np.exp(-odds)))


def test_images_that_fit_no_word_are_unsure_and_keep_their_guess() -> None:
    X, cluster = blobs(8)
    X[:20] = torch.randn(20, 8, generator=torch.Generator().manual_seed(1))
    unsure, *others = names(*voted(X, cluster, ZOO), ZOO)
    assert (unsure.name, unsure.status) == (None, "unsure")
    assert unsure.guess == unsure.top[0].word
    assert all(n.name for n in others)


def test_threshold_zero_names_every_cluster() -> None:
    X = torch.randn(40, 8, generator=torch.Generator().manual_seed(1))
    evidence = voted(X, [0] * 20 + [1] * 20, ZOO)
    assert [n.name for n in names(*evidence, ZOO)] == [None, None]
    assert all(n.name for n in names(*evidence, ZOO, sure=0))


def test_a_word_near_every_image_names_no_cluster() -> None:
    # "photograph" is near everything; the published vote falls for it
    text = torch.eye(5)
    text[4] = normalize(torch.tensor([1.0, 1, 1, 1, 1]), dim=0)
    vocabulary = Vocabulary.of(["cat", "dog", "ship", "tree", "photograph"], text.numpy())
    X = torch.eye(5)[[0] * 20 + [1] * 20 + [2] * 20 + [3] * 20] + 0.55 * text[4]
    evidence = voted(X, [k for k in range(4) for _ in range(20)], vocabulary)
    assert [n.guess for n in names(*evidence, vocabulary)] == ["cat", "dog", "ship", "tree"]
    assert "photograph" in [
        n.guess for n in names(*voted(X + text[4], [0] * 80, vocabulary), vocabulary, method="paper")
    ]


def test_members_that_disagree_get_the_more_general_word() -> None:
    vocabulary = axes("airliner", "jet plane", "airplane", "dog", "tree", "spoon")
    X = torch.eye(6)[[0] * 40 + [1] * 38 + [2] * 20 + [3] * 40 + [4] * 40 + [5] * 40]
    cluster = [0] * 98 + [1] * 40 + [2] * 40 + [3] * 40
    votes, sums = voted(X, cluster, vocabulary)
    plane = names(votes, sums, vocabulary, sure=0)[0]
    assert plane.name == "airplane"
    assert plane.agree == 1  # an airliner is one, too
    assert plane.share == pytest.approx(1)
    assert plane.runner_up in ("dog", "tree", "spoon")  # not a word below it
    same = [0] * 60 + [1] * 38
    X = torch.eye(6)[same + [3] * 40 + [4] * 40 + [5] * 40]
    assert names(*voted(X, cluster, vocabulary), vocabulary, sure=0)[0].name == "airliner"  # more than half agree


def test_names_of_a_layer_are_unique() -> None:
    vocabulary = axes("cat", "sofa", "garden", "ship", "tree", "spoon")
    parts = [[1, 0.5, 0, 0, 0, 0], [1, 0, 0.5, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 1]]
    X, cluster = torch.tensor(parts).repeat_interleave(20, 0), [k for k in range(5) for _ in range(20)]
    results = names(*voted(X, cluster, vocabulary), vocabulary, sure=0)
    assert [n.name for n in results] == ["cat + sofa", "cat + garden", "ship", "tree", "spoon"]
    assert results[0].guess == results[1].guess == "cat"
    twins = axes("cat", "dog")
    X = torch.eye(2)[[0, 0, 0, 1]].repeat_interleave(5, 0)
    named = names(*voted(X, [k for k in range(4) for _ in range(5)], twins), twins, sure=0)
    assert len({n.name for n in named}) == 4


def test_the_published_vote_by_hand_is_never_silent() -> None:
    votes = Votes(
        np.array([0, 0, 2], np.int32), np.array([1, 2, 0], np.int32), np.array([3.0, 1.0, 5.0]), np.array([3, 1, 5])
    )
    sums = SimilaritySums(np.array([4, 0, 5]), np.ones((3, 8)), np.ones(8), np.ones(8))
    first, empty, alone = names(votes, sums, ZOO, method="paper")
    assert (first.name, first.runner_up, first.share, first.margin) == ("dog", "car", 0.75, 0.5)
    assert [tuple(word) for word in first.top] == [("dog", 3.0, 0.75), ("car", 1.0, 0.25)]
    assert first.agree == 0.75
    assert (empty.name, empty.guess, empty.confidence, empty.top) == (None, None, 0.0, [])
    assert (alone.name, alone.runner_up, alone.share, alone.margin) == ("cat", None, 1.0, 1.0)


def test_the_published_vote_names_clusters_of_low_confidence() -> None:
    votes = Votes(np.zeros(3, np.int32), np.arange(3, dtype=np.int32), np.array([4.0, 3.0, 3.0]), np.ones(3, np.int64))
    sums = SimilaritySums(np.array([3]), np.ones((1, 8)), np.ones(8), np.ones(8))
    (named,) = names(votes, sums, ZOO, method="paper")
    assert (named.name, named.confidence) == ("cat", 0.4)


def test_equal_votes_go_to_the_earlier_word() -> None:
    votes = Votes(np.array([0, 0], np.int32), np.array([0, 2], np.int32), np.ones(2), np.ones(2, np.int64))
    sums = SimilaritySums(np.array([2]), np.ones((1, 8)), np.ones(8), np.ones(8))
    assert names(votes, sums, ZOO, method="paper")[0].name == "cat"


def test_excluded_words_are_neither_names_nor_evidence() -> None:
    evidence = voted(*blobs(8), ZOO)
    barred = np.array([word == "cat" for word in ZOO.words])
    for method in ("lift", "paper"):
        first, second, *_ = names(*evidence, ZOO, method=method, exclude=barred)
        assert first.guess != "cat"
        assert second.guess == "dog"
        assert "cat" not in [word.word for word in first.top] + [first.runner_up]
    assert {n.guess for n in names(*evidence, ZOO, exclude=np.ones(8, bool))} == {None}


def test_one_word_and_one_cluster_work() -> None:
    one = axes("cat")
    assert names(*voted(torch.ones(3, 1), [0, 0, 0], one), one)[0].guess == "cat"
    X, _ = blobs(8)
    alone = names(*voted(X, [0] * len(X), ZOO), ZOO)[0]
    assert alone.status == "unsure"  # nothing sets all images apart from all images


def test_names_do_not_depend_on_the_order_of_clusters() -> None:
    votes, sums = voted(*blobs(8), ZOO)
    order = np.random.default_rng(0).permutation(8)
    turned = names(votes.merge(order), sums.merge(order, 8), ZOO)
    straight = names(votes, sums, ZOO)
    for k, n in enumerate(straight):
        other = turned[order[k]]
        assert other == replace(
            n, confidence=other.confidence, guess_confidence=other.confidence, lead=other.lead, standing=other.standing
        )
        assert other.confidence == pytest.approx(n.confidence)
