"""Affinity -> doubly stochastic membership, by Sinkhorn's scaling in the log domain.

Knows nothing of heads or rates. Source: Chu et al., arXiv 2306.05272, section 3.2; Cuturi, arXiv 1306.0895.
"""

from __future__ import annotations

import torch
from torch import Tensor


def sinkhorn(log_affinity_mm: Tensor, half_steps: int) -> Tensor:
    """m times the Sinkhorn projection of exp(`log_affinity_mm`): `[m, m]`, whose rows and columns sum to 1.

    A half-step scales the rows (first, third, ...) or the columns (second, fourth, ...). The side scaled last sums to 1
    exactly; the other does so in the limit. At least in float32; differentiable.
    """
    if half_steps < 1:
        raise ValueError(f"half_steps is {half_steps}, must be at least 1")
    log_Pi = log_affinity_mm.to(torch.promote_types(log_affinity_mm.dtype, torch.float32))
    for step in range(half_steps):
        log_Pi = log_Pi - torch.logsumexp(log_Pi, dim=1 if step % 2 == 0 else 0, keepdim=True)
    return log_Pi.exp()


def membership(C_md: Tensor, eta: float, half_steps: int) -> Tensor:
    """Pi = m Sinkhorn(|C C^T| / eta) of unit rows `C_md`: `[m, m]` (2306.05272, equation 5). Low `eta` is sharp."""
    return sinkhorn((C_md @ C_md.mT).abs() / eta, half_steps)
