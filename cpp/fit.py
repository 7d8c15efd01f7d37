"""Training of the head: maximise the rate reduction of the codes under a learned doubly stochastic membership.

Minimises -R(Z) + gamma R_c(Z, Pi) + lambda/2 ||Pi||_F^2 with Pi from the cluster head, after a warm-up on -R(Z) alone.
Knows no files and no labels. Source: Chu et al., arXiv 2306.05272, equation 6 and algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from cpp.head import Codes, Head
from cpp.rate import coding_rate, compressed_rate
from cpp.sinkhorn import membership


class FitSettings(BaseModel, frozen=True, extra="forbid", strict=True):
    """Settings of one training; the defaults are the paper's for CIFAR-10 (2306.05272, appendix)."""

    hidden: int = Field(4096, ge=1, description="width of the trunk")
    dim: int = Field(128, ge=1, description="dimension d of the codes")
    batch: int = Field(1024, ge=2, description="samples m in a step; a step costs m^2 d^2")
    epochs: int = Field(15, ge=1, description="passes over the sample after the warm-up")
    warmup_steps: int = Field(50, ge=0, description="steps on -R alone; then the cluster head copies the feature head")
    lr: float = Field(1e-4, gt=0, description="learning rate of trunk and feature head (SGD)")
    lr_cluster: float = Field(1e-4, gt=0, description="learning rate of the cluster head")
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0, description="of trunk and feature head")
    weight_decay_cluster: float = Field(5e-3, ge=0, description="of the cluster head")
    distortion: float = Field(0.1, gt=0, description="squared distortion e of every coding rate")
    gamma: float = Field(1.0, ge=0, description="weight of the compression R_c")
    pi_penalty: float = Field(0.05, ge=0, description="lambda, weight of ||Pi||_F^2 / 2")
    eta: float = Field(0.175, gt=0, description="temperature of the membership: low is sharp")
    half_steps: int = Field(5, ge=1, description="Sinkhorn half-steps")
    share_heads: bool = Field(False, description="make the membership from the feature head")


class StepRecord(NamedTuple):
    """One row of the loss record. `R`, `R_c` in nats; `pi_norm2` is ||Pi||_F^2, the number of blocks of an ideal Pi."""

    step: int
    warmup: bool
    loss: float
    R: float
    R_c: float
    pi_norm2: float


def train(
    X_nd: Tensor,
    settings: FitSettings,
    seed: int,
    device: str = "cpu",
    on_step: Callable[[StepRecord, int], None] | None = None,
) -> tuple[Head, list[StepRecord]]:
    """Train a head on the feature rows `X_nd` (float, finite) and return it in eval mode with its loss record.

    Batches are drawn without replacement, the last short one of an epoch is dropped; a batch is never larger than the
    data. `on_step` is called after every step with the record and the number of steps. Raises ValueError where there
    are fewer than two rows, FloatingPointError where the loss is not finite.
    """
    s = settings
    if len(X_nd) < 2:
        raise ValueError(f"training needs at least 2 rows, got {len(X_nd)}")
    generator = torch.Generator().manual_seed(seed)
    head = Head(X_nd.shape[1], s.hidden, s.dim, generator).to(device).train()
    cluster = list(head.cluster.parameters())
    rest = [*head.trunk.parameters(), *head.feature.parameters()]
    optimizer = torch.optim.SGD(
        [
            {"params": rest, "lr": s.lr, "weight_decay": s.weight_decay},
            {"params": cluster, "lr": s.lr_cluster, "weight_decay": s.weight_decay_cluster},
        ],
        momentum=s.momentum,
    )
    m = min(s.batch, len(X_nd))
    n_steps = s.warmup_steps + s.epochs * (len(X_nd) // m)
    record: list[StepRecord] = []
    for step, rows in zip(range(n_steps), batches(len(X_nd), m, generator), strict=False):
        warmup = step < s.warmup_steps
        if step == s.warmup_steps:
            head.copy_feature_to_cluster()
        codes: Codes = head(X_nd[rows].to(device, torch.float32))
        loss, row = objective(codes, s, step, warmup)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"the loss is not finite at step {step} "
                f"(R {row.R:.4g}, R_c {row.R_c:.4g}, ||Pi||^2 {row.pi_norm2:.4g}): "
                f"lower fit.lr (now {s.lr}) or raise fit.eta (now {s.eta})"
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        record.append(row)
        if on_step:
            on_step(row, n_steps)
    return head.eval(), record


def objective(codes: Codes, s: FitSettings, step: int, warmup: bool) -> tuple[Tensor, StepRecord]:
    """-R + gamma R_c + lambda/2 ||Pi||_F^2 of a batch of codes, or -R alone in the warm-up (2306.05272, equation 6).

    In the warm-up R_c is not computed and stands as NaN in the record. Codes that are not finite give a NaN loss.
    """
    Z_md = codes.Z
    Pi = membership(Z_md if s.share_heads else codes.C, s.eta, s.half_steps)
    pi_norm2 = Pi.square().sum()
    nan = Z_md.new_tensor(torch.nan)
    try:
        R = coding_rate(Z_md, s.distortion)
        R_c = nan if warmup else compressed_rate(Z_md, Pi, s.distortion)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]  # how Cholesky says that a matrix is not finite
        R, R_c = nan, nan
    loss = -R if warmup else -R + s.gamma * R_c + s.pi_penalty / 2 * pi_norm2
    return loss, StepRecord(step, warmup, loss.item(), R.item(), R_c.item(), pi_norm2.item())


def batches(n: int, m: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless row numbers `[m]`: epochs of a seeded shuffle, cut into whole batches."""
    while True:
        yield from torch.randperm(n, generator=generator).split(m)[: n // m]
