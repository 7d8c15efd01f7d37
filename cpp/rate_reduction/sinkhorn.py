"""Doubly stochastic membership of an affinity, by Sinkhorn's scaling in the log domain.

Shape suffixes: m samples, d code dimensions, J columns. Knows no heads and no rates. Sources: Chu et al., arXiv
2306.05272, section 3.2; Cuturi, arXiv 1306.0895; for the log domain, Peyré and Cuturi, arXiv 1803.00567, section 4.4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Floats of a matrix that are processed at a time. On a CPU, a part that fits in the cache is faster.
_CHUNK_FLOATS = {"cpu": 2**18, "cuda": 2**27}


def membership(C_md: Tensor, eta: float, half_steps: int, columns_J: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Pi = m Sinkhorn(|C C^T| / eta) of unit rows `C_md` (2306.05272, equation 5), and ||Pi||_F^2. Low `eta` is sharp.

    Pi is `[m, m]`, or `[m, J]` with the columns `columns_J` (int64, distinct) only; the norm is that of all of Pi.
    Allocates one m x m matrix, and a second one for the gradient.
    """
    return sinkhorn((C_md / eta) @ C_md.mT, half_steps, columns_J)


def sinkhorn(similarity_mm: Tensor, half_steps: int, columns_J: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Columns and the squared norm of m times the Sinkhorn projection of exp(|`similarity_mm`|). Differentiable once.

    Odd half-steps (at least one) scale the rows, even ones the columns. The side scaled last sums to 1 exactly, the
    other only in the limit.
    """
    result: tuple[Tensor, Tensor] = _Sinkhorn.apply(similarity_mm, half_steps, columns_J)
    return result


class _Sinkhorn(torch.autograd.Function):
    """With A = |S|, the matrix after a half-step is P = exp(A - u 1^T - 1 v^T); only the vectors u and v are stored.

    A row half-step sets u_i = log sum_j exp(A_ij - v_j), so du_i = sum_j P_ij (dA_ij - dv_j) with P after the step. A
    column half-step exchanges the sides. The backward pass visits the half-steps in reverse.
    """

    @staticmethod
    def forward(ctx: Any, S_mm: Tensor, half_steps: int, columns_J: Tensor | None) -> tuple[Tensor, Tensor]:
        S, ctx.columns = S_mm.detach(), slice(None) if columns_J is None else columns_J
        duals = [S.new_zeros(len(S), 1), S.new_zeros(1, len(S))]  # u, v
        history = list[Tensor]()
        for step in range(half_steps):
            side, other = step % 2, 1 - step % 2
            parts = S.split(_lines(S), side)
            duals[side] = torch.cat([(s.abs() - duals[other]).logsumexp(other, keepdim=True) for s in parts], side)
            history += duals
        Pi, norm2 = torch.empty_like(S[:, ctx.columns]), S.new_zeros(())
        for rows, P in _scaled(S, *duals):
            Pi[rows] = P[:, ctx.columns]
            norm2 += P.square_().sum()
        ctx.save_for_backward(S, *history)
        return Pi, norm2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        S, *history = ctx.saved_tensors
        grad_Pi, grad_norm2 = grads
        grad_S = torch.zeros_like(S)  # the gradient of A until the sign of S is applied
        grad_duals = [torch.zeros_like(dual) for dual in history[-2:]]
        for rows, P in _scaled(S, *history[-2:]):
            D = 2 * grad_norm2 * P.square()
            D[:, ctx.columns] += P[:, ctx.columns] * grad_Pi[rows]
            grad_S[rows] += D
            grad_duals[0][rows] -= D.sum(1, keepdim=True)
            grad_duals[1] -= D.sum(0, keepdim=True)
        for step in reversed(range(len(history) // 2)):
            side = step % 2
            weight, grad_duals[side] = grad_duals[side].expand_as(S), torch.zeros_like(grad_duals[side])
            for rows, P in _scaled(S, *history[2 * step : 2 * step + 2]):
                grad_S[rows] += P.mul_(weight[rows])
                if side == 0:
                    grad_duals[1] -= P.sum(0, keepdim=True)
                else:
                    grad_duals[0][rows] -= P.sum(1, keepdim=True)
        for part, of_S in zip(grad_S.split(_lines(S)), S.split(_lines(S)), strict=True):
            part.mul_(of_S.sgn())
        return grad_S, None, None


def _lines(S: Tensor) -> int:
    """The number of rows or columns that are processed at a time."""
    return max(1, _CHUNK_FLOATS[S.device.type] // len(S))


def _scaled(S: Tensor, u: Tensor, v: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield exp(|S| - u 1^T - 1 v^T), a slice of rows at a time."""
    for start in range(0, len(S), _lines(S)):
        rows = slice(start, start + _lines(S))
        yield rows, S[rows].abs().sub_(u[rows]).sub_(v).exp_()
