"""Mines phrases from captions: which are noun-like and frequent, and which distinguish a cluster.

Captions are untrusted and there may be billions: long ones are cut, and memory is bounded. Text in Latin script is
treated as English; phrases in other scripts are kept by frequency alone, because no grammar is known for them.
Knows no files and no vectors.
"""

from __future__ import annotations

import functools
import html
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import regex
from numpy.typing import NDArray

from cpp.naming import wordnet

if TYPE_CHECKING:
    from scipy import sparse

CAPTIONS = 10  # captions read per image
CHARACTERS = 1000  # characters read per caption
WORDS = 3  # most words of a phrase
PER_SHARD = 20_000  # most frequent phrases kept per shard
MOST = 20_000  # most frequent phrases that are mined
RARE = 5  # least number of images with a phrase
HELD = 200_000  # phrases counted at a time; beyond it the rarer half is dropped
MERGED = 2_000_000  # the same for all shards together
ALONE, ALONE_PHRASE = 0.1, 0.05  # least share of the images with a word, or phrase, where it stands as a noun phrase
CLOSED = 0.25  # least share of the images with a WordNet noun where it ends a phrase
PART = 0.9  # a phrase counts as part of a longer one that occurs in this share of its images

SEEN = pa.schema([("phrase", pa.string()), ("images", pa.int64()), ("closed", pa.int64()), ("alone", pa.int64())])
MINED = pa.schema([("phrase", pa.string()), ("images", pa.int64()), ("forms", pa.list_(pa.string()))])

_WORD = r"\p{Han}|(?:(?!\p{Han})[\p{L}\p{M}\p{N}])+(?:-(?:(?!\p{Han})[\p{L}\p{M}\p{N}])+)*"
_TOKEN = regex.compile(rf"{_WORD}|\S")  # Han has no spaces: each of its characters is a word
_CONTENT = regex.compile(r"\p{Han}|(?=.*\p{L}).{2,}")
_JUNK = regex.compile(r"<[^<>]*>|\w+://\S+|www\.\S+")
_LATIN = regex.compile(r"\p{Latin}")
_HAN_GAP = regex.compile(r"(?<=\p{Han}) (?=\p{Han})")
_NOUNS = frozenset({"bill", "cry", "fire", "mill", "mine", "system"})  # among scikit-learn's stop words
_OPENER = regex.compile(
    "an?|the|this|that|these|those|his|her|its|their|my|your|our|some|any|each|every|another|of|with|in|on|at|by|from|"
    "into|over|under|near|behind|between|against|for|two|three|four|five|six|several|many|through|across|around|during|"
    "without"
)  # words that precede a noun phrase
_JOINERS = frozenset({"and", "or", "-", "'", "’"})  # the next word may belong to the same phrase


@functools.cache
def _stops() -> frozenset[str]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return frozenset(ENGLISH_STOP_WORDS) - _NOUNS


def count(images: Iterable[Sequence[str]], held: int = HELD, kept: int = PER_SHARD) -> pa.Table:
    """SEEN of a shard: the number of images with each phrase, for the `kept` most frequent phrases.

    An image is given as its captions. `closed` counts images where the phrase ends before a preposition, a verb among
    the stop words or a full stop, `alone` those where it also follows an article or a preposition, as noun phrases do.
    At most `held` phrases are in memory; beyond that the rarer ones are dropped and counted from 0 again.
    """
    counters = [Counter[str](), Counter[str](), Counter[str]()]
    for captions in images:
        uses = set(_phrases(captions))
        counters[0].update({phrase for phrase, _, _ in uses})
        counters[1].update({phrase for phrase, _, closed in uses if closed})
        counters[2].update({phrase for phrase, opened, closed in uses if opened and closed})
        if len(counters[0]) > held:
            frequent = _most(counters[0], held // 2)
            counters = [Counter({phrase: counter[phrase] for phrase in frequent}) for counter in counters]
    phrases = _most(counters[0], kept)
    return pa.table([phrases, *([counter[phrase] for phrase in phrases] for counter in counters)], schema=SEEN)


def _most(images: Mapping[str, int], n: int) -> list[str]:
    return sorted(images, key=lambda phrase: (-images[phrase], phrase))[:n]


def _phrases(captions: Sequence[str]) -> Iterator[tuple[str, bool, bool]]:
    """Phrases of up to `WORDS` words, and whether an opener precedes and a boundary follows them."""
    for caption in captions[:CAPTIONS]:
        text = unicodedata.normalize("NFKC", html.unescape(caption[:CHARACTERS]))
        run: list[str] = []
        opened = False
        for token in [*_TOKEN.findall(_JUNK.sub(" | ", text[:CHARACTERS]).lower()), "."]:
            if token not in _stops() and _CONTENT.fullmatch(token):
                run.append(token)
                continue
            for start, end in _ranges(len(run)):
                yield " ".join(run[start:end]), opened and start == 0, end == len(run) and token not in _JOINERS
            run, opened = [], bool(_OPENER.fullmatch(token))


def _ranges(n: int) -> Iterator[tuple[int, int]]:
    """The start and end of every phrase in a run of `n` words."""
    return ((start, end) for start in range(n) for end in range(start + 1, min(start + WORDS, n) + 1))


def total(tables: Iterable[pa.Table], held: int = MERGED) -> pa.Table:
    """SEEN of all shards, the most frequent phrase first, with at most `held` phrases in memory."""
    parts, rows = [SEEN.empty_table()], 0
    for table in tables:
        parts.append(table)
        rows += len(table)
        if rows > held:
            parts = [_summed(parts).slice(0, held // 2)]
            rows = len(parts[0])
    return _summed(parts)


def _summed(parts: Sequence[pa.Table]) -> pa.Table:
    names = SEEN.names[1:]
    summed = pa.concat_tables(parts).group_by("phrase").aggregate([(name, "sum") for name in names])
    table = summed.select(["phrase", *(f"{name}_sum" for name in names)]).rename_columns(SEEN.names)
    return table.sort_by([("images", "descending"), ("phrase", "ascending")]).combine_chunks()


def mine(seen: pa.Table, most: int = MOST, rare: int = RARE) -> pa.Table:
    """MINED: the `most` frequent noun-like phrases of SEEN that at least `rare` images have, in this order.

    A phrase that is nearly always part of a longer one is left out. Phrases with one normal form ("dog", "dogs") are
    merged under the most frequent form; `images` is the sum.
    """
    frequent = seen.filter(pc.greater_equal(seen["images"], rare)).to_pylist()
    stats = {row["phrase"]: row for row in frequent}
    nouns = {phrase: row["images"] for phrase, row in stats.items() if _noun_like(phrase, stats)}
    parts = {
        part
        for phrase, images in nouns.items()
        for words in [phrase.split(" ")]
        for start, end in _ranges(len(words))
        if (part := " ".join(words[start:end])) != phrase and images >= PART * nouns.get(part, np.inf)
    }
    forms: dict[str, list[str]] = {}
    for phrase in nouns:
        if phrase not in parts:
            forms.setdefault(wordnet.normal(phrase), []).append(phrase)
    rows = [
        {"phrase": _HAN_GAP.sub("", same[0]), "images": sum(nouns[form] for form in same), "forms": same}
        for same in forms.values()
    ]
    return pa.Table.from_pylist(sorted(rows, key=lambda row: -row["images"])[:most], MINED)


def _noun_like(phrase: str, stats: Mapping[str, Mapping[str, int]]) -> bool:
    """Whether a phrase is used like a noun phrase, or is a WordNet noun that ends phrases.

    Adjectives seldom stand between an article and a boundary; verbs hardly ever follow an article. A word that only
    WordNet knows as a noun does not follow a plural: "dogs run" is no phrase.
    """
    if not _LATIN.search(phrase):
        return True
    if (row := stats.get(phrase)) is None:
        return False
    images, alone = row["images"], row["alone"]
    first, space, rest = phrase.partition(" ")
    if not space:
        base = wordnet.normal(phrase) == phrase and any(map(wordnet.concrete, wordnet.usual(phrase)))
        return alone >= ALONE * images or (base and row["closed"] >= CLOSED * images)
    if alone < ALONE_PHRASE * images or not _noun_like(rest, stats):
        return False
    sure = " " in rest or stats[rest]["alone"] >= ALONE * stats[rest]["images"]
    return sure or (wordnet.normal(first) == first != "people")


def tally(
    images: Iterable[Sequence[str]], cluster: NDArray[np.integer], mined: pa.Table, n_clusters: int
) -> sparse.csr_array:
    """The number of images of every cluster with each phrase of MINED, int64 `[n_clusters, n_phrases]`.

    Counts of shards add up. An image counts once for a phrase, so that no caption outweighs another.
    """
    from scipy import sparse

    number = {form: i for i, forms in enumerate(mined["forms"].to_pylist()) for form in forms}
    pairs = Counter(
        (k, phrase)
        for k, captions in zip(cluster.tolist(), images, strict=True)
        for phrase in {number[phrase] for phrase, _, _ in _phrases(captions) if phrase in number}
    )
    rows, columns = np.array(sorted(pairs), np.int64).reshape(-1, 2).T
    counts = np.array([n for _, n in sorted(pairs.items())], np.int64)
    return sparse.csr_array((counts, (rows, columns)), (n_clusters, len(mined)))


def merge(counts: sparse.csr_array, into: NDArray[np.integer]) -> sparse.csr_array:
    """The counts of coarser clusters; cluster k is part of cluster `into[k]`."""
    from scipy import sparse

    pairs = counts.tocoo()
    return sparse.csr_array((pairs.data, (into[pairs.row], pairs.col)), (int(into.max()) + 1, counts.shape[1]))


def distinctive(counts: sparse.csr_array, phrases: Sequence[str], top: int) -> list[list[tuple[str, float]]]:
    """For every cluster the `top` phrases that distinguish its captions, by class-based TF-IDF, largest first.

    W = tf_tc log(1 + A / tf_t), A the mean count of a cluster (Grootendorst, BERTopic, arXiv 2203.05794, section 3.3).
    tf_tc is divided by the sum of the cluster, so that clusters of different size are comparable, and must be at least
    the phrase's share in all captions. Ties go to the first phrase; a cluster without captions has no phrases.
    """
    of_phrase, of_cluster = np.maximum(counts.sum(axis=0), 1), np.maximum(counts.sum(axis=1), 1)
    n_all = max(1, int(counts.sum()))
    idf = np.log1p(n_all / counts.shape[0] / of_phrase)
    result = []
    for k, (low, high) in enumerate(pairwise(counts.indptr)):
        phrase, share = counts.indices[low:high], counts.data[low:high] / of_cluster[k]
        apart = share >= of_phrase[phrase] / n_all
        phrase, score = phrase[apart], share[apart] * idf[phrase[apart]]
        order = np.lexsort((phrase, -score))[:top]
        result.append([(phrases[phrase[i]], float(score[i])) for i in order])
    return result
