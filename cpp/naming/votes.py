"""Votes of images for words and best words of images, as sums over shards.

Knows no files. Shape suffixes: n images, w words, k clusters, d dimensions.

Source: Chu et al., arXiv 2306.05272, section 3.4 and algorithm 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cpp.naming.vocabulary import Vocabulary

if TYPE_CHECKING:
    from torch import Tensor

TEMPERATURE = 100.0  # CLIP's logit scale, as in the paper
IMAGE_MEAN = 0.65  # share of the mean image vector that is subtracted (tests/bench/RESULTS.md, names)
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


class ClusterSums(NamedTuple):
    """By cluster: the number of images `count_k` int64 and the sum of their unit vectors `sum_kd` float64."""

    count_k: NDArray[np.int64]
    sum_kd: NDArray[np.float64]

    def merge(self, into: NDArray[np.integer], n_clusters: int) -> ClusterSums:
        """The sums of coarser clusters; cluster k is part of cluster `into[k]`."""
        total = ClusterSums.zeros(n_clusters, self.sum_kd.shape[1])
        total.add_(into, self)
        return total

    def add_(self, cluster: NDArray[np.integer], part: ClusterSums) -> None:
        """Add the sums of a part of the images in place; its clusters have the numbers `cluster` here."""
        np.add.at(self.count_k, cluster, part.count_k)
        np.add.at(self.sum_kd, cluster, part.sum_kd)

    @classmethod
    def zeros(cls, n_clusters: int, d: int) -> ClusterSums:
        """The sums of no images."""
        return cls(np.zeros(n_clusters, np.int64), np.zeros((n_clusters, d)))


class VoteResult(NamedTuple):
    """The votes and sums of one shard. `present` are the numbers of the clusters in `sums`, in order.

    `word` int32 `[n]` is the best word of every image.
    """

    votes: Votes
    present: NDArray[np.int32]
    sums: ClusterSums
    word: NDArray[np.int32]


def similarities(X_nd: Tensor, vocabulary: Vocabulary, mean_d: Tensor | None) -> Tensor:
    """Similarities of images and words, float32 `[n, n_words]`, on the device of `X_nd`.

    With the mean image vector `mean_d`, the vectors of both modalities are centred: `IMAGE_MEAN` of that mean is
    subtracted from the images, and the mean of all words from the words, which are normalised again. CLIP's images and
    texts lie in two narrow cones, so that means dominate plain cosines (Liang et al., "Mind the gap", arXiv 2203.02053;
    Bhalla et al., SpLiCE, arXiv 2402.10376, section 4). Without it, the cosine.
    """
    import torch

    X = X_nd.to(torch.float32)
    if mean_d is None:
        return X @ vocabulary.vectors.to(X.device).T
    return (X - IMAGE_MEAN * mean_d.to(X)) @ vocabulary.centred.to(X.device).T


def vote(
    X_nd: Tensor,
    cluster_n: NDArray[np.int32],
    vocabulary: Vocabulary,
    mean_d: Tensor | None,
    top: int,
    batch: int,
    device: str,
) -> VoteResult:
    """Let unit features `[n, d]` vote: the `top` largest values of softmax(100 x similarity), summed by cluster.

    At most `batch` images are compared at a time, fewer with many words, so memory does not grow with their number.
    ValueError if the words have another dimension.
    """
    import torch

    vocabulary.check_dimension(X_nd.shape[1])
    top = min(top, len(vocabulary))
    present, index = np.unique(cluster_n, return_inverse=True)
    sums = ClusterSums.zeros(len(present), X_nd.shape[1])
    parts = [NO_VOTES]
    best = [torch.empty(0, dtype=torch.int64)]
    for block in torch.arange(len(X_nd)).split(max(1, min(batch, _BLOCK // len(vocabulary)))):
        rows, clusters = X_nd[block].to(device, torch.float32), cluster_n[block]
        value, word = (TEMPERATURE * similarities(rows, vocabulary, mean_d)).softmax(dim=1).topk(top, dim=1)
        flat, weight = word.cpu().numpy().ravel().astype(np.int32), value.cpu().numpy().ravel().astype(np.float64)
        first = np.tile(np.arange(top) == 0, len(block)).astype(np.int64)
        parts.append(Votes.total([Votes(np.repeat(clusters, top), flat, weight, first)]))
        best.append(word[:, 0].cpu())
        torch.from_numpy(sums.sum_kd).index_add_(0, torch.from_numpy(index)[block], rows.cpu().to(torch.float64))
    sums.count_k[:] = np.bincount(index, minlength=len(present))
    return VoteResult(Votes.total(parts), present, sums, torch.cat(best).numpy().astype(np.int32))
