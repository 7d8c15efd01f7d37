"""What clusters are called, how sure that is, and when to be silent. From sums over images alone (`cpp.naming.votes`).

The name is the word whose mean similarity to the members most exceeds what it has to all images; that is the mean
member against the text, so it costs one product however many images there are. Where the members disagree below a more
general word, it is that word. Confidence comes from two numbers without a unit, so that it means the same with another
encoder: `lead`, by how many standard deviations (of a word's similarity over all images) the name, or a word below it,
is ahead of the best word that means something else, and `standing`, by how many (over all words) it stands out.

Knows no files. The published vote, for comparison: Chu et al., arXiv 2306.05272, section 3.4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cpp.naming.vocabulary import Vocabulary
from cpp.naming.votes import Likeness, Votes

PRIOR = 0.25  # part of a word's mean similarity to all images that is taken off
HALF = 0.5  # of the votes: with fewer for a word and what is below it, a more general word is looked for
SEEN = 0.03  # of the votes that a more general word must have itself
INTERCEPT, LEAD, STANDING = -4.9, 2.0, 0.48  # logistic regression of right names (tests/bench/names.py)
_BLOCK = 2**24  # similarities of clusters and words at a time

Method = Literal["lift", "paper"]


class Word(NamedTuple):
    """A word with the votes of a cluster and its share of them."""

    word: str
    votes: float
    share: float


@dataclass(frozen=True)
class Name:
    """What a cluster is called and why. Shares are of all votes of the cluster, of a word and those below it.

    `name` is None where the cluster is `unsure`, or has no image; `guess` is the word it would have. `agree` is the
    share of the members whose best word is the guess, or one below it. `top` has the guess and the words next to it.
    """

    guess: str | None
    confidence: float
    share: float
    runner_up: str | None
    margin: float
    agree: float
    top: list[Word]
    name: str | None = None
    lead: float = 0.0
    standing: float = 0.0

    @property
    def status(self) -> str:
        return "unsure" if self.name is None else "named"


NOBODY = Name(None, 0.0, 0.0, None, 0.0, 0.0, [])


def names(
    votes: Votes,
    likeness: Likeness,
    vocabulary: Vocabulary,
    top: int = 5,
    method: Method = "lift",
    sure: float = 0.5,
    exclude: NDArray[np.bool_] | None = None,
) -> list[Name]:
    """The name of every cluster of `likeness`, null where the confidence is below `sure`; no two are the same.

    `method` paper takes the word with the most votes, and its share for the confidence. Words that are marked in
    `exclude` `[n_words]` are not looked at.
    """
    barred = np.zeros(len(vocabulary), bool) if exclude is None else exclude
    if barred.all() or not likeness.count_k.any():
        return [NOBODY] * len(likeness.count_k)
    votes = votes.without(barred)
    starts = np.searchsorted(votes.cluster, np.arange(len(likeness.count_k) + 1))
    found = []
    lifts = _lifts(likeness, vocabulary, barred)
    for (low, high), count, lift in zip(pairwise(starts), likeness.count_k, lifts, strict=True):
        if not count:
            found.append(NOBODY)
            continue
        own = _Own(votes.word[low:high], votes.vote[low:high], votes.first[low:high], int(count))
        found.append(_by_lift(own, lift, vocabulary, top) if method == "lift" else _by_votes(own, vocabulary, top))
    least = sure if method == "lift" else 0.0  # the published vote is never silent
    sure_ones = [replace(name, name=name.guess) if name.confidence >= least else name for name in found]
    return _apart(sure_ones, likeness, vocabulary, barred)


class _Lift(NamedTuple):
    """Of one cluster, `[n_words]` each: mean similarity less a part of that to all images, or less all of it, in
    standard deviations of the word."""

    plain_w: NDArray[np.float64]
    raised_w: NDArray[np.float64]
    z_w: NDArray[np.float64]


def _lifts(likeness: Likeness, vocabulary: Vocabulary, barred: NDArray[np.bool_]) -> Iterator[_Lift]:
    n = likeness.count_k.sum()
    overall = likeness.similarity_w / n
    deviation = np.sqrt(np.maximum(likeness.squared_w / n - overall**2, 0)).clip(1e-6)
    text = vocabulary.vectors.numpy().astype(np.float64)
    means = likeness.sum_kd / likeness.count_k.clip(1)[:, None]
    for rows in np.array_split(means, max(1, means.shape[0] * len(text) // _BLOCK)):
        for similarity in rows @ text.T:
            plain, raised = similarity - PRIOR * overall, similarity - overall
            plain[barred] = -np.inf
            z = np.where(barred, -np.inf, raised / deviation)
            yield _Lift(plain, raised, z)


class _Own:
    """The votes of one cluster, in shares, and its images by their best word."""

    def __init__(
        self, word: NDArray[np.int32], vote: NDArray[np.float64], first: NDArray[np.int64], images: int
    ) -> None:
        self.votes = dict(zip(word.tolist(), vote.tolist(), strict=True))
        self._first = dict(zip(word.tolist(), first.tolist(), strict=True))
        self._total, self._images = max(sum(self.votes.values()), 1e-30), images

    def share(self, *words: int) -> float:
        return float(sum(self.votes.get(w, 0.0) for w in words) / self._total)

    def agree(self, *words: int) -> float:
        return float(sum(self._first.get(w, 0) for w in words) / self._images)


def _by_lift(own: _Own, lift: _Lift, vocabulary: Vocabulary, top: int) -> Name:
    order = np.argsort(-lift.plain_w, kind="stable")
    order = order[np.isfinite(lift.plain_w[order])]
    guess = _general(int(order[0]), own, vocabulary)
    meant = (guess, *vocabulary.below[guess])
    rivals = lift.z_w.copy()
    rivals[[*meant, *vocabulary.above[guess]]] = -np.inf
    runner_up = next((int(w) for w in order if np.isfinite(rivals[w])), None)
    lead = float(lift.z_w[[*meant]].max()) - (float(rivals.max()) if runner_up is not None else 0.0)
    standing = float(lift.raised_w[[*meant]].max()) / max(float(lift.raised_w.std()), 1e-6)
    return Name(
        guess=vocabulary.words[guess],
        confidence=float(1 / (1 + np.exp(-(INTERCEPT + LEAD * lead + STANDING * standing)))),
        share=own.share(*meant),
        runner_up=None if runner_up is None else vocabulary.words[runner_up],
        margin=own.share(*meant) - (0.0 if runner_up is None else own.share(runner_up, *vocabulary.below[runner_up])),
        agree=own.agree(*meant),
        top=_top([guess, *order[: top + 1].tolist()], own, vocabulary, top),
        lead=lead,
        standing=standing,
    )


def _general(word: int, own: _Own, vocabulary: Vocabulary) -> int:
    """The word, or one above it that has votes of its own, until half of the votes are for it and what is below it."""
    while (share := own.share(word, *vocabulary.below[word])) < HALF:
        seen = (up for up in vocabulary.above[word] if own.share(up) > SEEN)
        wider = next((up for up in seen if own.share(up, *vocabulary.below[up]) > share), None)
        if wider is None:
            return word
        word = wider
    return word


def _by_votes(own: _Own, vocabulary: Vocabulary, top: int) -> Name:
    """As published: the word with the most votes; of equal ones the first of the vocabulary."""
    order = sorted(own.votes, key=lambda w: (-own.votes[w], w))
    if not order:
        return NOBODY
    second = order[1] if len(order) > 1 else None
    share = own.share(order[0])
    return Name(
        guess=vocabulary.words[order[0]],
        confidence=share,
        share=share,
        runner_up=None if second is None else vocabulary.words[second],
        margin=share - (0.0 if second is None else own.share(second)),
        agree=own.agree(order[0]),
        top=_top(order, own, vocabulary, top),
    )


def _top(order: Sequence[int], own: _Own, vocabulary: Vocabulary, top: int) -> list[Word]:
    words = list(dict.fromkeys(order))[:top]
    return [Word(vocabulary.words[w], own.votes.get(w, 0.0), own.share(w)) for w in words]


def _apart(found: list[Name], likeness: Likeness, vocabulary: Vocabulary, barred: NDArray[np.bool_]) -> list[Name]:
    """The same with an addition in brackets where two clusters have one name: the word that most sets each apart."""
    shared = {name for name, times in Counter(n.name for n in found).items() if name and times > 1}
    taken = {n.name for n in found} - shared
    text, at = vocabulary.vectors.numpy(), {word: i for i, word in enumerate(vocabulary.words)}
    result = list(found)
    for name in sorted(shared):
        members = [k for k, n in enumerate(found) if n.name == name]
        means = likeness.sum_kd[members] / likeness.count_k[members, None]
        others = (means.sum(0) - means) / (len(members) - 1)
        for k, difference in zip(members, means - others, strict=True):
            apart = text @ difference
            apart[barred] = apart[at[name]] = -np.inf
            order = np.argsort(-apart, kind="stable")
            options = (f"{name} ({vocabulary.words[w]})" for w in order if np.isfinite(apart[w]))
            given = next((option for option in options if option not in taken), None)
            result[k] = replace(found[k], name=given or _numbered(name, taken))
            taken.add(result[k].name)
    return result


def _numbered(name: str, taken: set[str | None]) -> str:
    """`name (2)`, or the next number that is free."""
    number = 2
    while f"{name} ({number})" in taken:
        number += 1
    return f"{name} ({number})"
