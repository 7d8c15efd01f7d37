"""Votes and names, by hand and as sums over shards."""

import numpy as np
import pytest
import torch

from cpp.label import Votes, clusters, names, vote
from cpp.quality import measures
from cpp.rate import Moments
from cpp.vocabulary import Vocabulary

AXES = Vocabulary.of(["cat", "dog", "car"], np.eye(3, dtype=np.float32))


def test_votes_by_hand() -> None:
    # 100 x cosine differs by ln 3 between the first two words: softmax is 3/4, 1/4 and nearly 0
    X = torch.tensor([[np.log(3) / 100, 0.0, -1.0]])
    found = vote(X, np.array([7], np.int32), AXES, top=2, batch=8, device="cpu")
    assert found.cluster.tolist() == [7, 7]
    assert found.word.tolist() == [0, 1]
    np.testing.assert_allclose(found.vote, [0.75, 0.25], atol=1e-5)


def test_votes_are_a_sum_over_shards_and_batches() -> None:
    g = torch.Generator().manual_seed(0)
    X = torch.nn.functional.normalize(torch.randn(50, 16, generator=g), dim=1)
    vocabulary = Vocabulary.of([f"w{i}" for i in range(30)], torch.randn(30, 16, generator=g).numpy())
    cluster = np.arange(50, dtype=np.int32) % 4
    whole = vote(X, cluster, vocabulary, 5, 64, "cpu")
    parts = [vote(X[a:b], cluster[a:b], vocabulary, 5, 7, "cpu") for a, b in ((0, 13), (13, 50))]
    total = Votes.total(parts)
    assert total.cluster.tolist() == whole.cluster.tolist()
    assert total.word.tolist() == whole.word.tolist()
    np.testing.assert_allclose(total.vote, whole.vote, rtol=1e-5)
    naive = np.zeros((4, 30))
    softmax = (100 * X @ vocabulary.vectors.T).softmax(1).numpy()
    for row, k in zip(softmax, cluster, strict=True):
        best = np.argsort(-row)[:5]
        naive[k, best] += row[best]
    dense = np.zeros((4, 30))
    dense[whole.cluster, whole.word] = whole.vote
    np.testing.assert_allclose(dense, naive, rtol=1e-4, atol=1e-7)


def test_names_shares_and_margins_by_hand() -> None:
    votes = Votes(np.array([0, 0, 2], np.int32), np.array([1, 2, 0], np.int32), np.array([3.0, 1.0, 5.0]))
    first, empty, alone = names(votes, AXES.words, 3)
    assert (first.name, first.runner_up, first.share, first.margin) == ("dog", "car", 0.75, 0.5)
    assert first.top == [("dog", 3.0, 0.75), ("car", 1.0, 0.25)]
    assert (empty.name, empty.runner_up, empty.share, empty.top) == (None, None, 0.0, [])
    assert (alone.name, alone.runner_up, alone.share, alone.margin) == ("cat", None, 1.0, 1.0)


def test_equal_votes_go_to_the_earlier_word() -> None:
    votes = Votes(np.array([0, 0], np.int32), np.array([0, 2], np.int32), np.array([1.0, 1.0]))
    assert names(votes, AXES.words, 1)[0].name == "cat"


def test_votes_of_a_coarser_layer_are_those_of_its_parts() -> None:
    votes = Votes(np.array([0, 1, 2, 2], np.int32), np.array([5, 5, 5, 6], np.int32), np.array([1.0, 2.0, 4.0, 8.0]))
    coarser = votes.merge(np.array([1, 0, 1]))
    assert coarser.cluster.tolist() == [0, 1, 1]
    assert coarser.word.tolist() == [5, 5, 6]
    assert coarser.vote.tolist() == [2, 5, 8]


def test_no_words_and_another_space_are_errors() -> None:
    with pytest.raises(ValueError, match="no words"):
        Vocabulary.of([], np.empty((0, 3)))
    with pytest.raises(ValueError, match="the images have dimension 4, the words 3: label.vocabulary must come from"):
        vote(torch.zeros(1, 4), np.zeros(1, np.int32), AXES, 5, 8, "cpu")


def test_no_images_give_no_votes_and_table_keeps_its_schema() -> None:
    found = vote(torch.empty(0, 3), np.empty(0, np.int32), AXES, 5, 8, "cpu")
    assert len(found.vote) == 0
    measured = measures(Moments.of(torch.eye(3), torch.zeros(3, dtype=torch.int64), 1), 0.1)
    table = clusters(1, True, np.array([0]), names(found, AXES.words, 1), measured, [None], [0.5])
    assert table.to_pylist()[0]["name"] is None
    assert table.to_pylist()[0]["top"] == []
