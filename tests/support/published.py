"""The formulas as the published code computes them."""

from __future__ import annotations

import torch


def published_sinkhorn(
    similarity: torch.Tensor, half_steps: int, columns: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """A matrix for every half-step, under autograd."""
    log_Pi = similarity.abs()
    for step in range(half_steps):
        log_Pi = log_Pi - torch.logsumexp(log_Pi, dim=1 - step % 2, keepdim=True)
    Pi = log_Pi.exp()
    return Pi if columns is None else Pi[:, columns], Pi.square().sum()


def published_compressed_rate(Z: torch.Tensor, Pi: torch.Tensor, e: float) -> torch.Tensor:
    """R_c as batched matrices under autograd, all J of them at once: how published code computes it."""
    m, d = Z.shape
    t = Pi.sum(0)
    M = torch.eye(d, dtype=Z.dtype) + (d / (t * e)).view(-1, 1, 1) * ((Z.T * Pi.T.unsqueeze(1)) @ Z)
    return (t * torch.logdet(M)).sum() / (2 * m)
