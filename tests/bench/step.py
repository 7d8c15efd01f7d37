"""Peak memory of one step of the paper's training, a process for each: `python -m tests.bench.step 16384 ours`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

import cpp.rate_reduction.sinkhorn
from cpp.rate_reduction.fit import objective
from cpp.rate_reduction.head import TwoHeads
from cpp.rate_reduction.recipes import Paper
from tests.support.published import published_sinkhorn

SETTINGS = Paper(hidden=2048, dim=1024, columns=32, eta=0.12)  # the paper's for ImageNet, with drawn columns
IN_DIM = 768


def step(m: int) -> None:
    """Forward, objective, backward and optimiser for a batch of m rows."""
    generator = torch.Generator().manual_seed(0)
    head = TwoHeads(IN_DIM, SETTINGS.hidden, SETTINGS.dim, generator).train()
    optimizer = torch.optim.SGD(head.parameters(), lr=SETTINGS.lr, momentum=SETTINGS.momentum)
    loss, _ = objective(head(torch.randn(m, IN_DIM, generator=generator)), SETTINGS, 0, False, generator)
    loss.backward()
    optimizer.step()


def peak(m: int, sinkhorn: str) -> float:
    """Peak resident MiB of a process that makes one step, less what it has before."""
    program = [sys.executable, "-m", "tests.bench.step", str(m), sinkhorn]
    return float(subprocess.run(program, check=True, capture_output=True, text=True).stdout)


def most_resident() -> float:
    """MiB, of Linux. `ru_maxrss` would do, but a process inherits it from the one that starts it."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[2] == "published":
        vars(cpp.rate_reduction.sinkhorn)["sinkhorn"] = published_sinkhorn
    before = most_resident()
    step(int(sys.argv[1]))
    print(most_resident() - before)
