"""Names of clusters, and the confidence of each name, both computed from sums over images (`cpp.naming.votes`).

The name is the word whose mean similarity to the members most exceeds its mean similarity to all images. That is the
mean member against the text: one product for any number of images. If the members disagree below a more general
word, the name is that word. The confidence comes from two numbers without a unit, so that it means the same with
another encoder: `lead`, the number of standard deviations (of a word's similarity over all images) by which the name,
or a more specific word, leads the best word with another meaning; and `standing`, the number of standard deviations
(over all words) by which it stands out.

Knows no files. The published vote, for comparison: Chu et al., arXiv 2306.05272, section 3.4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count, pairwise
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cpp.naming import titles
from cpp.naming.vocabulary import Vocabulary
from cpp.naming.votes import SimilaritySums, Votes

PRIOR = 0.25  # share of a word's mean similarity to all images that is subtracted
MAJORITY = 0.5  # a more general word is tried if a word and those below it have a smaller share of the votes
OWN_VOTES = 0.03  # a more general word needs a larger share of the votes for itself
INTERCEPT, LEAD, STANDING = -4.9, 2.0, 0.48  # logistic regression of right names (tests/bench/names.py)
_BLOCK = 2**24  # similarities of clusters and words at a time

Method = Literal["lift", "paper"]
Status = Literal["named", "general", "unsure"]


class Word(NamedTuple):
    """A word with the votes of a cluster and its share of them."""

    word: str
    votes: float
    share: float


@dataclass(frozen=True)
class Name:
    """The name of a cluster and its evidence. Shares are those of all votes of the cluster.

    `guess` is the best word, right with probability `guess_confidence`. `name` is the word shown: the guess of a
    `named` cluster, the more general word `general` of a `general` one, None of an `unsure` one. Only `name` has what
    is added to tell clusters of one name apart. `confidence` is the probability that `name` is right, or the guess of
    an unsure cluster. `share` counts the votes for the guess and the words below it, `agree` the members whose best
    word is one of these. `top` has the guess and the next words.
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
    lead: float = 0.0
    standing: float = 0.0

    @property
    def word(self) -> str | None:
        """The name before it was made unique: what is right or wrong."""
        return self.name and (self.general or self.guess)


EMPTY = Name(None, 0.0, None, 0.0, "unsure", 0.0, None, 0.0, 0.0, [])


def names(
    votes: Votes,
    sums: SimilaritySums,
    vocabulary: Vocabulary,
    top: int = 5,
    method: Method = "lift",
    sure: float = 0.5,
    exclude: NDArray[np.bool_] | None = None,
) -> list[Name]:
    """The name of every cluster of `sums`, None if the confidence is below `sure`. No two names are equal.

    `method` paper takes the word with the most votes, and its share as the confidence. `exclude` `[n_words]` marks
    words that are not used.
    """
    excluded = np.zeros(len(vocabulary), bool) if exclude is None else exclude
    if excluded.all() or not sums.count_k.any():
        return [EMPTY] * len(sums.count_k)
    votes = votes.select(~excluded[votes.word])
    starts = np.searchsorted(votes.cluster, np.arange(len(sums.count_k) + 1))
    guesses = []
    for (low, high), size, lift in zip(pairwise(starts), sums.count_k, _lifts(sums, vocabulary, excluded), strict=True):
        own = _ClusterVotes(votes.select(slice(low, high)), int(size))
        guess = _by_lift if method == "lift" else _by_votes
        guesses.append(guess(own, lift, vocabulary, top) if size else EMPTY)
    least = sure if method == "lift" else 0.0  # the published vote is never silent
    sure_guesses = [
        replace(guess, name=guess.guess, status="named") if guess.guess and guess.guess_confidence >= least else guess
        for guess in guesses
    ]
    return _make_unique(sure_guesses, sums, vocabulary, excluded)


class _Lift(NamedTuple):
    """How much the similarity of every word to a cluster exceeds its similarity to all images, `[n_words]` each.

    `plain_w` is the word's mean similarity to the members minus `PRIOR` times its mean similarity to all images,
    `raised_w` the same with a factor of 1, and `z_w` is `raised_w` in standard deviations of the word over all images.
    """

    plain_w: NDArray[np.float64]
    raised_w: NDArray[np.float64]
    z_w: NDArray[np.float64]


def _lifts(sums: SimilaritySums, vocabulary: Vocabulary, excluded: NDArray[np.bool_]) -> Iterator[_Lift]:
    n = sums.count_k.sum()
    overall = sums.similarity_w / n
    deviation = np.sqrt(np.maximum(sums.squared_w / n - overall**2, 0)).clip(1e-6)
    text = vocabulary.vectors.numpy().astype(np.float64)
    means = sums.sum_kd / sums.count_k.clip(1)[:, None]
    for rows in np.array_split(means, max(1, len(means) * len(text) // _BLOCK)):
        for similarity in rows @ text.T:
            plain, z = similarity - PRIOR * overall, (similarity - overall) / deviation
            plain[excluded] = z[excluded] = -np.inf
            yield _Lift(plain, similarity - overall, z)


class _ClusterVotes:
    """The votes of one cluster and its images by their best word, as shares."""

    def __init__(self, votes: Votes, images: int) -> None:
        self.votes = dict(zip(votes.word.tolist(), votes.vote.tolist(), strict=True))
        self._first = dict(zip(votes.word.tolist(), votes.first.tolist(), strict=True))
        self._total, self._images = max(sum(self.votes.values()), 1e-30), images

    def share(self, words: Iterable[int]) -> float:
        return float(sum(self.votes.get(w, 0.0) for w in words) / self._total)

    def name(
        self,
        vocabulary: Vocabulary,
        top: int,
        *,
        guess: Sequence[int],
        runner_up: Sequence[int],
        order: Sequence[int],
        confidence: float | None = None,
    ) -> Name:
        """`guess` and `runner_up` begin with the word itself; the words below it, whose votes count for it, follow.

        `runner_up` may be empty. The confidence is by default the share of the votes.
        """
        share = self.share(guess)
        probability = share if confidence is None else confidence
        return Name(
            guess=vocabulary.words[guess[0]],
            guess_confidence=probability,
            name=None,
            confidence=probability,
            status="unsure",
            share=share,
            runner_up=vocabulary.words[runner_up[0]] if runner_up else None,
            margin=share - self.share(runner_up),
            agree=float(sum(self._first.get(w, 0) for w in guess) / self._images),
            top=[
                Word(vocabulary.words[w], self.votes.get(w, 0.0), self.share([w]))
                for w in list(dict.fromkeys([guess[0], *order]))[:top]
            ],
        )


def _by_lift(own: _ClusterVotes, lift: _Lift, vocabulary: Vocabulary, top: int) -> Name:
    order = np.argsort(-lift.plain_w, kind="stable")
    order = order[np.isfinite(lift.plain_w[order])]
    guess = _general_word(int(order[0]), own, vocabulary)
    meaning = [guess, *vocabulary.below[guess]]
    rivals = lift.z_w.copy()
    rivals[[*meaning, *vocabulary.above[guess]]] = -np.inf
    runner_up = next(([int(w), *vocabulary.below[w]] for w in order if np.isfinite(rivals[w])), [])
    lead = float(lift.z_w[meaning].max()) - (float(rivals.max()) if runner_up else 0.0)
    standing = float(lift.raised_w[meaning].max()) / max(float(lift.raised_w.std()), 1e-6)
    confidence = float(1 / (1 + np.exp(-(INTERCEPT + LEAD * lead + STANDING * standing))))
    candidates = order[: top + 1].tolist()
    name = own.name(vocabulary, top, guess=meaning, runner_up=runner_up, order=candidates, confidence=confidence)
    return replace(name, lead=lead, standing=standing)


def _general_word(word: int, own: _ClusterVotes, vocabulary: Vocabulary) -> int:
    """The word, or the first word above it that, with the words below it, has half of the votes."""
    while (share := own.share([word, *vocabulary.below[word]])) < MAJORITY:
        candidates = (up for up in vocabulary.above[word] if own.share([up]) > OWN_VOTES)
        wider = next((up for up in candidates if own.share([up, *vocabulary.below[up]]) > share), None)
        if wider is None:
            return word
        word = wider
    return word


def _by_votes(own: _ClusterVotes, lift: _Lift, vocabulary: Vocabulary, top: int) -> Name:
    """The published rule: the word with the most votes; of equal ones the first in the vocabulary."""
    order = sorted(own.votes, key=lambda w: (-own.votes[w], w))
    return own.name(vocabulary, top, guess=order[:1], runner_up=order[1:2], order=order) if order else EMPTY


def _make_unique(
    names: list[Name], sums: SimilaritySums, vocabulary: Vocabulary, excluded: NDArray[np.bool_]
) -> list[Name]:
    """Add the word that most distinguishes a cluster to names that several clusters share.

    Clusters for which no such word is left get a number instead, from 2.
    """
    shared = {name for name, times in Counter(n.name for n in names).items() if name and times > 1}
    taken = {n.name for n in names} - shared
    text, number = vocabulary.vectors.numpy(), {word: i for i, word in enumerate(vocabulary.words)}
    result = list(names)
    for name in sorted(shared):
        members = [k for k, n in enumerate(names) if n.name == name]
        means = sums.sum_kd[members] / sums.count_k[members, None]
        others = (means.sum(0) - means) / (len(members) - 1)
        for k, difference in zip(members, means - others, strict=True):
            distinct = text @ difference
            distinct[excluded] = distinct[number[name]] = -np.inf
            order = np.argsort(-distinct, kind="stable")
            options = (titles.with_addition(name, vocabulary.words[w]) for w in order if np.isfinite(distinct[w]))
            numbered = (titles.numbered(name, i) for i in count(2))
            unique = next(option for option in chain(options, numbered) if option not in taken)
            result[k] = replace(names[k], name=unique)
            taken.add(unique)
    return result
