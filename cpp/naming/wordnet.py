"""What words mean: the 21,841 nouns of WordNet that timm carries, with their synonyms and definitions, offline.

A definition starts with the more general word, its genus: an airliner is "a commercial airplane that carries
passengers". That is the hierarchy used here. Knows no images and no vectors.

Source: Fellbaum (ed.), "WordNet: an electronic lexical database", MIT Press, 1998, as ImageNet's synsets.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

import regex

COMMON = 2  # lemmas of a synset, the most frequent first, that are taken for synonyms: the rest are often far-fetched
_DEPTH = 6  # steps up that are followed
_NOTE = re.compile(r"\([^)]*\)")
_WORD = regex.compile(r"[\p{L}\p{N}][\p{L}\p{M}\p{N}'&]*")  # vowels of Hindi, Thai and others are marks (M)
_ENDS = re.compile(r"[;:(]|, ")
_OPENERS = ("any of", "any one of", "one of", "a type of", "a kind of", "type of", "kind of", "several", "various")
_STOPS = re.compile(
    "that|which|who|with|of|for|in|on|used|having|from|by|to|where|whose|made|usually|found|native|"
    "at|as|when|similar|especially|often|related|like|between|without|containing|worn|widely|grown|under|since|"
    "including|but|than"
)  # what sets a thing apart begins with one of these


class Synset(NamedTuple):
    """One meaning: its words, the most common first, and its definition."""

    lemmas: tuple[str, ...]
    definition: str


def normal(word: str) -> str:
    """A word as it is compared: lower case, no note in brackets, no punctuation, its last part in the singular.

    "Sea_Horses (animal)" is "sea horse". Empty where there is no letter or digit.
    """
    parts = _WORD.findall(_NOTE.sub(" ", word).replace("_", " ").casefold())
    return " ".join([*parts[:-1], _singular(parts[-1])]) if parts else ""


def nouns() -> list[str]:
    """The most common word of every synset, in order, each once."""
    return list(dict.fromkeys(synset.lemmas[0] for synset in _synsets()))


@functools.cache
def meanings(word: str) -> frozenset[int]:
    """Numbers of the synsets that have a `normal` word among their lemmas; none for a word that WordNet lacks."""
    return frozenset(_by_lemma().get(word, ()))


def synonyms(a: str, b: str) -> bool:
    """Whether two words are the same when normalised, or share a synset: the test by which a name is right."""
    a, b = normal(a), normal(b)
    return bool(a) and (a == b or bool(meanings(a) & meanings(b)))


def one_meaning(word: str) -> int | None:
    """The synset of a word that has no other and is among its common words; None for all others.

    A note in brackets ("octopus (food)") says that one of several is meant, so such a word has none.
    """
    if _NOTE.search(word):
        return None
    found = meanings(normal(word))
    (only,) = found if len(found) == 1 else (None,)
    common = () if only is None else _synsets()[only].lemmas[:COMMON]
    return only if normal(word) in map(normal, common) else None


@functools.cache
def above(word: str) -> tuple[str, ...]:
    """The `normal` words that are more general than a word, the nearest first: airliner -> airplane, aircraft"""
    found: dict[str, None] = {}
    level = list(meanings(normal(word)))
    for _ in range(_DEPTH):
        level = [up for synset in level if (up := _genus(synset)) is not None]
        for synset in level:
            found |= dict.fromkeys(normal(lemma) for lemma in _synsets()[synset].lemmas)
    return tuple(lemma for lemma in found if lemma != normal(word))


@functools.cache
def _genus(synset: int) -> int | None:
    """The synset that the definition of another begins with: the last noun before what sets it apart."""
    text = _ENDS.split(_NOTE.sub(" ", _synsets()[synset].definition.casefold()).strip())[0]
    for opener in _OPENERS:
        text = text.removeprefix(f"{opener} ")
    words, last, found = _WORD.findall(text), -1, None
    for i, word in enumerate(words):
        if _STOPS.fullmatch(word) or (last == i - 1 >= 0 and word.endswith(("ed", "ing"))):
            break
        for phrase in (" ".join(words[max(i - 1, 0) : i + 1]), word):
            others = sorted(meanings(normal(phrase)) - {synset})
            if others and word not in ("a", "an", "the", "and", "or"):
                last, found = i, others[0]
                break
    return found


@functools.cache
def _singular(word: str) -> str:
    import simplemma

    return simplemma.lemmatize(word, lang="en").casefold()


@functools.cache
def _synsets() -> tuple[Synset, ...]:
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo("imagenet-22k")
    described = (info.label_name_to_description(name, detailed=True) for name in info.label_names())
    parts = (text.partition(": ") for text in described)
    return tuple(Synset(tuple(lemmas.split(", ")), definition) for lemmas, _, definition in parts)


@functools.cache
def _by_lemma() -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for number, synset in enumerate(_synsets()):
        for lemma in synset.lemmas:
            found.setdefault(normal(lemma), []).append(number)
    return found
