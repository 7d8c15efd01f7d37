"""The vocabulary of names: cleaned words, one entry for each meaning, with their text vectors.

Knows no files and no text tower: words come with their vectors, in the space of the image vectors.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cpp.naming import wordnet

if TYPE_CHECKING:
    from torch import Tensor

LONGEST = 100  # characters of a word; a longer one is no name


@dataclass(frozen=True)
class Vocabulary:
    """`words` and their unit vectors `[n_words, d]`, float32."""

    words: tuple[str, ...]
    vectors: Tensor

    @classmethod
    def of(cls, words: Sequence[str], vectors: NDArray[np.floating], exclude: Iterable[str] = ()) -> Vocabulary:
        """The words without those in `exclude`, in any number or case, and without their synonyms.

        Words that differ only in number or case, and common words of one WordNet synset, become one entry: the first of
        them, with the mean of their vectors. ValueError if no word is left.
        """
        import torch
        from torch.nn.functional import normalize

        cleaned = [clean(word) for word in words]
        excluded = same_meaning(exclude)
        entries: dict[int, list[int]] = {}  # the first row of an entry -> its rows
        first: dict[str | int, int] = {}  # a spelling or synset -> the first row of its entry
        for i, word in enumerate(cleaned):
            if word and not excluded(word):
                marks = _marks(word)
                entry = min((first[mark] for mark in marks if mark in first), default=i)
                entries.setdefault(entry, []).append(i)
                first |= {mark: entry for mark in marks if mark not in first}
        if not entries:
            raise ValueError(
                "the vocabulary has no words" + (", because label.exclude removes all of them" if len(words) else "")
            )
        rows = np.concatenate(list(entries.values()))
        entry_of_row = np.repeat(np.arange(len(entries)), [*map(len, entries.values())])
        unit = normalize(torch.from_numpy(np.asarray(vectors, np.float32)[rows]))
        summed = unit.new_zeros(len(entries), unit.shape[1]).index_add_(0, torch.from_numpy(entry_of_row), unit)
        return cls(tuple(cleaned[i] for i in entries), normalize(summed))

    def __len__(self) -> int:
        return len(self.words)

    def check_dimension(self, images: int) -> None:
        """ValueError if vectors of images have another dimension than those of the words."""
        if images != self.vectors.shape[1]:
            raise ValueError(
                f"the images have dimension {images}, the words {self.vectors.shape[1]}: label.vocabulary must come "
                "from the text tower of the model that made the features"
            )

    @functools.cached_property
    def _numbers(self) -> dict[str | int, int]:
        return {mark: i for i, word in reversed(list(enumerate(self.words))) for mark in _marks(word)}

    def find(self, word: str) -> int | None:
        """The number of the word that equals this one in meaning: in number and case, or as its synonym; or None."""
        return min((self._numbers[mark] for mark in _marks(word) if mark in self._numbers), default=None)

    @functools.cached_property
    def centred(self) -> Tensor:
        """The vectors minus their mean, normalised again, `[n_words, d]`; a single word keeps its vector."""
        return self.centre(self.vectors)

    def centre(self, vectors: Tensor) -> Tensor:
        """Unit vectors of words, here or not, minus the mean of those here, normalised again."""
        from torch.nn.functional import normalize

        return normalize(vectors - self.vectors.mean(0)) if len(self) > 1 else vectors

    def meaning(self, names: Iterable[str]) -> NDArray[np.bool_]:
        """Which words, bool `[n_words]`, have the meaning of one of the names."""
        matches = same_meaning(names)
        return np.array([matches(word) for word in self.words], np.bool_)


def same_meaning(words: Iterable[str]) -> Callable[[str], bool]:
    """A test whether a word equals, or is a synonym of, one of these words."""
    words = list(words)
    spelled = {wordnet.normal(word) for word in words} - {""}
    synsets = frozenset[int]().union(*map(wordnet.usual, words))
    return lambda word: wordnet.normal(word) in spelled or not synsets.isdisjoint(wordnet.usual(word))


def clean(word: str) -> str:
    """A word in one line, without control characters; empty if it has more than `LONGEST` characters."""
    text = " ".join("".join(c if c.isprintable() else " " for c in word.replace("_", " ")).split())
    return text if len(text) <= LONGEST else ""


def _marks(word: str) -> set[str | int]:
    """What words that become one entry share: their spelling, and the one synset of common words."""
    synset = wordnet.one_meaning(word)
    return {_spelled(word)} if synset is None else {_spelled(word), synset}


def _spelled(word: str) -> str:
    """A form that spellings in another case, number or hyphenation share; a note in brackets is kept.

    "Painting" is no form of "paint", nor "gardening" of "garden".
    """
    bare, bracket, note = word.partition("(")
    form = wordnet.spelled(bare)
    form = form if form.endswith("ing") else wordnet.normal(bare)
    return f"{form or bare.casefold()}{bracket}{note.casefold()}"
