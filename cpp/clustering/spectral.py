"""Spectral clustering on the membership of codes: its leading eigenvectors and k-means. Knows no files and no labels.

Up to `DENSE` rows the membership is a dense matrix. With more rows it keeps the `NEIGHBOURS` nearest rows of each row
alone, so memory grows with the number of rows and not with its square.

Sources: Ng, Jordan, Weiss, "On spectral clustering", NIPS 2001, on the membership of Chu et al., arXiv 2306.05272,
section 3.3; block Lanczos: Golub and Underwood, 1977; Musco and Musco, arXiv 1504.05477.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpp.nearest import nearest_rows
from cpp.rate_reduction.sinkhorn import membership

DENSE = 16_384  # rows up to which the membership is dense, a gigabyte
NEIGHBOURS = 50  # rows whose affinity with a row is kept in a sparse membership
REDUCED = 2048  # rows up to which a dense matrix is reduced as a whole
MANY = 0.05  # share of the eigenvectors of a dense matrix above which it is reduced as a whole
BLOCK = 32  # vectors that the membership is multiplied with at a time
BASIS = 16  # dimensions of the Krylov space for each eigenvector, at most
LEAST = 1024  # dimensions that it may have with few eigenvectors
CHECKED = 8  # blocks after which the residuals are computed again
RESIDUAL = 1e-3  # length of a Ritz vector's residual, the largest eigenvalue being 1

Floats = NDArray[np.float32]


def spectral(C_nd: Tensor, n_clusters: int, eta: float, half_steps: int, seed: int) -> NDArray[np.int64]:
    """The group of each row, `[n]`, by k-means on the K leading eigenvectors of the membership of unit rows `C_nd`.

    The membership is made symmetric and scaled again, because Sinkhorn scales one side inexactly. ValueError for more
    than `DENSE` rows if K is more than `MANY` of them.
    """
    from sklearn.cluster import KMeans

    if not feasible(n := len(C_nd), n_clusters):
        raise ValueError(
            f"spectral clustering of {n:,} landmarks makes at most {int(MANY * n):,} clusters, not {n_clusters:,}: "
            "set partition.method to kmeans, or raise partition.landmarks"
        )
    affinity = (_dense_affinity if n <= DENSE else sparse_affinity)(C_nd, eta, half_steps)
    vectors = leading_eigenvectors(affinity, n_clusters, seed)
    rows = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    restarts = max(1, min(10, 1000 // n_clusters))  # a restart costs n K^2
    return np.asarray(KMeans(n_clusters, n_init=restarts, random_state=seed).fit_predict(rows), np.int64)


def feasible(n: int, n_clusters: int) -> bool:
    """Whether K eigenvectors of the membership of n rows can be computed in memory that does not grow with n^2."""
    return n <= DENSE or n_clusters <= MANY * n


def _dense_affinity(C_nd: Tensor, eta: float, half_steps: int) -> Floats:
    Pi, _ = membership(C_nd, eta, half_steps)
    Pi = (Pi + Pi.mT) / 2
    scale_n = Pi.sum(1).rsqrt()
    affinity: Floats = (scale_n[:, None] * Pi * scale_n).numpy()
    return affinity


def sparse_affinity(C_nd: Tensor, eta: float, half_steps: int) -> Any:
    """The membership between each row and its `NEIGHBOURS` nearest by |cosine|, symmetric, as a SciPy CSR array."""
    from scipy.sparse import coo_array, diags_array

    C, n = C_nd.numpy(), len(C_nd)
    near = nearest_rows(np.concatenate([C, -C]), NEIGHBOURS, rows=np.arange(n)) % n
    row, column = np.arange(n).repeat(NEIGHBOURS), near.ravel()
    blocks = np.array_split(np.arange(n * NEIGHBOURS), -(-n // 4096))
    cosine = np.concatenate([np.abs((C[row[part]] * C[column[part]]).sum(1)) for part in blocks])
    weight = np.exp((cosine - 1) / eta).astype(np.float32)  # a common factor, which the scaling takes out
    half = coo_array((weight, (row, column)), (n, n)).tocsr()
    W = half.maximum(half.T) + diags_array(np.ones(n, np.float32))
    sides = [np.ones(n, np.float32), np.ones(n, np.float32)]
    for step in range(half_steps):
        sides[step % 2] = 1 / (W @ sides[1 - step % 2])
    Pi = diags_array(sides[0]) @ W @ diags_array(sides[1])
    Pi = (Pi + Pi.T) / 2
    scale = diags_array(1 / np.sqrt(Pi.sum(1)))
    return (scale @ Pi @ scale).tocsr()


def leading_eigenvectors(affinity: Any, k: int, seed: int) -> Floats:
    """Orthonormal eigenvectors `[n, k]` of the k largest eigenvalues of a symmetric matrix, an array or sparse."""
    from scipy.linalg import eigh

    n = affinity.shape[0]
    if n > REDUCED and k <= MANY * n:
        return _block_lanczos(affinity, k, seed)
    dense = affinity if isinstance(affinity, np.ndarray) else affinity.toarray()
    return np.asarray(eigh(dense, subset_by_index=(n - k, n - 1), check_finite=False)[1], np.float32)


def _block_lanczos(affinity: Any, k: int, seed: int) -> Floats:
    """Ritz vectors of a Krylov space that grows until their residuals are `RESIDUAL`, or to `BASIS` k dimensions.

    In the basis of this space the matrix is block tridiagonal; `eigh` reads its lower triangle alone.
    """
    n, largest = affinity.shape[0], -(-max(BASIS * k, LEAST) // BLOCK) * BLOCK
    basis = torch.empty(largest, n)  # each vector is contiguous; what is not used takes no memory
    projected = torch.zeros(largest, largest)
    new = torch.linalg.qr(torch.randn(n, BLOCK, generator=torch.Generator().manual_seed(seed)))[0]
    for end in range(BLOCK, largest + 1, BLOCK):
        block = slice(end - BLOCK, end)
        basis[block] = new.mT
        product = torch.from_numpy(np.asarray(affinity @ new.numpy(), np.float32))
        projected[block, block] = basis[block] @ product
        new = product
        for _ in range(2):  # once leaves rounding errors, which bring back vectors of the basis
            new = torch.linalg.qr(new - basis[:end].mT @ (basis[:end] @ new))[0]
        remainder = new.mT @ product
        if (end >= 2 * k and end % (CHECKED * BLOCK) == 0) or end == largest:
            _, coefficients = torch.linalg.eigh(projected[:end, :end])
            residual = (remainder @ coefficients[block, -k:]).norm(dim=0)
            if residual.max() <= RESIDUAL or end == largest:
                break
        projected[end : end + BLOCK, block] = remainder
    return np.asarray((basis[:end].mT @ coefficients[:, -k:]).numpy(), np.float32)
