"""Titles of the clusters of nested layers: a coarse cluster without a sure name is called by its largest parts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cpp.naming.names import EMPTY, Name
from cpp.naming.titles import title


class Layer(NamedTuple):
    """By cluster: its number of images, its cluster in the next coarser layer, and its name, None without names."""

    size: NDArray[np.integer]
    parent: Sequence[int | None]
    names: Sequence[Name] | None


def layer_titles(layers: Sequence[Layer]) -> list[list[str]]:
    """The titles of the clusters of every layer; `layers` and the result begin with the coarsest.

    The parts of a cluster are its clusters in the next finer layer. A part without a sure name stands under the name of
    its own largest part. Parts are listed without what tells them apart from others of their name ("bird", not
    "bird 2"), and not under the general word of the cluster itself.
    """
    result: list[list[str]] = []
    parts: dict[int | None, list[str | None]] = {}  # by cluster, the largest first
    for layer in reversed(layers):
        names = layer.names or [EMPTY] * len(layer.size)
        below = [
            [part for part in dict.fromkeys(parts.get(k, ())) if part is None or part != n.general]
            for k, n in enumerate(names)
        ]
        result.append([title(n.name, n.guess, n.status, f"cluster {k}", below[k]) for k, n in enumerate(names)])
        parts = defaultdict(list)
        for k in np.argsort(-layer.size, kind="stable").tolist():
            parts[layer.parent[k]].append(next(filter(None, (names[k].word, *below[k])), None))
    return result[::-1]
