"""Names of clusters and their confidence, both from the votes of images for words (`cpp.naming.votes`).

The guess for a cluster is the word with most votes. Its confidence follows from the share of the votes for it and the
words alike in meaning: those whose centred text vectors have a cosine above `LIKE`. The confidence of a more general
word follows from the share of the votes for all words below it, and from how well the vocabulary fits the images: the
mean share of the votes for a guess. A cluster gets one of three answers: its guess, if that is sure and the words alike
are mostly kinds of it (`named`); else a general word that is sure (`general`); else none (`unsure`).

Knows no files. The published vote, for comparison: Chu et al., arXiv 2306.05272, section 3.4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cpp.naming import wordnet
from cpp.naming.general_words import GeneralWords
from cpp.naming.unique_names import unique_names
from cpp.naming.vocabulary import Vocabulary
from cpp.naming.votes import Votes

LIKE = 0.5  # cosine of centred text vectors from which two words are alike
# logistic regressions of right names on the log odds of the share of the votes (tests/bench/names.py)
GUESS_INTERCEPT, GUESS_SLOPE = -0.23, 1.12
GENERAL_INTERCEPT, GENERAL_SLOPE, GENERAL_FIT = 1.57, 1.04, 2.66
SPECIFIC = 0.85  # a guess that is less sure gives way to a general word that is sure
MAJORITY = 0.5  # least share of the votes for a general word, and of those for words alike for the guess and its kinds

Method = Literal["centred", "paper"]
Status = Literal["named", "general", "unsure", "decided"]


class Word(NamedTuple):
    """A word with the votes of a cluster and its share of them."""

    word: str
    votes: float
    share: float


@dataclass(frozen=True)
class Name:
    """The name of a cluster and its evidence. Shares are those of all votes of the cluster.

    `guess` is the best word, right with probability `guess_confidence`. `name` is the word shown: the guess of a
    `named` cluster, the more general word `general` of a `general` one, None of an `unsure` one, that which a person
    gave of a `decided` one; what is added to tell
    clusters of one name apart is part of `name` alone. `confidence` is the probability
    that `name` is right, or the guess of an unsure cluster. `share` counts the votes for the guess and words alike,
    `agree` the members whose best word is one of these. `runner_up` is the best word that is not alike, `margin` its
    distance in shares. `top` has the words with most votes, the guess first.
    """

    guess: str | None
    guess_confidence: float
    name: str | None
    confidence: float
    status: Status
    share: float
    runner_up: str | None
    margin: float
    agree: float
    top: list[Word]
    general: str | None = None

    @property
    def word(self) -> str | None:
        """The name before it was made unique: what is right or wrong."""
        return self.name if self.status == "decided" else self.name and (self.general or self.guess)


EMPTY = Name(None, 0.0, None, 0.0, "unsure", 0.0, None, 0.0, 0.0, [])


def names(
    votes: Votes,
    size_k: NDArray[np.integer],
    vocabulary: Vocabulary,
    top: int = 5,
    method: Method = "centred",
    sure: float = 0.5,
    exclude: NDArray[np.bool_] | None = None,
    fit: float | None = None,
) -> list[Name]:
    """The name of every cluster, of `size_k` images each. No two names are equal.

    A word is a name if its confidence is at least `sure`. `method` paper takes the word with most votes, and its share
    as the confidence, and names every cluster. `exclude` `[n_words]` marks words that are not used. `fit` is that of
    the vocabulary (`vocabulary_fit`), by default to these clusters; coarser layers take that to the main clusters.
    """
    if exclude is not None:
        votes = votes.select(~exclude[votes.word])
    general = GeneralWords.of(vocabulary.words) if method == "centred" else None
    starts = np.searchsorted(votes.cluster, np.arange(len(size_k) + 1))
    evidence = [
        _Evidence(votes.select(slice(low, high)), int(size), vocabulary)
        for (low, high), size in zip(pairwise(starts), size_k, strict=True)
    ]
    fit = vocabulary_fit(votes, size_k) if fit is None else fit
    results = [_name(cluster, general, top, sure, fit) for cluster in evidence]
    # what fits the members better than a general word is only a guess: such names get numbers
    shares = [{} if name.general else cluster.shares for name, cluster in zip(results, evidence, strict=True)]
    unique = unique_names([name.name for name in results], shares, size_k)
    return [replace(name, name=text) for name, text in zip(results, unique, strict=True)]


def vocabulary_fit(votes: Votes, size_k: NDArray[np.integer]) -> float:
    """How well the words fit clusters of `size_k` images: the mean over images of the share of the best word."""
    best, total = np.zeros(len(size_k)), np.zeros(len(size_k))
    np.maximum.at(best, votes.cluster, votes.vote)
    np.add.at(total, votes.cluster, votes.vote)
    return float(size_k @ (best / total.clip(1e-30)) / max(size_k.sum(), 1))


class Agreement:
    """Whether words agree with the names of clusters, given as rows of `clusters.parquet`.

    A word agrees with a general word that covers it, otherwise with a guess that it is alike.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], vocabulary: Vocabulary) -> None:
        number = {word: i for i, word in enumerate(vocabulary.words)}
        general = GeneralWords.of(vocabulary.words)
        self._text, self._covers = vocabulary.centred.numpy(), general.covers
        self._guess_k = np.array([number.get(row["guess"], -1) for row in rows])
        self._general_k = np.array([general.words.index(row["general"]) if row["general"] else -1 for row in rows])

    def __call__(self, cluster_n: NDArray[np.integer], word_n: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Whether the word of each image agrees with the name of its cluster, `[n]`; False without a guess."""
        guess_n, general_n = self._guess_k[cluster_n], self._general_k[cluster_n]
        cosine = np.einsum("nd,nd->n", self._text[word_n], self._text[guess_n])
        alike = (guess_n >= 0) & ((cosine > LIKE) | (word_n == guess_n))
        agrees: NDArray[np.bool_] = alike
        covered = np.flatnonzero(general_n >= 0)  # none if no word of the vocabulary has a general one
        agrees[covered] = self._covers[word_n[covered], general_n[covered]]
        return agrees


class _Evidence:
    """The votes of one cluster, as shares, the most first; of words with equal votes the first in the vocabulary."""

    def __init__(self, votes: Votes, images: int, vocabulary: Vocabulary) -> None:
        order = np.lexsort((votes.word, -votes.vote))
        self.word, self.vote = votes.word[order], votes.vote[order]
        self.share = self.vote / max(self.vote.sum(), 1e-30)
        self._first, self._images, self._vocabulary = votes.first[order], images, vocabulary

    @property
    def shares(self) -> dict[str, float]:
        """The share of the votes of every word with votes."""
        return dict(zip((self._vocabulary.words[w] for w in self.word), self.share.tolist(), strict=True))

    def alike(self, like: float) -> NDArray[np.bool_]:
        """Which words have a cosine above `like` to the best word, itself included, `[n_words with votes]`."""
        text = self._vocabulary.centred.numpy()
        alike: NDArray[np.bool_] = text[self.word] @ text[self.word[0]] > like
        alike[0] = True
        return alike

    def holds_for_most(self) -> bool:
        """Whether the best word and the words below it in WordNet's hierarchy have most votes of the words alike."""
        alike = np.flatnonzero(self.alike(LIKE))
        words = [self._vocabulary.words[w] for w in self.word[alike]]
        senses = set(wordnet.usual(words[0]))
        below = [any(senses & set(wordnet.ancestors(sense)) for sense in wordnet.usual(word)) for word in words[1:]]
        return float(self.share[alike[[True, *below]]].sum()) >= MAJORITY * float(self.share[alike].sum())

    def guess(self, top: int, like: float) -> Name:
        """The guess, with its share of the votes as the confidence; words of a cosine above `like` count for it."""
        if not len(self.word):
            return EMPTY
        words, alike = self._vocabulary.words, self.alike(like)
        others = np.flatnonzero(~alike)
        share = float(self.share[alike].sum())
        return replace(
            EMPTY,
            guess=words[self.word[0]],
            guess_confidence=share,
            confidence=share,
            share=share,
            runner_up=words[self.word[others[0]]] if len(others) else None,
            margin=share - float(self.share[others[0]] if len(others) else 0),
            agree=float(self._first[alike].sum() / self._images),
            top=[
                Word(words[w], float(v), float(s))
                for w, v, s in zip(self.word[:top], self.vote[:top], self.share[:top], strict=True)
            ],
        )


def _name(cluster: _Evidence, general: GeneralWords | None, top: int, sure: float, fit: float) -> Name:
    """The answer for one cluster; without general words that of the published vote."""
    if general is None:
        guess = cluster.guess(top, like=1.0)
        return guess if guess.guess is None else replace(guess, name=guess.guess, status="named")
    guess = cluster.guess(top, LIKE)
    if guess.guess is None:
        return guess
    shares = cluster.share @ general.covers[cluster.word]
    candidates = {
        general.words[i]: _logistic(
            GENERAL_INTERCEPT + GENERAL_SLOPE * log_odds(shares[i]) + GENERAL_FIT * log_odds(fit)
        )
        for i in np.flatnonzero(shares > MAJORITY)
    }
    confidence = _logistic(GUESS_INTERCEPT + GUESS_SLOPE * log_odds(guess.share))
    # the guess may be a general word itself
    confidence = max(confidence, candidates.pop(wordnet.normal(guess.guess), 0.0))
    guess = replace(guess, guess_confidence=confidence, confidence=confidence)
    # a mixture of crabs, lobsters and crayfish has many votes for words alike, but no word of these holds for most
    if confidence >= max(sure, SPECIFIC) and cluster.holds_for_most():
        return replace(guess, name=guess.guess, status="named")
    for least in (max(sure, SPECIFIC), sure):
        for word, probability in candidates.items():  # the narrowest first
            if probability >= least:
                return replace(guess, name=word, general=word, confidence=probability, status="general")
    return replace(guess, name=guess.guess, status="named") if confidence >= sure else guess


def log_odds(share: float) -> float:
    """The log odds of a share, which is kept within 1% and 99%: rare events are beyond what was measured."""
    share = min(max(float(share), 0.01), 0.99)
    return math.log(share / (1 - share))


def _logistic(odds: float) -> float:
    return 1 / (1 + math.exp(-odds))
