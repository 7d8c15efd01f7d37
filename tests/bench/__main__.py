"""Speed as ratios against a named baseline in the same run: `make bench`. Put what it prints into RESULTS.md."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable

import faiss
import numpy as np
import torch

from cpp.nearest import Nearest
from cpp.rate_reduction.coding_rate import compressed_rate
from cpp.rate_reduction.fit import objective
from cpp.rate_reduction.head import Codes
from cpp.rate_reduction.recipes import Paper
from cpp.rate_reduction.sinkhorn import membership, sinkhorn
from tests.bench import heading
from tests.bench import step as step_memory
from tests.support.published import published_compressed_rate, published_sinkhorn


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Median seconds of a call after one that warms up."""
    work()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def rate(m: int, d: int) -> tuple[str, float, float]:
    """Value and both gradients of R_c: fused, against autograd through the published form (all m matrices at once)."""
    g = torch.Generator().manual_seed(0)
    Z = torch.nn.functional.normalize(torch.randn(m, d, generator=g), dim=1).requires_grad_()
    Pi = membership(Z.detach(), 0.175, 5)[0].requires_grad_()
    fused = seconds(lambda: torch.autograd.grad(compressed_rate(Z, Pi, 0.1), (Z, Pi)))
    published = seconds(lambda: torch.autograd.grad(published_compressed_rate(Z, Pi, 0.1), (Z, Pi)))
    return f"R_c and its gradients, m {m}, d {d}; published form", fused, published


def step(m: int, d: int, columns: int) -> tuple[str, float, float]:
    """A whole step of training after the codes, ours with drawn columns, against the published modules' with all.

    The published form holds m matrices of d x d several times; it is run on 16 of the m columns and multiplied.
    """
    g = torch.Generator().manual_seed(0)
    Z, C = (torch.nn.functional.normalize(torch.randn(m, d, generator=g), dim=1).requires_grad_() for _ in "ZC")
    settings = Paper(eta=0.12, columns=columns)
    ours = seconds(lambda: torch.autograd.grad(objective(Codes(Z, C), settings, 0, False, g)[0], (Z, C)), 1)
    Pi = membership(C.detach(), 0.12, 5)[0].requires_grad_()
    some = seconds(lambda: torch.autograd.grad(published_compressed_rate(Z, Pi[:, :16], 0.1), (Z, Pi)), 1)
    rest = settings.model_copy(update={"gamma": 0.0, "columns": 1})
    others = seconds(lambda: torch.autograd.grad(objective(Codes(Z, C), rest, 0, False, g)[0], (Z, C)), 1)
    return f"a step, m {m}, d {d}, {columns} columns drawn; published form", ours, some * m / 16 + others


def scaling(m: int, d: int) -> tuple[str, float, float]:
    """What a step takes of the membership, with its gradient, against autograd through a matrix for every half-step."""
    C = torch.nn.functional.normalize(torch.randn(m, d, generator=torch.Generator().manual_seed(0)), dim=1)
    C.requires_grad_()

    drawn = torch.arange(0, m, 32)

    def gradient(form: Callable[..., tuple[torch.Tensor, torch.Tensor]]) -> None:
        u, v = form((C / 0.12) @ C.mT, 5, drawn)
        torch.autograd.grad(u.sum() + v.sum(), C)

    ours, published = (seconds(functools.partial(gradient, form)) for form in (sinkhorn, published_sinkhorn))
    return f"columns and norm of Pi and their gradient, m {m}, d {d}; published form", ours, published


def peak(m: int) -> tuple[str, float, float]:
    """Peak memory of a step, against one with the published form of the membership."""
    ours, published = (step_memory.peak(m, sinkhorn) for sinkhorn in ("ours", "published"))
    return f"peak MiB of a step, m {m}, d 1024, less those before; published membership", ours, published


def assignment(n: int, d: int, K: int) -> tuple[str, float, float]:
    """Assignment with margin, against a bare faiss search of the same arrays."""
    rng = np.random.default_rng(0)
    Z, centroids = (rng.standard_normal((rows, d)).astype(np.float32) for rows in (n, K))
    index = faiss.IndexFlatIP(d)
    index.add(centroids)
    nearest = Nearest(centroids)
    return (
        f"assign {n:,} x {d} to {K:,}; bare faiss search",
        seconds(lambda: nearest(Z, 8192)),
        seconds(lambda: index.search(Z, 2)),
    )


if __name__ == "__main__":
    print(f"{heading()}\n")
    print("| what; baseline | seconds, or MiB | baseline | baseline / ours |\n|---|---|---|---|")
    for name, ours, baseline in (
        rate(512, 128),
        rate(1024, 128),
        rate(512, 512),
        step(1024, 1024, 32),
        scaling(1024, 128),
        scaling(4096, 1024),
        peak(4096),
        assignment(200_000, 128, 1000),
    ):
        print(f"| {name} | {ours:.3f} | {baseline:.3f} | {baseline / ours:.2f} |", flush=True)
