"""Leading eigenvectors by block Lanczos, and the sparse membership of many rows."""

import numpy as np
import pytest
import torch
from scipy.linalg import eigh
from torch.nn.functional import normalize

import cpp.clustering.spectral as module
from cpp.clustering.partition import partition
from cpp.clustering.spectral import leading_eigenvectors, sparse_affinity, spectral
from cpp.evaluation.metrics import scores
from cpp.rate_reduction.head import Codes


def planted(n: int, clusters: int) -> tuple[torch.Tensor, np.ndarray]:
    generator = torch.Generator().manual_seed(0)
    cluster = torch.arange(n) % clusters
    centres = normalize(torch.randn(clusters, 16, generator=generator))
    return normalize(centres[cluster] + 0.1 * torch.randn(n, 16, generator=generator)), cluster.numpy()


def test_block_lanczos_spans_the_leading_eigenvectors() -> None:
    A = torch.randn(2500, 2500, generator=torch.Generator().manual_seed(0)).numpy()
    A = (A + A.T) / np.float32(2 * 2500**0.5)
    exact = eigh(A, subset_by_index=(2490, 2499))[1]
    vectors = leading_eigenvectors(A, 10, seed=0)
    assert np.allclose(vectors.T @ vectors, np.eye(10), atol=1e-4)
    assert np.linalg.svd(exact.T @ vectors, compute_uv=False).min() > 0.999


def test_block_lanczos_bears_a_matrix_of_low_rank() -> None:
    X = torch.randn(2500, 20, generator=torch.Generator().manual_seed(0))
    vectors = leading_eigenvectors((X @ X.mT / 2500).numpy(), 40, seed=0)
    assert np.allclose(vectors.T @ vectors, np.eye(40), atol=1e-3)
    projected = torch.from_numpy(vectors) @ (torch.from_numpy(vectors).mT @ X)
    assert torch.allclose(projected, X, atol=1e-2)


def test_a_sparse_membership_finds_what_the_dense_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    X, cluster = planted(3000, 12)
    monkeypatch.setattr(module, "DENSE", 1000)
    affinity = sparse_affinity(X, 0.1, 5)
    assert affinity.nnz < 3000 * (2 * module.NEIGHBOURS + 1)
    assert abs(affinity - affinity.T).max() < 1e-6
    assert scores(cluster, spectral(X, 12, 0.1, 5, seed=0)).ari == 1


def test_many_clusters_of_a_sparse_membership_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    X, _ = planted(3000, 200)
    monkeypatch.setattr(module, "DENSE", 1000)
    with pytest.raises(ValueError, match=r"3,000 landmarks makes at most 150 clusters, not 200: set partition\.method"):
        spectral(X, 200, 0.1, 5, seed=0)
    assert partition(Codes(X, X), 200, "auto", 0.1, 8192, 0).method == "kmeans"
