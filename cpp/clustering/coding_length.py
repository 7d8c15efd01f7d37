"""The coding length of a partition, in bits, by which K is chosen. From `Moments` alone; shape suffixes as there.

There are two codes. `evidence_bits` is that of Bayesian model selection: each group is a Gaussian of unknown mean and
covariance, which are integrated out, so a group too small to show its own covariance is coded with the expected one.
`lossy_bits` is the published code. Both take a squared distortion `e`: d coordinates of variance e / d each. Lengths
are relative to a fixed grid, so they can be negative; only differences mean anything.

Sources: Murphy, "Conjugate Bayesian analysis of the Gaussian distribution", 2007, section 9 (normal inverse Wishart);
Ma, Derksen, Hong, Wright, "Segmentation of multivariate mixed data via lossy data coding and compression", TPAMI 29(9),
2007, equations 10 and 19; Chu et al., arXiv 2306.05272, section 3.4.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from cpp.nearest import nearest_rows
from cpp.rate_reduction.coding_rate import Moments, logdet_spd

NEIGHBOURS = 10  # nearest rows whose mean estimates a row without its noise
ISOLATED = 3.0  # a row this many times farther from that mean than the median row belongs to no group
FLOOR = 1e-6  # least distortion, as a share of the scatter of all rows
ROUNDING = 1e-9  # least distortion: about the squared rounding error of float32 unit rows and their sums
STEP = 2.0  # factor between the distortions that are compared
WORTH = 1.5  # bits per row that a smaller distortion must save; clusters that are not Gaussian save less

Bits = Callable[[Moments, float], Tensor]


def evidence_bits(moments: Moments, e: float) -> Tensor:
    """Bits `[K]` of the rows of each group: -log2 of the marginal likelihood, on a grid of sqrt(e / d) a coordinate.

    The covariance is inverse Wishart, the widest that has a mean (d + 2 degrees of freedom, scale (d + 2) e / d); the
    mean is normal around 0 with the covariance over e, which makes it of unit length. 0 for an empty group.
    """
    M_Kdd = posterior(moments, e)[1]
    count, d = moments.count_K, M_Kdd.shape[-1]
    freedom, scale = d + 2, (d + 2) * e / d
    nats = (
        count * (d / 2) * (math.log(math.pi) - math.log(e / d))
        + (freedom + count) / 2 * logdet_spd(M_Kdd)
        - freedom / 2 * d * math.log(scale)
        - torch.mvlgamma((freedom + count) / 2, d)
        + torch.mvlgamma(count.new_tensor(freedom / 2), d)
        + d / 2 * torch.log((e + count) / e)
    )
    return nats / math.log(2)


def posterior(moments: Moments, e: float) -> tuple[Tensor, Tensor]:
    """Posterior mean `[K, d]` and scale `[K, d, d]` of the normal inverse Wishart distribution of each group."""
    d = moments.gram_Kdd.shape[-1]
    mean = moments.sum_Kd / (e + moments.count_K)[:, None]
    M = torch.baddbmm(moments.gram_Kdd, moments.sum_Kd[:, :, None], mean[:, None, :], alpha=-1)
    M.diagonal(dim1=-2, dim2=-1).add_((d + 2) * e / d)
    return mean, M


def lossy_bits(moments: Moments, e: float) -> Tensor:
    """Bits `[K]` of the rows of each group within the squared distortion e, with its mean coded separately (Ma et al.).

    (m + d)/2 log2 det(I + d/e cov) + d/2 log2(1 + |mean|^2 / e). 0 for an empty group.
    """
    count, d = moments.count_K.clamp_min(1), moments.gram_Kdd.shape[-1]
    mean = moments.sum_Kd / count[:, None]
    covariance = moments.gram_Kdd / count[:, None, None] - mean[:, :, None] * mean[:, None, :]
    eye = torch.eye(d, dtype=mean.dtype)
    rows = (moments.count_K + d) / 2 * logdet_spd(eye + d / e * covariance)
    return (rows + d / 2 * torch.log1p(mean.square().sum(1) / e)) / math.log(2)


def label_bits(count_K: Tensor, n: float) -> Tensor:
    """Bits `[K]` for the group labels of the rows of each group, among `n` rows: m log2(n / m)."""
    bits: Tensor = torch.special.entr(count_K / n) * (n / math.log(2))
    return bits


def coding_length(moments: Moments, e: float, bits: Bits = evidence_bits) -> float:
    """Bits of a whole partition: its rows and their labels."""
    return float((bits(moments, e) + label_bits(moments.count_K, float(moments.count_K.sum()))).sum())


def exclude_isolated(Z: Tensor, gpu: bool = False) -> tuple[Tensor, float]:
    """Which rows are near others, bool `[n]`, and the noise of these, the distortion that lengths are measured at.

    The noise is the mean squared distance of a row to the mean of its ten nearest rows, without the rows of more than
    three times the median; at least 1e-6 of the scatter, and more than the rounding error of copies.
    """
    near = torch.from_numpy(nearest_rows(Z.numpy(), min(NEIGHBOURS, len(Z) - 1), gpu))
    blocks = torch.arange(len(Z)).split(8192)
    squared = torch.cat([(Z[rows] - Z[near[rows]].mean(1)).square().sum(1) for rows in blocks])
    floor = max(FLOOR * float((Z - Z.mean(0)).square().sum(1).mean()), ROUNDING)
    kept = squared <= ISOLATED * max(float(squared.median()), floor)
    return kept, max(float(squared[kept].mean()), floor)


def prefers_finer(moments: Moments, e: float) -> bool:
    """Whether half the distortion is worth it: by a bit and a half a row, on one and the same grid.

    It does for groups that are thin in most directions, such as subspaces; it does not for codes of the discriminant.
    Never below a millionth of the scatter, because rows exactly on a subspace would always save more.
    """
    n, d = float(moments.count_K.sum()), moments.gram_Kdd.shape[-1]
    scatter = moments.gram_Kdd.sum(0).trace() / n - (moments.sum_Kd.sum(0) / n).square().sum()
    grid = n * d / 2 * math.log2(STEP)
    saved = float(evidence_bits(moments, e).sum() - evidence_bits(moments, e / STEP).sum()) + grid
    return saved > WORTH * n and e / STEP >= FLOOR * float(scatter)
