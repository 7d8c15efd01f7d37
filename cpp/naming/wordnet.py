"""Meanings of words: the 21,841 WordNet nouns that timm ships, with their synonyms and definitions, offline.

A definition begins with the more general word, its genus: an airliner is "a commercial airplane that carries
passengers". This gives the hierarchy used here. Knows no images and no vectors.

Source: Fellbaum (ed.), "WordNet: an electronic lexical database", MIT Press, 1998, as ImageNet's synsets.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

import regex

COMMON = 2  # most frequent lemmas of a synset that count as synonyms; the others are often unusual
_DEPTH = 6  # steps up the hierarchy
_NOTE = re.compile(r"\([^)]*\)")
_WORD = regex.compile(r"[\p{L}\p{N}][\p{L}\p{M}\p{N}'&]*")  # vowels of Hindi, Thai and others are marks (M)
_ENDS = re.compile(r"[;:(]|, ")
_OPENERS = ("any of", "any one of", "one of", "a type of", "a kind of", "type of", "kind of", "several", "various")
_STOPS = re.compile(
    "that|which|who|with|of|for|in|on|used|having|from|by|to|where|whose|made|usually|found|native|"
    "at|as|when|similar|especially|often|related|like|between|without|containing|worn|widely|grown|under|since|"
    "including|but|than"
)  # words that begin the part of a definition after the genus


class Synset(NamedTuple):
    """One meaning: its words, the most common first, and its definition."""

    lemmas: tuple[str, ...]
    definition: str


def normal(word: str) -> str:
    """The normal form of a word: lower case, no note in brackets, no punctuation, its last part in the singular.

    "Sea_Horses (animal)" becomes "sea horse". Empty without a letter or digit.
    """
    parts = _WORD.findall(_NOTE.sub(" ", word).replace("_", " ").casefold())
    return " ".join([*parts[:-1], _singular(parts[-1])]) if parts else ""


def nouns() -> list[str]:
    """The most common word of every synset, in order, each once."""
    return list(dict.fromkeys(synset.lemmas[0] for synset in _synsets()))


@functools.cache
def meanings(word: str) -> frozenset[int]:
    """The numbers of the synsets with this normal form among their lemmas; none for a word that WordNet lacks."""
    return frozenset(_by_lemma().get(word, ()))


def synonyms(a: str, b: str) -> bool:
    """Whether two words have one normal form, or share a synset. A name is right if this holds."""
    a, b = normal(a), normal(b)
    return bool(a) and (a == b or bool(meanings(a) & meanings(b)))


def one_meaning(word: str) -> int | None:
    """The synset of a word with only one meaning that is among the synset's common words; None for other words.

    A note in brackets ("octopus (food)") selects one of several meanings, so such a word has none.
    """
    synsets = () if _NOTE.search(word) else tuple(meanings(normal(word)))
    common = _synsets()[synsets[0]].lemmas[:COMMON] if len(synsets) == 1 else ()
    return synsets[0] if normal(word) in map(normal, common) else None


@functools.cache
def above(word: str) -> tuple[str, ...]:
    """Normal forms of the words more general than a word, the nearest first: airliner -> airplane, aircraft."""
    general: dict[str, None] = {}
    level = list(meanings(normal(word)))
    for _ in range(_DEPTH):
        level = [up for synset in level if (up := _genus(synset)) is not None]
        for synset in level:
            general |= dict.fromkeys(normal(lemma) for lemma in _synsets()[synset].lemmas)
    return tuple(lemma for lemma in general if lemma != normal(word))


@functools.cache
def _genus(synset: int) -> int | None:
    """The synset of the genus in a definition: the last noun before the part that distinguishes the word."""
    text = _ENDS.split(_NOTE.sub(" ", _synsets()[synset].definition.casefold()).strip())[0]
    for opener in _OPENERS:
        text = text.removeprefix(f"{opener} ")
    words, last, genus = _WORD.findall(text), -1, None
    for i, word in enumerate(words):
        if _STOPS.fullmatch(word) or (last == i - 1 >= 0 and word.endswith(("ed", "ing"))):
            break
        for phrase in (" ".join(words[max(i - 1, 0) : i + 1]), word):
            others = sorted(meanings(normal(phrase)) - {synset})
            if others and word not in ("a", "an", "the", "and", "or"):
                last, genus = i, others[0]
                break
    return genus


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
    by_lemma: dict[str, list[int]] = {}
    for number, synset in enumerate(_synsets()):
        for lemma in synset.lemmas:
            by_lemma.setdefault(normal(lemma), []).append(number)
    return by_lemma
