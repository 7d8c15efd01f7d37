"""Doubly stochastic membership of an affinity, by Sinkhorn's scaling in the log domain.

Shape suffixes: m samples, d code dimensions, J columns. Knows no heads and no rates. Sources: Chu et al., arXiv
2306.05272, section 3.2; Cuturi, arXiv 1306.0895; for the log domain, Peyré and Cuturi, arXiv 1803.00567, section 4.4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Floats of a matrix that are processed at a time. On a CPU, a part that fits in the cache is faster.
_CHUNK_FLOATS = {"cpu": 2**18, "cuda": 2**27}


def membership(C_md: Tensor, eta: float, half_steps: int) -> Tensor:
    """Pi = m Sinkhorn(|C C^T| / eta) of unit rows `C_md`: `[m, m]` (2306.05272, equation 5). Low `eta` is sharp."""
    return membership_columns(C_md, eta, half_steps)[0]


def membership_columns(
    C_md: Tensor, eta: float, half_steps: int, columns_J: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The columns `columns_J` (int64, distinct; None: all) of the membership Pi, `[m, J]`, and ||Pi||_F^2 of all of Pi.

    Allocates one m x m matrix, and a second one for the gradient; Pi itself is computed only for these columns.
    """
    C = C_md.to(torch.promote_types(C_md.dtype, torch.float32))
    return sinkhorn((C / eta) @ C.mT, half_steps, columns_J)


def sinkhorn(similarity_mm: Tensor, half_steps: int, columns_J: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Columns and the squared norm of m times the Sinkhorn projection of exp(|`similarity_mm`|).

    Odd half-steps scale the rows, even ones the columns. The side scaled last sums to 1 exactly, the other only in the
    limit. Differentiable once. ValueError for fewer than one half-step.
    """
    if half_steps < 1:
        raise ValueError(f"half_steps is {half_steps}, must be at least 1")
    result: tuple[Tensor, Tensor] = _Sinkhorn.apply(similarity_mm, half_steps, columns_J)
    return result


class _Sinkhorn(torch.autograd.Function):
    """With A = |S|, the matrix after a half-step is P = exp(A - u 1^T - 1 v^T); only the vectors u and v are stored.

    A row half-step sets u_i = log sum_j exp(A_ij - v_j), so du_i = sum_j P_ij (dA_ij - dv_j) with P after the step. A
    column half-step exchanges the sides. The backward pass visits the half-steps in reverse.
    """

    @staticmethod
    def forward(ctx: Any, S_mm: Tensor, half_steps: int, columns_J: Tensor | None) -> tuple[Tensor, Tensor]:
        S = S_mm.detach()
        duals = [S.new_zeros(S.shape[0], 1), S.new_zeros(1, S.shape[1])]  # u, v
        history = list[Tensor]()
        for step in range(half_steps):
            side, other = step % 2, 1 - step % 2
            parts = S.split(max(1, _CHUNK_FLOATS[S.device.type] // S.shape[other]), side)
            duals[side] = torch.cat([(s.abs() - duals[other]).logsumexp(other, keepdim=True) for s in parts], side)
            history += duals
        Pi = S.new_empty(len(S), S.shape[1] if columns_J is None else len(columns_J))
        norm2 = S.new_zeros(())
        for part, P in _scaled(S, *duals):
            Pi[part] = P if columns_J is None else P[:, columns_J]
            norm2 += P.square_().sum()
        ctx.columns_J = columns_J
        ctx.save_for_backward(S, *history)
        return Pi, norm2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        S, *history = ctx.saved_tensors
        grad_Pi, grad_norm2 = grads
        grad_S = torch.zeros_like(S)  # the gradient of A until the sign of S is applied
        grad_duals = [torch.zeros_like(dual) for dual in history[-2:]]

        def backpropagate(
            u: Tensor, v: Tensor, weighted: Callable[[Tensor, slice], Tensor], sides: tuple[int, ...]
        ) -> None:
            """Add the weighted P to the gradient of A; subtract its sums from those of u (side 0) and v (side 1)."""
            for part, P in _scaled(S, u, v):
                D = weighted(P, part)
                grad_S[part] += D
                if 0 in sides:
                    grad_duals[0][part] -= D.sum(1, keepdim=True)
                if 1 in sides:
                    grad_duals[1] -= D.sum(0, keepdim=True)

        def output_gradient(P: Tensor, part: slice) -> Tensor:
            D: Tensor = 2 * grad_norm2 * P.square()
            columns_J = slice(None) if ctx.columns_J is None else ctx.columns_J
            D[:, columns_J] += P[:, columns_J] * grad_Pi[part]
            return D

        backpropagate(history[-2], history[-1], output_gradient, (0, 1))
        for step in reversed(range(len(history) // 2)):
            side = step % 2
            weight, grad_duals[side] = grad_duals[side], torch.zeros_like(grad_duals[side])
            backpropagate(
                history[2 * step],
                history[2 * step + 1],
                lambda P, part, weight=weight: P.mul_(weight.expand_as(S)[part]),  # type: ignore[misc]
                (1 - side,),
            )
        for part in _parts(S):
            grad_S[part] *= S[part].sgn()
        return grad_S, None, None


def _parts(S: Tensor) -> Iterator[slice]:
    rows = max(1, _CHUNK_FLOATS[S.device.type] // S.shape[1])
    return (slice(start, start + rows) for start in range(0, len(S), rows))


def _scaled(S: Tensor, u: Tensor, v: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield exp(|S| - u 1^T - 1 v^T), a slice of rows at a time."""
    for part in _parts(S):
        yield part, S[part].abs().sub_(u[part]).sub_(v).exp_()
