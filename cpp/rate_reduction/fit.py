"""Fit a head to features by one of two recipes. Knows no files and no labels.

`solve` is Fisher's discriminant with nearest neighbours as groups, the linear map with the largest rate reduction.
`train` minimises -R(Z) + gamma R_c(Z, Pi) + lambda/2 ||Pi||_F^2 with Pi from the cluster head, after a warm-up on -R(Z)
alone (Chu et al., arXiv 2306.05272, equation 6 and algorithm 1).

Sources of the discriminant: Fisher, "The use of multiple measurements in taxonomic problems", 1936; neighbours in place
of classes: He and Niyogi, "Locality preserving projections", NIPS 2003; rate reduction: Yu et al., arXiv 2006.08558.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import embedding_bag, normalize

from cpp.nearest import nearest_rows
from cpp.rate_reduction.coding_rate import coding_rate, compressed_rate
from cpp.rate_reduction.copies import Distinct, distinct_rows
from cpp.rate_reduction.head import Codes, Head, LinearHead, TwoHeads
from cpp.rate_reduction.recipes import Discriminant, Paper
from cpp.rate_reduction.sinkhorn import membership

_ROWS = 16384  # rows of differences in memory at a time
SCATTERED = 131_072  # rows at which the scatter within groups is measured, so that the cost of the search stays bounded
WIDEST = 256  # dimension of codes: with more, several hundred classes are separated no better (tests/bench/RESULTS.md)


class StepRecord(NamedTuple):
    """One row of the loss record. `R` and `R_c` are in nats; `pi_norm2` is ||Pi||_F^2, the blocks of an ideal Pi."""

    step: int
    warmup: bool
    loss: float
    R: float
    R_c: float
    pi_norm2: float


OnStep = Callable[[StepRecord, int], None] | None


def fit(
    X_nD: Tensor,
    settings: Discriminant | Paper,
    n_clusters: int | None,
    seed: int,
    device: str = "cpu",
    on_step: OnStep = None,
    distinct: Distinct | None = None,
) -> tuple[Head, list[StepRecord]]:
    """Fit a head to the feature rows `X_nD` (float), and return it in eval mode with its loss record.

    `n_clusters` determines those settings of the discriminant that are None. `on_step` is called after every step or
    round with its record and their total number. The discriminant is solved for the rows in `distinct`, by default
    those of `distinct_rows`; the paper's recipe trains on all. ValueError for fewer than two rows, non-finite rows or
    equal rows.
    """
    check_rows(X_nD)
    if isinstance(settings, Paper):
        return train(X_nD, settings, seed, device, on_step)
    distinct = distinct or distinct_rows(X_nD, device == "cuda")
    return solve(X_nD[distinct.rows], settings, n_clusters, seed, device, on_step)


def check_rows(X_nD: Tensor) -> None:
    """ValueError for fewer than two feature rows, non-finite rows or equal rows."""
    if len(X_nD) < 2:
        raise ValueError(f"training needs at least 2 rows, got {len(X_nD)}")
    if bad := int((~torch.isfinite(X_nD).all(1)).sum()):
        raise ValueError(f"{bad} of the {len(X_nD)} rows of features are not finite: remove them")
    low, high = X_nD.aminmax(dim=0)
    if not (high - low).max() > 1e-5 * torch.stack([low, high]).abs().max():
        raise ValueError(
            f"the {len(X_nD)} rows of features are all equal, or differ by less than 1e-5 of their largest value, "
            "so they cannot be clustered: check how they were computed, or subtract their mean"
        )


def solve(
    X_nD: Tensor, settings: Discriminant, n_clusters: int | None, seed: int, device: str = "cpu", on_step: OnStep = None
) -> tuple[LinearHead, list[StepRecord]]:
    """Solve for a linear head, and record the paper's objective on at most 1,024 rows after each round.

    For codes A x of groups that share one covariance, R - R_c tends to 1/2 logdet(A T A^T) - 1/2 logdet(A W A^T) as the
    distortion goes to 0, where T is the total scatter and W the scatter within groups. The rows of A are the v of
    T v = r W v with the largest r, scaled to v^T W v = 1. A row's nearest neighbours, by the cosine of the features in
    the first round and of the codes in later ones, replace its unknown group. W is measured at `SCATTERED` rows at
    most, drawn by `seed`, whose neighbours are among all rows. The rows must not all be equal.
    """
    from scipy.linalg import eigh

    s, X, (n, D) = settings, X_nD.to(torch.float32), X_nD.shape
    dim = min(s.dim or min(max(2 * (n_clusters or 0), 32), WIDEST), D)
    neighbours = s.neighbours or (min(max(n // (2 * n_clusters), 5), 50) if n_clusters else 10)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    batch, drawn = X[order[:1024]], order[:SCATTERED].sort().values
    measured, records = Paper(eta=0.1, columns=64), list[StepRecord]()
    mean, parts, codes = X.mean(0), torch.arange(n).split(_ROWS), normalize(X)
    total = _scatter(X[rows] - mean for rows in parts)
    for step in range(s.rounds):
        near = nearest_rows(codes.numpy(), min(neighbours, n - 1), device == "cuda", drawn.numpy())
        pairs = zip(drawn.split(_ROWS), torch.from_numpy(near).split(_ROWS), strict=True)
        within = _scatter(X[rows] - embedding_bag(others, X, mode="mean") for rows, others in pairs)
        # if all neighbours are copies, W is 0; a millionth of T then keeps the problem solvable
        within.diagonal().add_(s.shrinkage * within.trace() / D + 1e-6 * total.trace() / D)
        _, vectors = eigh(total.numpy(), within.numpy(), subset_by_index=(D - dim, D - 1))
        matrix = torch.from_numpy(vectors[:, ::-1].T.copy()).to(torch.float32)
        codes, head = normalize((X - mean) @ matrix.mT), LinearHead.of(mean, matrix)
        generator = torch.Generator().manual_seed(seed)
        records.append(objective(head.project(batch, len(batch)), measured, step, False, generator)[1])
        if on_step:
            on_step(records[-1], s.rounds)
    return head, records


def _scatter(differences: Iterable[Tensor]) -> Tensor:
    """Mean outer product of the rows of all parts, float64."""
    n, outer = 0, torch.zeros((), dtype=torch.float64)
    for part in differences:
        D = part.to(torch.float64)
        n, outer = n + len(D), outer + D.mT @ D
    return outer / n


def train(
    X_nd: Tensor, settings: Paper, seed: int, device: str = "cpu", on_step: OnStep = None
) -> tuple[TwoHeads, list[StepRecord]]:
    """Train on the feature rows `X_nd` (float, finite) as the paper does. FloatingPointError if the loss is not finite.

    Batches are drawn without replacement; the short last batch of an epoch is dropped. All processes of an initialised
    torch.distributed group must call with equal arguments: each computes the whole batch, which batch normalisation
    needs, they share the columns of R_c, and every process returns the head of a single process within rounding.
    """
    s = settings
    ranks = dist.group.WORLD if dist.is_available() and dist.is_initialized() else None
    generator = torch.Generator().manual_seed(seed)
    head = TwoHeads(X_nd.shape[1], s.hidden, s.dim, generator).to(device).train()
    trunk = [*head.trunk.parameters(), *head.feature.parameters()]
    cluster = {"params": head.cluster.parameters(), "lr": s.lr_cluster, "weight_decay": s.weight_decay_cluster}
    parts: list[dict[str, Any]] = [{"params": trunk}, cluster]
    optimizer = torch.optim.SGD(parts, lr=s.lr, momentum=s.momentum, weight_decay=s.weight_decay)
    autocast = torch.autocast(torch.device(device).type, torch.bfloat16, enabled=s.precision == "bf16")
    m = min(s.batch, len(X_nd))
    n_steps = s.warmup_steps + s.epochs * (len(X_nd) // m)
    records: list[StepRecord] = []
    for step, rows in zip(range(n_steps), batches(len(X_nd), m, generator), strict=False):
        if step == s.warmup_steps:
            head.copy_feature_to_cluster()
        with autocast:
            codes: Codes = head(X_nd[rows].to(device, torch.float32))
        loss, record = objective(codes, s, step, step < s.warmup_steps, generator, ranks)
        if not math.isfinite(record.loss):
            raise FloatingPointError(
                f"the loss is not finite at step {step} (R {record.R:.4g}, R_c {record.R_c:.4g}, "
                f"||Pi||^2 {record.pi_norm2:.4g}): lower fit.lr (now {s.lr}) or raise fit.eta (now {s.eta})"
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if ranks is not None:  # rounding differs between processes and would accumulate
            for weight in head.parameters():
                dist.broadcast(weight.data, src=0, group=ranks)
        records.append(record)
        if on_step:
            on_step(record, n_steps)
    if s.share_heads:  # the cluster head was not trained: C must be the trained codes
        head.copy_feature_to_cluster()
    return head.eval(), records


def objective(
    codes: Codes, s: Paper, step: int, warmup: bool, generator: torch.Generator, ranks: dist.ProcessGroup | None = None
) -> tuple[Tensor, StepRecord]:
    """-R + gamma R_c + lambda/2 ||Pi||_F^2 of a batch of codes, or -R alone in the warm-up (2306.05272, equation 6).

    R_c is a sum over the m columns of Pi. If `columns` is less than m, that number is drawn and their sum scaled by
    m / columns, which keeps value and gradient unbiased. The warm-up records NaN for R_c; non-finite codes give a NaN
    loss. `ranks` share the columns as in `compressed_rate`.
    """
    Z, m, columns, scale = codes.Z, len(codes.Z), None, 1.0
    if s.columns is not None and s.columns < m:
        columns = torch.randperm(m, generator=generator)[: s.columns].to(Z.device)
        scale = m / s.columns
    Pi, pi_norm2 = membership(Z if s.share_heads else codes.C, s.eta, s.half_steps, columns)
    R = R_c = Z.new_tensor(torch.nan)
    # Cholesky raises this error for a matrix that is not finite
    with contextlib.suppress(torch.linalg.LinAlgError):  # type: ignore[attr-defined]  # torch's type hints lack it
        R = coding_rate(Z, s.distortion)
        if not warmup:
            R_c = scale * compressed_rate(Z, Pi, s.distortion, ranks)
    loss = -R if warmup else -R + s.gamma * R_c + s.pi_penalty / 2 * pi_norm2
    return loss, StepRecord(step, warmup, loss.item(), R.item(), R_c.item(), pi_norm2.item())


def batches(n: int, m: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield row numbers `[m]` without end: every epoch is a seeded shuffle, cut into full batches."""
    while True:
        yield from torch.randperm(n, generator=generator).split(m)[: n // m]
