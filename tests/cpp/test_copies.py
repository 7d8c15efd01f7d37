"""K with copies, near-copies, constant rows and outliers among the rows: they never decide it, and nothing crashes."""

import warnings

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from torch.nn.functional import normalize

from cpp import CPP
from cpp.clustering.estimate_k import estimate_k
from cpp.clustering.layers import Layers, build_layers
from cpp.clustering.partition import Measured, fine_groups
from cpp.evaluation.metrics import scores
from cpp.rate_reduction.copies import distinct_rows
from cpp.rate_reduction.fit import fit
from cpp.rate_reduction.recipes import Discriminant
from tests.support.vectors import nuisance

Rows = NDArray[np.float32]


def choose(X: torch.Tensor, n_clusters: int | None = None) -> tuple[Measured, Layers]:
    """K as a run estimates it, whose codes are read as float16."""
    distinct, isolated = distinct_rows(X), n_clusters is not None
    n_clusters = n_clusters or estimate_k(X, Discriminant(), 0).best
    codes = fit(X, Discriminant(), n_clusters, 0, distinct=distinct)[0].project(X, 8192)
    groups = fine_groups(codes, distinct, n_clusters=n_clusters, directions=32, isolated=isolated, seed=0)
    measured = groups.moments([codes.Z.half().float().numpy()], 8192)
    return measured, build_layers(groups, measured.moments, [])


@pytest.mark.parametrize("noise", [0.0, 1e-6, 0.01])
@pytest.mark.parametrize("pictures", [1, 5])
def test_copies_count_once(pictures: int, noise: float) -> None:
    X, group = nuisance(600, 10, 0.5)
    copies = X[:pictures].repeat(1200 // pictures, 1)
    copies += noise * torch.randn(copies.shape, generator=torch.Generator().manual_seed(1))
    order = torch.randperm(1800, generator=torch.Generator().manual_seed(2))
    rows, truth = torch.cat([X, copies])[order], torch.cat([group, group[:pictures].repeat(1200 // pictures)])[order]
    measured, layers = choose(rows)
    assert (measured.rows, layers.main) == (1800, 10)
    assert 1190 <= measured.copies <= 1200
    model = CPP(None, random_state=0).fit(rows)
    assert model.n_clusters_ == 10
    assert model.n_copies_ == 1200
    assert scores(truth, model.labels_).ari > 0.99
    given = CPP(10, random_state=0).fit(rows)
    assert scores(truth, given.labels_).ari > 0.99


def mixture(rng: np.random.Generator) -> Rows:
    """Clusters, and any of: copies of a row, near-copies of some, constant rows, outliers, every row twice."""
    d, n = int(rng.integers(2, 48)), int(rng.choice([3, 30, 300]))
    centres = rng.standard_normal((rng.integers(1, 12), d))
    X = centres[rng.integers(0, len(centres), n)] + rng.choice([0.01, 0.1, 0.3]) * rng.standard_normal((n, d))
    parts = [X] if rng.random() < 0.8 else []
    for _ in range(int(rng.integers(1, 4))):
        m = int(rng.choice([2, 50, 500]))
        near = X[rng.integers(0, 3, m)] + 10.0 ** rng.integers(-8, -1) * rng.standard_normal((m, d))
        constant = np.full((m, d), rng.choice([0.0, 1.0]))
        outliers = 10.0 ** rng.integers(0, 7) * rng.standard_normal((min(m, 20), d))
        parts.append([X[:1].repeat(m, 0), near, constant, outliers, X.repeat(2, 0)][rng.integers(0, 5)])
    rows = rng.permutation(np.concatenate(parts))
    return rows.astype(np.float32) if rng.random() < 0.5 else normalize(torch.from_numpy(rows).float()).numpy()


@pytest.mark.parametrize("seed", range(40))
def test_any_mixture_has_a_k_or_one_sentence(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = mixture(rng)
    n_clusters = int(rng.integers(1, min(len(rows), 40) + 1)) if rng.random() < 0.3 else None
    _, equal = np.unique(rows, axis=0, return_inverse=True)
    try:
        measured, layers = choose(torch.from_numpy(rows), n_clusters)
    except ValueError as error:
        assert "are all equal" in str(error)  # noqa: PT017  # most mixtures raise nothing
        return
    assert 1 <= layers.main <= equal.max() + 1
    assert 0 <= measured.copies < measured.rows == len(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = CPP(n_clusters, random_state=0).fit_predict(rows)
    assert len(labels) == len(rows)
    assert scores(equal, labels).nmi >= 0
    for copies in np.flatnonzero(np.bincount(equal) > 1):
        assert len(set(labels[equal == copies])) == 1


def test_two_different_rows_are_one_cluster_and_equal_rows_are_an_error() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat_interleave(torch.tensor([30, 20]), 0)
    measured, layers = choose(rows)
    assert (measured.copies, layers.main) == (48, 1)
    with pytest.raises(ValueError, match="the 30 rows of features are all equal"):
        choose(rows[:30])
