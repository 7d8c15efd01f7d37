"""Fisher's discriminant with neighbours as groups: the linear map with the largest rate reduction.

For codes A x of groups that share one covariance, R - R_c tends to 1/2 logdet(A T A^T) - 1/2 logdet(A W A^T) as the
distortion goes to 0, where T is the total scatter and W the scatter within groups. The leading generalised eigenvectors
of (T, W) maximise it. Nearest neighbours replace the unknown groups, and are searched again among the codes. Knows no
files, no networks and no labels.

Sources: Fisher, "The use of multiple measurements in taxonomic problems", 1936; neighbours in place of classes as in
He and Niyogi, "Locality preserving projections", NIPS 2003; rate reduction: Yu et al., arXiv 2006.08558, equation 8.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from cpp.nearest import nearest_rows

_ROWS = 16384  # rows of differences in memory at a time


def discriminant(
    X_nD: Tensor, dim: int, neighbours: int, rounds: int, shrinkage: float, gpu: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the mean `[D]` and the map `[dim, D]` after each round; codes are the unit rows of (x - mean) map^T.

    The first round searches neighbours by the cosine of the rows, later rounds by the cosine of the codes. `shrinkage`
    times the mean eigenvalue of W is added to its diagonal. The rows must not all be equal.
    """
    X = X_nD.to(torch.float32)
    mean, parts = X.mean(0), torch.arange(len(X)).split(_ROWS)
    total = _scatter(X[rows] - mean for rows in parts)
    codes = normalize(X)
    for _ in range(rounds):
        near = torch.from_numpy(nearest_rows(codes.numpy(), min(neighbours, len(X) - 1), gpu))
        within = _scatter(X[rows] - X[near[rows]].mean(1) for rows in parts)
        matrix = _leading(total, within, dim, shrinkage)
        codes = normalize((X - mean) @ matrix.mT)
        yield mean, matrix


def _scatter(differences: Iterable[Tensor]) -> Tensor:
    """Mean outer product of the rows of all parts, float64."""
    n, outer = 0, torch.zeros((), dtype=torch.float64)
    for part in differences:
        D = part.to(torch.float64)
        n, outer = n + len(D), outer + D.mT @ D
    return outer / n


def _leading(total: Tensor, within: Tensor, dim: int, shrinkage: float) -> Tensor:
    """Rows v of T v = r W v with the `dim` largest ratios r, scaled to v^T W v = 1."""
    from scipy.linalg import eigh

    D = len(total)
    # if all neighbours are copies, W is 0; a millionth of T then keeps the problem solvable
    level = shrinkage * within.trace() / D + 1e-6 * total.trace() / D
    _, vectors = eigh(total.numpy(), within.numpy() + level.item() * np.eye(D), subset_by_index=(D - dim, D - 1))
    return torch.from_numpy(vectors[:, ::-1].T.copy()).to(torch.float32)
