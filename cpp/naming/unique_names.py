"""Unique names: what tells clusters apart that would have the same name. Knows no vectors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, count

import numpy as np
from numpy.typing import NDArray

from cpp.naming import titles, wordnet

FITS = 0.2  # least share of a cluster's votes for a word that is added to its name
RARER = 0.5  # each other cluster of the name has at most this part of that share


def unique_names(
    names: Sequence[str | None], shares: Sequence[Mapping[str, float]], size_k: NDArray[np.integer]
) -> list[str | None]:
    """Tell clusters of one name apart: by a word that fits one and none of the others, else by a number, from 2.

    `shares` are the shares of the votes for words by cluster. The largest cluster keeps the plain name.
    """
    members = defaultdict(list)
    for k, name in enumerate(names):
        if name is not None:
            members[name].append(k)
    result, taken = list(names), set(members)
    for name, clusters in sorted(members.items()):
        clusters.sort(key=lambda k: (-size_k[k], k))
        for k in clusters[1:]:
            word = _distinguishing(name, shares[k], [shares[other] for other in clusters if other != k])
            options = chain([titles.with_addition(name, word)] if word else [], _numbered(name))
            result[k] = next(option for option in options if option not in taken)
            taken.add(str(result[k]))
    return result


def _numbered(name: str) -> Iterator[str]:
    return (titles.numbered(name, n) for n in count(2))


def _distinguishing(name: str, shares: Mapping[str, float], siblings: Sequence[Mapping[str, float]]) -> str | None:
    """The word with most votes that fits this cluster and no sibling, and is no other sense of the name."""
    own = wordnet.normal(name)
    fitting = [
        (share, word)
        for word, share in shares.items()
        if share >= FITS
        and wordnet.normal(word) != own
        and all(other.get(word, 0.0) <= RARER * share for other in siblings)
    ]
    return max(fitting)[1] if fitting else None
