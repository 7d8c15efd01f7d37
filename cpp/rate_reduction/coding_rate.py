"""Coding rate and rate reduction: the mathematics of MCR2 on tensors.

Shape suffixes: m samples, d code dimensions, K groups, J columns of the membership. Rates are in nats. `e` is the
squared distortion (epsilon^2 in the papers). Knows no networks and no files.

Sources: Yu et al., "Learning Diverse and Discriminative Representations via the Principle of Maximal Coding Rate
Reduction", arXiv 2006.08558, equations 7 and 8; Chu et al., arXiv 2306.05272, equation 3; Yu et al., "White-Box
Transformers via Sparse Rate Reduction", arXiv 2306.01129.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import normalize

# Floats in one stack of m x d or d x d matrices. On a CPU, a stack that fits in the cache is twice as fast.
_CHUNK_FLOATS = {"cpu": 2 * 2**20, "cuda": 128 * 2**20}


def logdet_spd(M: Tensor) -> Tensor:
    """Log-determinant of symmetric positive definite matrices `[..., d, d]` by Cholesky."""
    return _logdet(torch.linalg.cholesky(M))


def _logdet(L: Tensor) -> Tensor:
    logdet: Tensor = 2 * L.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return logdet


def coding_rate(Z_md: Tensor, e: float) -> Tensor:
    """R(Z) = 1/2 logdet(I + d/(m e) Z^T Z), a scalar (2006.08558, equation 7); `[...]` for matrices `[..., m, d]`."""
    return _rate(Z_md.mT @ Z_md, Z_md.shape[-2], e)


def subspace_rate(W_hmp: Tensor, e: float) -> Tensor:
    """R^c(Z | U) = sum_h R(W_h), the rate of m tokens by subspaces U_h, from W_h = U_h^T Z (2306.01129, section 2.3).

    The projections `[..., h, m, p]` are scaled to unit length, as the authors' measurement does, so that the rate tells
    their directions and not their lengths. The result is `[...]`.
    """
    return coding_rate(normalize(W_hmp, dim=-1), e).sum(-1)


def _rate(gram_dd: Tensor, m: Tensor | int, e: float) -> Tensor:
    d = gram_dd.shape[-1]
    return logdet_spd(torch.eye(d, dtype=gram_dd.dtype, device=gram_dd.device) + (d / (m * e)) * gram_dd) / 2


def compressed_rate(Z_md: Tensor, Pi_mJ: Tensor, e: float, ranks: dist.ProcessGroup | None = None) -> Tensor:
    """R_c(Z, Pi) = sum_j t_j/(2m) logdet(I + d/(t_j e) Z^T diag(Pi_j) Z), a scalar (2006.08558, equation 8).

    Column j of `Pi_mJ` (entries >= 0) is the soft group j, and t_j its sum. One pass over chunks of columns computes
    the value and both gradients, so memory stays bounded; autograd would keep all J matrices of d x d. Each of `ranks`,
    which must call with equal arguments, computes every world-size-th column, and all get the sums over the ranks.
    """
    rate: Tensor = _CompressedRate.apply(Z_md, Pi_mJ, e, ranks)
    return rate


class _CompressedRate(torch.autograd.Function):
    """With M_j = I + a_j Z^T diag(Pi_j) Z and a_j = d/(t_j e):

    dR_c/dZ_i   = d/(m e) sum_j Pi_ij M_j^-1 z_i
    dR_c/dPi_ij = d/(2 m e) z_i^T M_j^-1 z_i + (logdet M_j - d + tr M_j^-1) / (2m)

    The only large intermediate is W_j = Z M_j^-1.
    """

    @staticmethod
    def forward(ctx: Any, Z_md: Tensor, Pi_mJ: Tensor, e: float, ranks: dist.ProcessGroup | None) -> Tensor:
        Z, Pi = Z_md.detach(), Pi_mJ.detach()
        m, d = Z.shape
        t_J = Pi.sum(0).clamp_min(torch.finfo(Pi.dtype).tiny)
        eye = torch.eye(d, dtype=Z.dtype, device=Z.device)
        rate = Z.new_zeros(())
        grad_Z, grad_Pi = Z.new_zeros(Z.shape), Pi.new_zeros(Pi.shape)
        first, every = (ranks.rank(), ranks.size()) if ranks is not None else (0, 1)
        own_columns = torch.arange(Pi.shape[1], device=Z.device)[first::every]
        for cols in own_columns.split(max(1, _CHUNK_FLOATS[Z.device.type] // (max(m, d) * d))):
            P_mj, t_j = Pi[:, cols], t_J[cols]
            # Z^T diag(P_j) Z for every j as one batched product: [j, d, m] x [m, d]
            M_jdd = eye + (d / (t_j * e)).view(-1, 1, 1) * torch.matmul(P_mj.mT.unsqueeze(1) * Z.mT, Z)
            L = torch.linalg.cholesky(M_jdd)
            logdet, inverse = _logdet(L), torch.cholesky_inverse(L)
            W_jmd = Z @ inverse
            rate += (t_j * logdet).sum() / (2 * m)
            grad_Z += (d / (m * e)) * torch.einsum("mj,jmd->md", P_mj, W_jmd)
            trace_j = inverse.diagonal(dim1=-2, dim2=-1).sum(-1)
            grad_Pi[:, cols] = (d / (2 * m * e)) * torch.einsum("jmd,md->mj", W_jmd, Z) + (logdet - d + trace_j) / (
                2 * m
            )
        if ranks is not None:  # grad_Pi is zero in the columns of other ranks
            for tensor in (rate, grad_Z, grad_Pi):
                dist.all_reduce(tensor, group=ranks)
        ctx.save_for_backward(grad_Z, grad_Pi)
        return rate

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return *(grads[0] * grad for grad in ctx.saved_tensors), None, None


@dataclass(frozen=True)
class Moments:
    """Sufficient statistics of K groups: the number of rows, the sum of z and the sum of z z^T.

    Moments of shards add (`a + b`) and moments of groups merge (`merge`), so a rate at any scale needs one pass over
    the rows. `of` uses float64 to keep the precision of sums over many shards.
    """

    count_K: Tensor
    sum_Kd: Tensor
    gram_Kdd: Tensor

    @classmethod
    def zeros(cls, n_groups: int, d: int) -> Moments:
        """Moments of groups without rows."""
        return cls(*(torch.zeros(n_groups, *shape, dtype=torch.float64) for shape in ((), (d,), (d, d))))

    @classmethod
    def of(cls, Z_md: Tensor, group_m: Tensor, n_groups: int) -> Moments:
        """Moments of the rows of `Z_md` by their group number in `group_m` (int64, 0 <= g < n_groups)."""
        return cls.zeros(n_groups, Z_md.shape[1]).add_(Z_md, group_m)

    def add_(self, Z_md: Tensor, group_m: Tensor) -> Moments:
        """Add rows in place, without the cost of adding two sets of many groups, and return these moments."""
        count = torch.bincount(group_m, minlength=len(self.count_K))
        self.count_K.add_(count)  # RuntimeError for a group number >= K
        order = torch.argsort(group_m, stable=True)
        for k, rows in enumerate(order.split(count.tolist())):
            if len(rows):
                Z = Z_md[rows].to(torch.float64)
                self.sum_Kd[k] += Z.sum(0)
                self.gram_Kdd[k].addmm_(Z.mT, Z)
        return self

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.count_K + other.count_K, self.sum_Kd + other.sum_Kd, self.gram_Kdd + other.gram_Kdd)

    def __mul__(self, factor: float) -> Moments:
        """Moments with every row counted `factor` times."""
        return Moments(self.count_K * factor, self.sum_Kd * factor, self.gram_Kdd * factor)

    def __getitem__(self, groups: Any) -> Moments:
        """Moments of the selected groups."""
        return Moments(self.count_K[groups], self.sum_Kd[groups], self.gram_Kdd[groups])

    def centred_at(self, point_d: Tensor) -> Moments:
        """Moments of the rows after a shift that moves `point_d` to the origin."""
        m, cross = self.count_K, self.sum_Kd[:, :, None] * point_d
        total = self.sum_Kd - m[:, None] * point_d
        return Moments(m, total, self.gram_Kdd - cross - cross.mT + m[:, None, None] * torch.outer(point_d, point_d))

    def merge(self, into_K: Tensor, n_groups: int) -> Moments:
        """Moments of the coarser partition in which group k is part of group `into_K[k]`."""
        parts = (self.count_K, self.sum_Kd, self.gram_Kdd)
        return Moments(*(p.new_zeros(n_groups, *p.shape[1:]).index_add(0, into_K, p) for p in parts))

    def merge_runs(self, length: int) -> Moments:
        """Moments of the coarser partition that joins every `length` consecutive groups."""
        n_groups = len(self.count_K) // length
        return self.merge(torch.arange(n_groups).repeat_interleave(length), n_groups)

    def coding_rate(self, e: float) -> Tensor:
        """R of each group, `[K]`; 0 for an empty group."""
        return torch.stack([_rate(G, m, e) for m, G in zip(self.count_K.clamp_min(1), self.gram_Kdd, strict=True)])
