"""Votes of images for words, best words and similarities, all as sums over shards.

Knows no files. Shape suffixes: n images, w words, k clusters, d dimensions.

Source: Chu et al., arXiv 2306.05272, section 3.4 and algorithm 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpp.naming.vocabulary import Vocabulary

TEMPERATURE = 100.0  # CLIP's logit scale, as in the paper
_BLOCK = 2**25  # similarities of images and words in memory


@dataclass(frozen=True)
class Votes:
    """Sparse `[clusters, words]`: `vote[i]` is the votes of `cluster[i]` for `word[i]`; each pair once, in order.

    `first[i]` is the number of images of the cluster whose best word it is.
    """

    cluster: NDArray[np.int32]
    word: NDArray[np.int32]
    vote: NDArray[np.float64]
    first: NDArray[np.int64]

    def merge(self, into: NDArray[np.integer]) -> Votes:
        """The votes of coarser clusters; cluster k is part of cluster `into[k]`."""
        return Votes.total([replace(self, cluster=into[self.cluster].astype(np.int32))])

    def without(self, word_w: NDArray[np.bool_]) -> Votes:
        """The votes without those for the words marked in `[n_words]`."""
        kept = ~word_w[self.word]
        return Votes(self.cluster[kept], self.word[kept], self.vote[kept], self.first[kept])

    @classmethod
    def total(cls, parts: Sequence[Votes]) -> Votes:
        """The sum of votes, for example of all shards."""
        cluster, word = _joined([p.cluster for p in parts], np.int32), _joined([p.word for p in parts], np.int32)
        vote, first = _joined([p.vote for p in parts], np.float64), _joined([p.first for p in parts], np.int64)
        pairs, where = np.unique(cluster.astype(np.int64) << 32 | word, return_inverse=True)
        votes, firsts = (np.bincount(where, of, len(pairs)).astype(of.dtype) for of in (vote, first))
        return cls((pairs >> 32).astype(np.int32), (pairs & (2**32 - 1)).astype(np.int32), votes, firsts)


class SimilaritySums(NamedTuple):
    """Similarities of images and words, as sums over images.

    By cluster: the number of images `count_k` int64 and the sum of their unit vectors `sum_kd` float64. By word, over
    all images: the sum of the similarities and of their squares, `similarity_w` and `squared_w` float64.
    """

    count_k: NDArray[np.int64]
    sum_kd: NDArray[np.float64]
    similarity_w: NDArray[np.float64]
    squared_w: NDArray[np.float64]

    def merge(self, into: NDArray[np.integer], n_clusters: int) -> SimilaritySums:
        """The sums of coarser clusters; cluster k is part of cluster `into[k]`."""
        sums = np.zeros((n_clusters, self.sum_kd.shape[1]))
        np.add.at(sums, into, self.sum_kd)
        count = np.bincount(into, weights=self.count_k, minlength=n_clusters).astype(np.int64)
        return self._replace(count_k=count, sum_kd=sums)

    def add_(self, cluster: NDArray[np.integer], part: SimilaritySums) -> None:
        """Add the sums of a part of the images in place; its clusters have the distinct numbers `cluster` here."""
        self.count_k[cluster] += part.count_k
        self.sum_kd[cluster] += part.sum_kd
        self.similarity_w[:] += part.similarity_w
        self.squared_w[:] += part.squared_w

    @classmethod
    def zeros(cls, n_clusters: int, d: int, n_words: int) -> SimilaritySums:
        """The sums of no images."""
        empty = np.zeros(n_words)
        return cls(np.zeros(n_clusters, np.int64), np.zeros((n_clusters, d)), empty, empty.copy())


class VoteResult(NamedTuple):
    """The votes and similarities of one shard. `present` are the numbers of the clusters in `sums`, in order.

    `word` int32 and `similarity` float32, `[n]` each, are the best word of every image and its cosine.
    """

    votes: Votes
    present: NDArray[np.int32]
    sums: SimilaritySums
    word: NDArray[np.int32]
    similarity: NDArray[np.float32]


def vote(
    X_nd: Tensor, cluster_n: NDArray[np.int32], vocabulary: Vocabulary, top: int, batch: int, device: str
) -> VoteResult:
    """Let unit features `[n, d]` vote: the `top` largest values of softmax(100 x image . text), summed by cluster.

    At most `batch` images are compared at a time, fewer with many words, so memory does not grow with their number.
    ValueError if the words have another dimension.
    """
    if X_nd.shape[1] != vocabulary.vectors.shape[1]:
        raise ValueError(
            f"the images have dimension {X_nd.shape[1]}, the words {vocabulary.vectors.shape[1]}: "
            "label.vocabulary must come from the text tower of the model that made the features"
        )
    text, top = vocabulary.vectors.to(device), min(top, len(vocabulary))
    present, index = np.unique(cluster_n, return_inverse=True)
    sums = SimilaritySums.zeros(len(present), X_nd.shape[1], len(vocabulary))
    parts: list[Votes] = []
    words, similarities = [torch.empty(0, dtype=torch.int64)], [torch.empty(0)]
    for block in torch.arange(len(X_nd)).split(max(1, min(batch, _BLOCK // len(vocabulary)))):
        rows, clusters = X_nd[block].to(device, torch.float32), cluster_n[block]
        cosine = rows @ text.T
        value, word = (TEMPERATURE * cosine).softmax(dim=1).topk(top, dim=1)
        first = np.zeros((len(block), top), np.int64)
        first[:, 0] = 1
        flat, weight = word.cpu().numpy().reshape(-1).astype(np.int32), value.cpu().numpy().reshape(-1)
        votes = Votes(np.repeat(clusters, top), flat, weight.astype(np.float64), first.reshape(-1))
        parts.append(Votes.total([votes]))
        words.append(word[:, 0].cpu())
        similarities.append(cosine.gather(1, word[:, :1])[:, 0].cpu())
        torch.from_numpy(sums.sum_kd).index_add_(0, torch.from_numpy(index)[block], rows.cpu().to(torch.float64))
        sums.similarity_w[:] += cosine.sum(0, dtype=torch.float64).cpu().numpy()
        sums.squared_w[:] += cosine.square().sum(0, dtype=torch.float64).cpu().numpy()
    sums.count_k[:] = np.bincount(index, minlength=len(present))
    word_n, similarity_n = torch.cat(words).numpy().astype(np.int32), torch.cat(similarities).numpy()
    return VoteResult(Votes.total(parts), present, sums, word_n, similarity_n)


def _joined(parts: Sequence[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.empty(0, dtype)
