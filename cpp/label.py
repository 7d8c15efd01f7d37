"""Names for clusters: every image votes for the words that match it best, and votes are sums over shards.

Knows no files and no text tower: words come with their vectors, in the space of the image vectors.
Source: Chu et al., arXiv 2306.05272, section 3.4 and algorithm 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpp.quality import Measures
from cpp.vocabulary import Vocabulary

TEMPERATURE = 100.0  # CLIP's logit scale, as the paper has it


@dataclass(frozen=True)
class Votes:
    """Sparse `[clusters, words]`: `vote[i]` is what `cluster[i]` gives to `word[i]`; each pair once, in order."""

    cluster: NDArray[np.int32]
    word: NDArray[np.int32]
    vote: NDArray[np.float64]

    def merge(self, into: NDArray[np.integer]) -> Votes:
        """The votes of coarser clusters, in which cluster k has gone into `into[k]`."""
        return Votes.total([Votes(into[self.cluster].astype(np.int32), self.word, self.vote)])

    @classmethod
    def total(cls, parts: Sequence[Votes]) -> Votes:
        """The sum of votes, for example of all shards."""
        cluster = np.concatenate([p.cluster for p in parts]) if parts else np.empty(0, np.int32)
        word = np.concatenate([p.word for p in parts]) if parts else np.empty(0, np.int32)
        vote = np.concatenate([p.vote for p in parts]) if parts else np.empty(0, np.float64)
        pairs, where = np.unique(np.stack([cluster, word]), axis=1, return_inverse=True)
        sums = np.bincount(where.reshape(-1), weights=vote, minlength=pairs.shape[1])
        return cls(pairs[0].astype(np.int32), pairs[1].astype(np.int32), sums.astype(np.float64))


def vote(
    X_nd: Tensor, cluster_n: NDArray[np.int32], vocabulary: Vocabulary, top: int, batch: int, device: str
) -> Votes:
    """Votes of images (unit features `[n, d]`) for their clusters: the `top` largest of softmax(100 x image . text).

    ValueError where the words live in another space (dimension).
    """
    if X_nd.shape[1] != vocabulary.vectors.shape[1]:
        raise ValueError(
            f"the images have dimension {X_nd.shape[1]}, the words {vocabulary.vectors.shape[1]}: "
            "label.vocabulary must come from the text tower of the model that made the features"
        )
    text, top = vocabulary.vectors.to(device), min(top, len(vocabulary.words))
    parts = []
    for rows, clusters in zip(X_nd.split(batch), np.split(cluster_n, range(batch, len(cluster_n), batch)), strict=True):
        softmax = (TEMPERATURE * rows.to(device, torch.float32) @ text.T).softmax(dim=1)
        value, word = softmax.topk(top, dim=1)
        part = Votes(np.repeat(clusters, top), _flat(word).astype(np.int32), _flat(value).astype(np.float64))
        parts.append(Votes.total([part]))
    return Votes.total(parts)


def _flat(values: Tensor) -> NDArray[np.generic]:
    return values.reshape(-1).cpu().numpy()


@dataclass(frozen=True)
class Name:
    """What a cluster is called and why. Shares are of all votes of the cluster; `top` is (word, votes, share) in order.

    `name` and `runner_up` are None where a cluster has no votes, or votes for one word only.
    """

    name: str | None
    share: float
    runner_up: str | None
    margin: float
    top: list[tuple[str, float, float]]


def names(votes: Votes, words: Sequence[str], n_clusters: int, top: int = 5) -> list[Name]:
    """The most voted words of every cluster; equal votes go to the word that comes first in the vocabulary."""
    result = []
    starts = np.searchsorted(votes.cluster, np.arange(n_clusters + 1))
    for low, high in pairwise(starts):
        word, vote_w = votes.word[low:high], votes.vote[low:high]
        total = vote_w.sum()
        order = np.argsort(-vote_w, kind="stable")[:top]
        best = [(words[word[i]], float(vote_w[i]), float(vote_w[i] / total)) for i in order]
        share = [b[2] for b in best] + [0.0, 0.0]
        result.append(
            Name(
                name=best[0][0] if best else None,
                share=share[0],
                runner_up=best[1][0] if len(best) > 1 else None,
                margin=share[0] - share[1],
                top=best,
            )
        )
    return result


CLUSTERS = pa.schema(
    [
        ("layer", pa.int32()),
        ("main", pa.bool_()),
        ("cluster", pa.int32()),
        ("parent", pa.int32()),
        ("size", pa.int64()),
        ("name", pa.string()),
        ("share", pa.float64()),
        ("runner_up", pa.string()),
        ("margin", pa.float64()),
        ("top", pa.list_(pa.struct([("word", pa.string()), ("votes", pa.float64()), ("share", pa.float64())]))),
        ("small_margin", pa.float64()),
        *((name, pa.int32() if name == "nearest" else pa.float64()) for name in Measures._fields),
    ]
)


def clusters(
    layer: int,
    main: bool,
    size: NDArray[np.int64],
    found: Sequence[Name],
    measures: Measures,
    parent: Sequence[int | None],
    small_margin: Sequence[float | None],
) -> pa.Table:
    """The rows of `clusters.parquet` for the layer of `layer` clusters; the other arguments are by cluster number.

    `main` says that these are the numbers in the column `cluster` of ASSIGNMENTS; others are in `cluster_{layer}`.
    `parent` is the cluster of the next coarser layer, `small_margin` the share of members with a margin that is small.
    """
    rows = [
        {
            "layer": layer,
            "main": main,
            "cluster": k,
            "parent": parent[k],
            "size": int(size[k]),
            "name": name.name,
            "share": name.share,
            "runner_up": name.runner_up,
            "margin": name.margin,
            "top": [dict(zip(("word", "votes", "share"), entry, strict=True)) for entry in name.top],
            "small_margin": small_margin[k],
            **{field: values[k].item() for field, values in measures._asdict().items()},
        }
        for k, name in enumerate(found)
    ]
    return pa.Table.from_pylist(rows, CLUSTERS)
