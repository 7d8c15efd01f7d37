"""Vectors with a known structure."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize


def subspaces(n: int, K: int, rank: int, dim: int, seed: int) -> tuple[torch.Tensor, NDArray[np.int64]]:
    """Unit rows `[n, dim]` on a union of K random subspaces of the given rank, and which one each is on."""
    rng = np.random.default_rng(seed)
    bases = [np.linalg.qr(rng.standard_normal((dim, rank)))[0] for _ in range(K)]
    group = rng.permutation(np.arange(n) % K)
    X = np.stack([bases[g] @ rng.standard_normal(rank) for g in group])
    return torch.from_numpy((X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)), group


def nuisance(n: int, K: int, strength: float, seed: int = 0, dim: int = 40) -> tuple[Tensor, Tensor]:
    """Groups in the first ten dimensions under much larger noise, common to all groups, in ten others."""
    g = torch.Generator().manual_seed(seed)
    group = torch.arange(n) % K
    X = 0.12 * torch.randn(n, dim, generator=g)
    X[:, :10] += torch.randn(K, 10, generator=g)[group]
    X[:, 10:20] += strength * torch.randn(n, 10, generator=g)
    X += 3  # features of CLIP have a large common mean
    return X, group


def blobs(sizes: list[int], noise: float, dim: int = 24, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Unit rows around orthogonal directions, so many of each, and which direction each is of."""
    group = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    g = torch.Generator().manual_seed(seed)
    return normalize(torch.eye(dim)[group] + noise * torch.randn(len(group), dim, generator=g), dim=1), group
