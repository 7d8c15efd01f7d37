"""Meanings of words: the 82,115 noun synsets of WordNet 3.0 with their hierarchy, from a file in this package.

A synset is one meaning, shared by its lemmas. Its number is its offset in WordNet's files, which ImageNet uses too:
n02690373 is 2690373. Knows no images and no vectors.

Sources: Fellbaum (ed.), "WordNet: an electronic lexical database", MIT Press, 1998; licence in `data/LICENSE-WordNet`.
`cpp.naming.wordnet_build` makes the file.
"""

from __future__ import annotations

import functools
import math
import re
from pathlib import Path
from typing import Any

import regex

DEPTH = 19  # edges from the root to the deepest noun
COMMON = 2  # first lemmas of a synset that count as synonyms; the others are often unusual
PHYSICAL, PERSON = 1930, 7846  # the synsets "physical entity" and "person"
_FILE = Path(__file__).parent / "data" / "wordnet-nouns.parquet"
_NOTE = re.compile(r"\([^)]*\)")
_WORD = regex.compile(r"[\p{L}\p{N}][\p{L}\p{M}\p{N}'&]*")  # vowels of Hindi, Thai and others are marks (M)


def normal(word: str) -> str:
    """The normal form of a word: lower case, no note in brackets, no punctuation, its last part in the singular.

    "Sea_Horses (animal)" becomes "sea horse". Empty without a letter or digit.
    """
    parts = _parts(word)
    return " ".join([*parts[:-1], _singular(parts[-1])]) if parts else ""


def spelled(word: str) -> str:
    """A word in lower case, without a note in brackets and without punctuation."""
    return " ".join(_parts(word))


def nouns() -> list[str]:
    """The first lemma of every synset that ImageNet has images of, in the order of the synsets, each once."""
    columns = _columns()
    return list(dict.fromkeys(lemmas[0] for lemmas in columns["lemmas"].filter(columns["imagenet"]).to_pylist()))


@functools.cache
def senses(word: str) -> tuple[int, ...]:
    """The synsets of a word, the most frequent first: those of the word as it is spelled, then of its normal form.

    Case, hyphens and a note in brackets are ignored. Empty for a word that WordNet lacks.
    """
    index, numbers = _by_spelling(), _columns()["synset"]
    rows = (row for form in _forms(word) for _, row in sorted(index.get(form, ())))
    return tuple(numbers[row].as_py() for row in dict.fromkeys(rows))


@functools.cache
def usual(word: str) -> tuple[int, ...]:
    """The senses that a word is likely to have as the name of a picture, the most frequent first.

    If some senses are concrete, the others are left out; so are individuals, if some senses are none ("crane" is not
    Stephen Crane). Of these the most frequent sense remains, those that occur in Princeton's tagged texts, and those
    whose first lemma is the word, except untagged senses as a person: "mouse" is a device, but no timid person.
    """
    kept = senses(word)
    kept = tuple(filter(concrete, kept)) or kept
    kept = tuple(synset for synset in kept if not _value("instance", synset)) or kept
    return tuple(synset for synset in kept if synset == kept[0] or _is_usual(synset, _forms(word)))


def _is_usual(synset: int, forms: tuple[str, ...]) -> bool:
    words = [spelled(lemma) for lemma in lemmas(synset)]
    if any(n for word, n in zip(words, _value("counts", synset), strict=True) if word in forms):
        return True
    return words[0] in forms and PERSON not in ancestors(synset)


def synonyms(a: str, b: str) -> bool:
    """Whether two words have one normal form, or share one of their usual senses."""
    return normal(a) == normal(b) != "" or not set(usual(a)).isdisjoint(usual(b))


def one_meaning(word: str) -> int | None:
    """The synset of a word with one usual sense that is among the synset's common lemmas; None for other words.

    A note in brackets ("octopus (food)") selects one of several meanings, so such a word has none.
    """
    synsets = () if _NOTE.search(word) else usual(word)
    common = lemmas(synsets[0])[:COMMON] if len(synsets) == 1 else ()
    return synsets[0] if normal(word) in map(normal, common) else None


def lemmas(synset: int) -> tuple[str, ...]:
    """The words of a synset, the most common first. KeyError for a number that is no synset."""
    return tuple(_value("lemmas", synset))


def hypernyms(synset: int) -> tuple[int, ...]:
    """The next more general synsets, usually one; for an individual the synsets that it is an instance of."""
    return tuple(_value("hypernyms", synset))


@functools.cache
def ancestors(synset: int) -> dict[int, int]:
    """Every more general synset with its least number of steps from this one, the nearest first; itself with 0."""
    steps = {synset: 0}
    for current in (queue := [synset]):  # breadth first: the queue grows while it is read
        for up in hypernyms(current):
            if up not in steps:
                steps[up] = steps[current] + 1
                queue.append(up)
    return steps


@functools.cache
def concrete(synset: int) -> bool:
    """Whether a picture can show a synset: it is a physical entity, or ImageNet has images of it ("street sign")."""
    return PHYSICAL in ancestors(synset) or bool(_value("imagenet", synset))


def leacock_chodorow(a: str, b: str) -> float:
    """Similarity of two words in [0, 1]: -log(p / 2D), divided by its largest value, over their most similar senses.

    p is the number of synsets on the shortest path over a common hypernym, both ends included, and D = 19 the depth of
    the hierarchy. 1 for words with one normal form, otherwise 0 if WordNet lacks one of them.

    Source: Leacock and Chodorow, "Combining local context and WordNet similarity", 1998.
    """
    if normal(a) == normal(b) != "":
        return 1.0
    paths = [
        steps + others[up]
        for x in senses(a)
        for y in senses(b)
        for others in [ancestors(y)]
        for up, steps in ancestors(x).items()
        if up in others
    ]
    return 1 - math.log(min(paths) + 1) / math.log(2 * DEPTH) if paths else 0.0


def _parts(word: str) -> list[str]:
    parts: list[str] = _WORD.findall(_NOTE.sub(" ", word).replace("_", " ").casefold())
    return parts


def _forms(word: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys([spelled(word), normal(word)]))


@functools.cache
def _singular(word: str) -> str:
    import simplemma

    return simplemma.lemmatize(word, lang="en").casefold()


@functools.cache
def _columns() -> dict[str, Any]:
    """The Arrow columns of the file; `cpp.naming.wordnet_build.SCHEMA` describes them."""
    import pyarrow.parquet as pq

    table = pq.read_table(_FILE)
    return {name: table[name].combine_chunks() for name in table.column_names}


@functools.cache
def _rows() -> dict[int, int]:
    """The row of every synset."""
    return {synset: row for row, synset in enumerate(_columns()["synset"].to_pylist())}


@functools.cache
def _value(column: str, synset: int) -> Any:
    return _columns()[column][_rows()[synset]].as_py()


@functools.cache
def _by_spelling() -> dict[str, list[tuple[int, int]]]:
    """For every spelling its senses: their rank, from the most frequent, and their row."""
    import pyarrow.compute as pc

    columns = _columns()
    lemmas = columns["lemmas"].flatten()
    words = pc.utf8_lower(lemmas).to_pylist()
    for i in pc.indices_nonzero(pc.match_substring_regex(lemmas, "[^A-Za-z0-9 ]")).to_pylist():  # 4 of 100
        words[i] = spelled(words[i])
    ranks, rows = columns["senses"].flatten(), pc.list_parent_indices(columns["lemmas"])
    index: dict[str, list[tuple[int, int]]] = {}
    for form, rank, row in zip(words, ranks.to_pylist(), rows.to_pylist(), strict=True):
        index.setdefault(form, []).append((rank, row))
    return index
