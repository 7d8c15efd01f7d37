"""Votes of images for words: small examples, and sums over shards."""

import numpy as np
import pytest
import torch

from cpp.naming.vocabulary import Vocabulary
from cpp.naming.votes import ClusterSums, VoteResult, Votes, similarities, vote

AXES = Vocabulary.of(["cat", "dog", "car"], np.eye(3, dtype=np.float32))


def votes(cluster: list[int], word: list[int], vote: list[float], first: list[int]) -> Votes:
    return Votes(np.array(cluster, np.int32), np.array(word, np.int32), np.array(vote), np.array(first))


def random(n: int = 50, words: int = 30, d: int = 16) -> tuple[torch.Tensor, np.ndarray, Vocabulary]:
    g = torch.Generator().manual_seed(0)
    X = torch.nn.functional.normalize(torch.randn(n, d, generator=g), dim=1)
    vocabulary = Vocabulary.of([f"w {i}" for i in range(words)], torch.randn(words, d, generator=g).numpy())
    return X, np.arange(n, dtype=np.int32) % 4, vocabulary


def test_votes_by_hand() -> None:
    # 100 x cosine differs by ln 3 between the first two words: softmax is 3/4, 1/4 and nearly 0
    X = torch.tensor([[np.log(3) / 100, 0.0, -1.0]])
    result = vote(X, np.array([7], np.int32), AXES, None, top=2, batch=8, device="cpu")
    assert result.votes.cluster.tolist() == [7, 7]
    assert result.votes.word.tolist() == [0, 1]
    np.testing.assert_allclose(result.votes.vote, [0.75, 0.25], atol=1e-5)
    assert result.votes.first.tolist() == [1, 0]
    assert result.word.tolist() == [0]
    assert result.present.tolist() == [7]


def test_votes_are_a_sum_over_shards_and_batches() -> None:
    X, cluster, vocabulary = random()
    whole = vote(X, cluster, vocabulary, None, 5, 64, "cpu").votes
    parts = [vote(X[a:b], cluster[a:b], vocabulary, None, 5, 7, "cpu").votes for a, b in ((0, 13), (13, 50))]
    total = Votes.total(parts)
    softmax = (100 * X @ vocabulary.vectors.T).softmax(1).numpy()
    naive, firsts = np.zeros((2, 4, 30))
    for row, k in zip(softmax, cluster, strict=True):
        best = np.argsort(-row)[:5]
        naive[k, best] += row[best]
        firsts[k, best[0]] += 1
    for result in (whole, total):
        dense, first = np.zeros((2, 4, 30))
        dense[result.cluster, result.word] = result.vote
        first[result.cluster, result.word] = result.first
        np.testing.assert_allclose(dense, naive, rtol=1e-4, atol=1e-7)
        np.testing.assert_array_equal(first, firsts)


def test_sums_of_images_add_up_over_shards() -> None:
    X, cluster, vocabulary = random()
    total = ClusterSums.zeros(4, 16)
    for a, b in ((0, 13), (13, 50)):
        result: VoteResult = vote(X[a:b], cluster[a:b], vocabulary, None, 5, 7, "cpu")
        total.add_(result.present, result.sums)
    np.testing.assert_array_equal(total.count_k, np.bincount(cluster))
    for k in range(4):
        np.testing.assert_allclose(total.sum_kd[k], X[cluster == k].sum(0), atol=1e-5)


def test_centred_similarities_by_hand() -> None:
    # the words minus their mean (1/2, 1/2) are (1/2, -1/2) and its opposite, of length 1/sqrt 2
    words, X = Vocabulary.of(["cat", "dog"], np.eye(2, dtype=np.float32)), torch.tensor([[1.0, 0.0]])
    centred = similarities(X, words, torch.tensor([0.5, 0.0]))
    first = (1 - 0.65 * 0.5) / np.sqrt(2)
    np.testing.assert_allclose(centred, [[first, -first]], rtol=1e-6)
    np.testing.assert_allclose(similarities(X, words, None), [[1, 0]])


def test_the_mean_of_the_images_does_not_vote() -> None:
    # all images lie near the word "photograph"; what sets them apart is another word
    words = Vocabulary.of(["cat", "dog", "photograph"], np.eye(3, dtype=np.float32))
    X = torch.nn.functional.normalize(torch.tensor([[0.6, 0.0, 0.9], [0.0, 0.6, 0.9]]), dim=1)
    cluster = np.array([0, 1], np.int32)
    assert vote(X, cluster, words, None, 1, 8, "cpu").word.tolist() == [2, 2]
    assert vote(X, cluster, words, X.mean(0), 1, 8, "cpu").word.tolist() == [0, 1]


def test_coarser_layers_sum_their_parts() -> None:
    coarser = votes([0, 1, 2, 2], [5, 5, 5, 6], [1, 2, 4, 8], [1, 1, 0, 2]).merge(np.array([1, 0, 1]))
    assert coarser.cluster.tolist() == [0, 1, 1]
    assert coarser.word.tolist() == [5, 5, 6]
    assert coarser.vote.tolist() == [2, 5, 8]
    assert coarser.first.tolist() == [1, 1, 2]
    fine = ClusterSums(np.array([1, 2, 3]), np.arange(6.0).reshape(3, 2))
    merged = fine.merge(np.array([1, 0, 1]), 2)
    assert merged.count_k.tolist() == [2, 4]
    assert merged.sum_kd.tolist() == [[2, 3], [4, 6]]


def test_some_of_the_votes() -> None:
    left = votes([0, 0, 1], [0, 2, 2], [1, 2, 3], [1, 0, 1]).select(np.array([True, False, False]))
    assert (left.cluster.tolist(), left.word.tolist(), left.vote.tolist(), left.first.tolist()) == ([0], [0], [1], [1])


def test_another_space_is_an_error() -> None:
    with pytest.raises(ValueError, match="the images have dimension 4, the words 3: label.vocabulary must come from"):
        vote(torch.zeros(1, 4), np.zeros(1, np.int32), AXES, None, 5, 8, "cpu")


def test_no_images_give_no_votes() -> None:
    result = vote(torch.empty(0, 3), np.empty(0, np.int32), AXES, None, 5, 8, "cpu")
    assert len(result.votes.vote) == len(result.word) == len(result.present) == 0
