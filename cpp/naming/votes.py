"""Votes of images for words, best words and similarities, all as sums over shards.

Knows no files. Shape suffixes: n images, w words, k clusters, d dimensions.

Source: Chu et al., arXiv 2306.05272, section 3.4 and algorithm 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpp.naming.vocabulary import Vocabulary

TEMPERATURE = 100.0  # CLIP's logit scale, as in the paper
_BLOCK = 2**25  # similarities of images and words in memory


class Votes(NamedTuple):
    """Sparse `[clusters, words]`: `vote[i]` is the votes of `cluster[i]` for `word[i]`; each pair once, in order.

    `first[i]` is the number of images of the cluster whose best word it is.
    """

    cluster: NDArray[np.int32]
    word: NDArray[np.int32]
    vote: NDArray[np.float64]
    first: NDArray[np.int64]

    def merge(self, into: NDArray[np.integer]) -> Votes:
        """The votes of coarser clusters; cluster k is part of cluster `into[k]`."""
        return Votes.total([self._replace(cluster=into[self.cluster].astype(np.int32))])

    def select(self, rows: slice | NDArray[np.bool_]) -> Votes:
        """Some of the pairs of clusters and words."""
        return Votes(self.cluster[rows], self.word[rows], self.vote[rows], self.first[rows])

    @classmethod
    def total(cls, parts: Sequence[Votes]) -> Votes:
        """The sum of votes, for example of all shards; `parts` has at least one element."""
        cluster, word, vote, first = (np.concatenate(column) for column in zip(*parts, strict=True))
        pairs, where = np.unique(cluster.astype(np.int64) << 32 | word, return_inverse=True)
        votes, firsts = (np.bincount(where, column, len(pairs)).astype(column.dtype) for column in (vote, first))
        return cls((pairs >> 32).astype(np.int32), (pairs & (2**32 - 1)).astype(np.int32), votes, firsts)


NO_VOTES = Votes(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0), np.empty(0, np.int64))


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
        return cls(np.zeros(n_clusters, np.int64), np.zeros((n_clusters, d)), *np.zeros((2, n_words)))


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
    vocabulary.check_dimension(X_nd.shape[1])
    text, top = vocabulary.vectors.to(device), min(top, len(vocabulary))
    present, index = np.unique(cluster_n, return_inverse=True)
    sums = SimilaritySums.zeros(len(present), X_nd.shape[1], len(vocabulary))
    parts = [NO_VOTES]
    words, similarities = [torch.empty(0, dtype=torch.int64)], [torch.empty(0)]
    for block in torch.arange(len(X_nd)).split(max(1, min(batch, _BLOCK // len(vocabulary)))):
        rows, clusters = X_nd[block].to(device, torch.float32), cluster_n[block]
        cosine = rows @ text.T
        value, word = (TEMPERATURE * cosine).softmax(dim=1).topk(top, dim=1)
        flat, weight = word.cpu().numpy().ravel().astype(np.int32), value.cpu().numpy().ravel().astype(np.float64)
        first = np.tile(np.arange(top) == 0, len(block)).astype(np.int64)
        parts.append(Votes.total([Votes(np.repeat(clusters, top), flat, weight, first)]))
        words.append(word[:, 0].cpu())
        similarities.append(cosine.gather(1, word[:, :1])[:, 0].cpu())
        torch.from_numpy(sums.sum_kd).index_add_(0, torch.from_numpy(index)[block], rows.cpu().to(torch.float64))
        sums.similarity_w[:] += cosine.sum(0, dtype=torch.float64).cpu().numpy()
        sums.squared_w[:] += cosine.square().sum(0, dtype=torch.float64).cpu().numpy()
    sums.count_k[:] = np.bincount(index, minlength=len(present))
    word_n, similarity_n = torch.cat(words).numpy().astype(np.int32), torch.cat(similarities).numpy()
    return VoteResult(Votes.total(parts), present, sums, word_n, similarity_n)
