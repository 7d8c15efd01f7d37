"""Judge whether a word is a right name for a class, as a person would.

1. A class with a list of accepted names (`accepted_names`) has as right names those of its list, its own name and the
   synonyms of its own name, and no others.
2. The name of another class, and its synonyms (words with a common synset of WordNet), are right.

A *more general name* is right if it is right by these rules, or if it is above the class, or above one of its accepted
names, in the hierarchy. Words are compared in normal form: case, number and notes in brackets do not count.

Knows no clusters and no vectors.
"""

from __future__ import annotations

from cpp.evaluation.accepted_names import NO_LISTS, Accepted
from cpp.naming import wordnet


def is_right(word: str, kind: str, accepted: Accepted = NO_LISTS, *, general: bool = False) -> bool:
    """Whether `word` is a right name for the class `kind`; with `general`, whether it is a right more general name."""
    names = accepted.get(wordnet.normal(kind))
    if wordnet.synonyms(word, kind) or (names is not None and wordnet.normal(word) in names):
        return True
    return general and any(wordnet.normal(word) in wordnet.above(name) for name in (kind, *(names or ())))
