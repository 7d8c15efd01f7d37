"""Judge whether a word is a right name for the images of a class, as a person would.

The first rule that applies decides:

- `synonym`: the word is the name of the class or a synonym: one of its usual senses in WordNet is a sense of the class.
- `accepted`: the class has a list of accepted names (`accepted_names`). A word is right if it is on the list, and the
  rules below do not apply to guesses of this class.
- `general`: the word is above the class in WordNet's hierarchy, by at most `NEAR` steps and not in `TOP`: "bird" is
  right for pigeons, "artifact" is not. An answer that is meant to be more general may be any number of steps above the
  class, or above one of its accepted names.
- `special`: the word is below the class, and holds for at least half of the images. Labels of classes cannot show that
  ("airliner" for airplanes), so the images' own best words do: the share whose best word is this one or one below it.

Other words are wrong, but get partial credit for being near: 1 / (1 + steps), WordNet's path similarity, over the
nearest common hypernym below `TOP`. A word with several senses is judged by the one that suits it best. A compound
that WordNet lacks is one step below its last words. Words are compared in normal form: case, number and notes in
brackets do not count.

Knows no clusters and no vectors.
"""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple

from cpp.evaluation.accepted_names import NO_LISTS, Accepted
from cpp.naming import wordnet

Rule = Literal["synonym", "accepted", "general", "special"]

NEAR = 3  # steps: "bird" is three above "flamingo"; "vertebrate", the next, no longer tells what a picture shows
MAJORITY = 0.5  # share of the images for which a more special word must hold
TOP = frozenset(  # first lemmas of synsets that are true of almost any picture, and name none
    {"entity", "physical entity", "object", "whole", "artifact", "instrumentality", "living thing", "organism"}
    | {"matter", "substance", "causal agent", "thing", "abstraction", "attribute", "group", "relation", "event", "act"}
)


class Judgement(NamedTuple):
    """The rule by which a name is right, None for a wrong one, and its credit in [0, 1], 1 for a right one."""

    rule: Rule | None
    credit: float

    @property
    def right(self) -> bool:
        return self.rule is not None


def judge(
    word: str, kind: str, accepted: Accepted = NO_LISTS, *, general: bool = False, agree: float = 0.0
) -> Judgement:
    """Judge `word` as the name of images of the class `kind`.

    `general` is true for an answer that is meant to be more general. `agree` is the share of the images, in [0, 1],
    whose own best word is `word` or one below it.
    """
    listed = accepted.get(wordnet.normal(kind))
    rule = _rule(word, kind, listed, general, agree)
    return Judgement(rule, 1.0 if rule else max(_path_similarity(word, name) for name in (kind, *(listed or ()))))


def is_right(word: str, kind: str, accepted: Accepted = NO_LISTS, *, general: bool = False, agree: float = 0.0) -> bool:
    """Whether `word` is a right name for images of the class `kind`; arguments as for `judge`."""
    return judge(word, kind, accepted, general=general, agree=agree).right


def is_unknown(kind: str, accepted: Accepted = NO_LISTS) -> bool:
    """Whether a class has no list and WordNet lacks it, so that only its own name is right."""
    return wordnet.normal(kind) not in accepted and not _ancestors(kind)


def _rule(word: str, kind: str, listed: frozenset[str] | None, general: bool, agree: float) -> Rule | None:
    form = wordnet.normal(word)
    if form == wordnet.normal(kind) != "" or not set(wordnet.usual(word)).isdisjoint(wordnet.senses(kind)):
        return "synonym"
    if listed is not None and form in listed:
        return "accepted"
    if general and _is_above(word, kind, *(listed or ())):
        return "general"
    if listed is not None:
        return None
    if _is_above(word, kind, steps=NEAR):
        return "general"
    return "special" if agree >= MAJORITY and _is_above(kind, word) else None


def _is_above(word: str, *kinds: str, steps: int = wordnet.DEPTH) -> bool:
    """Whether a usual sense of the word, which is not one of `TOP`, is at most `steps` above one of a kind."""
    high = {synset for synset in wordnet.usual(word) if not _is_top(synset)}
    pairs = (pair for kind in kinds for ancestors in _ancestors(kind) for pair in ancestors.items())
    return any(synset in high and distance <= steps for synset, distance in pairs)


@functools.cache
def _path_similarity(a: str, b: str) -> float:
    """1 / (1 + steps) over the nearest common hypernym that is below `TOP`; 0 without one."""
    steps = [
        distance + others[synset]
        for ancestors in _ancestors(a)
        for synset, distance in ancestors.items()
        for others in _ancestors(b)
        if synset in others and not _is_top(synset)
    ]
    return 1 / (1 + min(steps)) if steps else 0.0


@functools.cache
def _ancestors(word: str) -> tuple[dict[int, int], ...]:
    """The steps to each more general synset, from each usual sense of a word.

    A compound that WordNet lacks is one step below its last words: "ceiling fan" is a kind of "fan".
    """
    if senses := wordnet.usual(word):
        return tuple(map(wordnet.ancestors, senses))
    _, _, head = wordnet.normal(word).partition(" ")
    return tuple({synset: n + 1 for synset, n in above.items()} for above in _ancestors(head)) if head else ()


@functools.cache
def _is_top(synset: int) -> bool:
    return wordnet.lemmas(synset)[0] in TOP
