"""Names: hand-worked examples, the three answers, and unique names."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from cpp.naming import names as naming
from cpp.naming.names import Agreement, names, vocabulary_fit
from cpp.naming.vocabulary import Vocabulary
from cpp.naming.votes import Votes, vote

BIRDS = ("robin", "ostrich", "pelican", "flamingo", "penguin")


def axes(*words: str) -> Vocabulary:
    return Vocabulary.of(words, np.eye(len(words), dtype=np.float32))


ZOO = axes("cat", "dog", "car", "ship", "tree", "chair", "piano", "spoon")
MIXED = axes(*BIRDS, "piano", "spoon", "car")


def votes(*shares: dict[str, float], vocabulary: Vocabulary = MIXED, images: int = 10) -> tuple[Votes, np.ndarray]:
    """Votes of clusters of ten images each, from the share of each word."""
    number = {word: i for i, word in enumerate(vocabulary.words)}
    rows = [(k, number[word], share * images) for k, part in enumerate(shares) for word, share in part.items()]
    cluster, word, vote = (np.array(column) for column in zip(*sorted(rows), strict=True))
    parts = Votes(cluster.astype(np.int32), word.astype(np.int32), vote.astype(float), vote.round().astype(np.int64))
    return parts, np.full(len(shares), images)


def blobs(K: int, per: int = 20, noise: float = 0.05) -> tuple[torch.Tensor, list[int]]:
    """Images around the first K axes."""
    cluster = [k for k in range(K) for _ in range(per)]
    return torch.eye(K)[cluster] + noise * torch.randn(K * per, K, generator=torch.Generator().manual_seed(0)), cluster


def voted(X: torch.Tensor, cluster: list[int], vocabulary: Vocabulary) -> tuple[Votes, np.ndarray]:
    unit = normalize(X)
    result = vote(unit, np.array(cluster, np.int32), vocabulary, unit.mean(0), 5, 8, "cpu")
    return result.votes, np.bincount(cluster)


def odds(share: float) -> float:
    return float(np.log(share / (1 - share)))


def probability(odds: float) -> float:
    return float(1 / (1 + np.exp(-odds)))


def test_clusters_around_words_are_named_with_high_confidence() -> None:
    results = names(*voted(*blobs(8), ZOO), ZOO)
    assert [n.name for n in results] == list(ZOO.words)
    assert min(n.confidence for n in results) > 0.9
    assert all(n.agree == 1 and n.top[0].word == n.name == n.guess and n.status == "named" for n in results)


def test_a_sure_guess_is_the_name_with_its_evidence_by_hand() -> None:
    (named,) = names(*votes({"robin": 0.9, "piano": 0.08, "spoon": 0.02}), MIXED)
    assert (named.name, named.status, named.general) == ("robin", "named", None)
    assert named.share == pytest.approx(0.9)
    assert named.confidence == named.guess_confidence
    assert named.confidence == pytest.approx(probability(naming.GUESS_INTERCEPT + naming.GUESS_SLOPE * odds(0.9)))
    assert (named.runner_up, named.agree) == ("piano", 0.9)
    assert named.margin == pytest.approx(0.82)
    assert [(word.word, word.share) for word in named.top] == [
        ("robin", pytest.approx(0.9)), ("piano", pytest.approx(0.08)), ("spoon", pytest.approx(0.02)),
    ]  # fmt: skip


def test_several_kinds_of_birds_are_birds() -> None:
    shares = {"robin": 0.3, "ostrich": 0.25, "pelican": 0.2, "flamingo": 0.2, "piano": 0.05}
    (birds,) = names(*votes(shares), MIXED, fit=0.5)
    assert (birds.name, birds.general, birds.status, birds.guess) == ("bird", "bird", "general", "robin")
    expected = naming.GENERAL_INTERCEPT + naming.GENERAL_SLOPE * odds(0.95)
    assert birds.confidence == pytest.approx(probability(expected))
    assert birds.guess_confidence < 0.5 < birds.confidence
    assert names(*votes(shares), MIXED, fit=0.1)[0].status == "unsure"  # the words fit no cluster of the run


def test_the_fit_of_a_vocabulary_is_the_mean_share_of_the_best_word_over_images() -> None:
    parts, _ = votes({"robin": 0.6, "piano": 0.4}, {"spoon": 1.0})
    assert vocabulary_fit(parts, np.array([30, 10])) == pytest.approx((30 * 0.6 + 10 * 1.0) / 40)
    assert vocabulary_fit(parts.select(slice(0, 0)), np.array([30, 10])) == 0


def test_the_narrowest_sure_general_word_is_the_answer() -> None:
    vocabulary = axes(*BIRDS, "tiger", "rabbit", "spoon")
    (animals,) = names(
        *votes({"robin": 0.3, "ostrich": 0.25, "tiger": 0.25, "rabbit": 0.2}, vocabulary=vocabulary), vocabulary
    )
    assert animals.name == "animal"  # 55% are birds, which is not sure


@pytest.mark.parametrize("bird", ["bird", "Bird (animal)"])
def test_a_guess_that_is_a_general_word_counts_the_words_below_it(bird: str) -> None:
    vocabulary = axes(bird, *BIRDS[:3], "spoon")
    (birds,) = names(*votes({bird: 0.4, "robin": 0.3, "ostrich": 0.3}, vocabulary=vocabulary), vocabulary)
    assert (birds.name, birds.status) == (bird, "named")


def test_votes_for_unlike_words_leave_a_cluster_unsure_with_its_guess() -> None:
    (unsure,) = names(*votes({"robin": 0.3, "piano": 0.25, "spoon": 0.25, "car": 0.2}), MIXED)
    assert (unsure.name, unsure.status, unsure.guess) == (None, "unsure", "robin")
    assert unsure.confidence == unsure.guess_confidence < 0.5
    assert names(*votes({"robin": 0.3, "piano": 0.25, "spoon": 0.25, "car": 0.2}), MIXED, sure=0)[0].name == "robin"


def test_words_alike_in_meaning_count_for_the_guess() -> None:
    text = np.eye(4, dtype=np.float32)
    text[1] = 0.9 * text[0] + 0.1 * text[1]  # a second word for nearly the same
    vocabulary = Vocabulary.of(["mug", "teacup holder", "zither", "xylophone"], text)
    (cup,) = names(*votes({"mug": 0.45, "teacup holder": 0.4, "zither": 0.15}, vocabulary=vocabulary), vocabulary)
    assert (cup.name, cup.runner_up) == ("mug", "zither")
    assert cup.share == pytest.approx(0.85)


@pytest.mark.parametrize(
    ("shares", "name", "status"),
    [
        ({"poodle": 0.4, "beagle": 0.3, "collie": 0.3}, "dog", "general"),
        ({"poodle": 0.6, "beagle": 0.2, "collie": 0.2}, "poodle", "named"),
        ({"poodle": 0.4, "toy poodle": 0.3, "collie": 0.3}, "poodle", "named"),  # toy poodles are poodles
        ({"spoon": 0.4, "zebra": 0.35, "fog": 0.25}, "spoon", "named"),  # no general word covers them
    ],
)
def test_a_mixture_of_words_alike_is_called_by_a_general_word(shares: dict[str, float], name: str, status: str) -> None:
    words = ["poodle", "beagle", "collie", "toy poodle", "spoon", "zebra", "fog"]
    text = np.eye(8, dtype=np.float32)[:7]
    text[:, 7] = [2, 2, 2, 2, -2, -2, -2]  # dogs are alike, and so are the others
    vocabulary = Vocabulary.of(words, text)
    (mixture,) = names(*votes(shares, vocabulary=vocabulary), vocabulary)
    assert mixture.share == pytest.approx(1)
    assert (mixture.name, mixture.status, mixture.guess) == (name, status, next(iter(shares)))


def test_a_word_near_every_image_names_no_cluster() -> None:
    # "photograph" is near everything; the published vote falls for it
    text = torch.eye(5)
    text[4] = normalize(torch.tensor([1.0, 1, 1, 1, 1]), dim=0)
    vocabulary = Vocabulary.of(["cat", "dog", "ship", "tree", "photograph"], text.numpy())
    cluster = [k for k in range(4) for _ in range(20)]
    X = normalize(torch.eye(5)[cluster] + 1.2 * text[4])
    centred = names(*voted(X, cluster, vocabulary), vocabulary)
    assert [n.guess for n in centred] == ["cat", "dog", "ship", "tree"]
    plain = vote(X, np.array(cluster, np.int32), vocabulary, None, 5, 8, "cpu").votes
    published = names(plain, np.bincount(cluster), vocabulary, method="paper")
    assert {n.guess for n in published} == {"photograph"}


def test_additions_to_equal_names_fit_their_cluster_and_no_other() -> None:
    vocabulary = axes("fog", "piano", "spoon")  # no general word covers fog
    shares = {"fog": 0.9, "spoon": 0.1}, {"fog": 0.78, "piano": 0.22}, {"fog": 0.9, "spoon": 0.1}
    first, second, third = names(*votes(*shares, vocabulary=vocabulary), vocabulary)
    assert [n.name for n in (first, second, third)] == ["fog", "fog + piano", "fog 2"]
    assert first.guess == second.guess == third.guess == "fog"


def test_equal_general_names_are_numbered() -> None:
    results = names(*votes({"robin": 0.5, "ostrich": 0.5}, {"pelican": 0.5, "flamingo": 0.5}), MIXED)
    assert [(n.name, n.general) for n in results] == [("bird", "bird"), ("bird 2", "bird")]


def test_the_published_vote_by_hand_is_never_silent() -> None:
    parts = Votes(
        np.array([0, 0, 2], np.int32), np.array([1, 2, 0], np.int32), np.array([3.0, 1.0, 5.0]), np.array([3, 1, 5])
    )
    first, empty, alone = names(parts, np.array([4, 0, 5]), ZOO, method="paper")
    assert (first.name, first.runner_up, first.share, first.margin) == ("dog", "car", 0.75, 0.5)
    assert [tuple(word) for word in first.top] == [("dog", 3.0, 0.75), ("car", 1.0, 0.25)]
    assert first.agree == 0.75
    assert (empty.name, empty.guess, empty.confidence, empty.top) == (None, None, 0.0, [])
    assert (alone.name, alone.runner_up, alone.share, alone.margin) == ("cat", None, 1.0, 1.0)


def test_the_published_vote_names_clusters_of_low_confidence() -> None:
    parts = Votes(np.zeros(3, np.int32), np.arange(3, dtype=np.int32), np.array([4.0, 3.0, 3.0]), np.ones(3, np.int64))
    (named,) = names(parts, np.array([3]), ZOO, method="paper")
    assert (named.name, named.confidence) == ("cat", 0.4)


@pytest.mark.parametrize("method", ["centred", "paper"])
def test_equal_votes_go_to_the_earlier_word(method: naming.Method) -> None:
    parts = Votes(np.array([0, 0], np.int32), np.array([0, 2], np.int32), np.ones(2), np.ones(2, np.int64))
    assert names(parts, np.array([2]), ZOO, method=method)[0].guess == "cat"


def test_excluded_words_are_neither_names_nor_evidence() -> None:
    evidence = voted(*blobs(8), ZOO)
    barred = np.array([word == "cat" for word in ZOO.words])
    for method in ("centred", "paper"):
        first, second, *_ = names(*evidence, ZOO, method=method, exclude=barred)
        assert first.guess != "cat"
        assert second.guess == "dog"
        assert "cat" not in [word.word for word in first.top] + [first.runner_up]
    assert {n.guess for n in names(*evidence, ZOO, exclude=np.ones(8, bool))} == {None}


def test_one_word_and_one_cluster_work() -> None:
    one = axes("cat")
    assert names(*voted(torch.ones(3, 1), [0, 0, 0], one), one)[0].guess == "cat"
    X, _ = blobs(8)
    assert names(*voted(X, [0] * len(X), ZOO), ZOO)[0].status == "unsure"  # eight things of equal weight


def test_names_do_not_depend_on_the_order_of_clusters() -> None:
    parts, size = voted(*blobs(8), ZOO)
    order = np.random.default_rng(0).permutation(8)
    turned, straight = names(parts.merge(order), size, ZOO), names(parts, size, ZOO)
    assert [turned[order[k]] for k in range(8)] == straight


def test_words_agree_with_a_like_guess_or_a_general_word_above_them() -> None:
    results = names(
        *votes({"robin": 0.9, "spoon": 0.1}, {"pelican": 0.5, "ostrich": 0.5}, {"piano": 0.4, "car": 0.6}), MIXED
    )
    agreement = Agreement([*map(asdict, results), {"guess": None, "general": None}], MIXED)
    number = {word: i for i, word in enumerate(MIXED.words)}
    pairs = [(0, "robin"), (0, "ostrich"), (1, "flamingo"), (1, "car"), (2, "car"), (2, "piano"), (3, "robin")]
    agrees = agreement(np.array([k for k, _ in pairs]), np.array([number[word] for _, word in pairs]))
    assert agrees.tolist() == [True, False, True, False, True, False, False]


def test_words_that_wordnet_does_not_have_agree_with_themselves_alone() -> None:
    foreign = axes("Katze", "Hund", "Waschmaschine")
    results = names(*votes({"Katze": 0.9, "Hund": 0.1}, {"Waschmaschine": 1.0}, vocabulary=foreign), foreign)
    agreement = Agreement([asdict(name) for name in results], foreign)
    assert agreement(np.array([0, 0, 1]), np.array([0, 1, 2])).tolist() == [True, False, True]
