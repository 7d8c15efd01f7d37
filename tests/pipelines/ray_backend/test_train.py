"""Two processes that share out the columns of R_c are one process within rounding. Real processes, over gloo."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from cpp.rate_reduction.coding_rate import compressed_rate
from cpp.rate_reduction.fit import train
from cpp.rate_reduction.recipes import Paper

pytestmark = pytest.mark.ray

WORLD = 2
COLUMNS = (8, 7, 1)  # the world size divides the first; of the last one rank has nothing
SMALL = Paper(hidden=32, dim=8, batch=64, epochs=3, warmup_steps=3, lr=0.02, lr_cluster=0.02, eta=0.1)
TRAININGS = {"all": SMALL, "drawn": SMALL.model_copy(update={"columns": 9})}


def draw(J: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(J)
    Z = torch.nn.functional.normalize(torch.randn(23, 6, generator=g, dtype=torch.float64), dim=1)
    return Z.requires_grad_(), (torch.rand(23, J, generator=g, dtype=torch.float64) ** 4).requires_grad_()


def rates(ranks: dist.ProcessGroup | None) -> dict[int, list[torch.Tensor]]:
    """R_c and its two gradients for every number of columns."""
    results = {}
    for J in COLUMNS:
        Z, Pi = draw(J)
        rate = compressed_rate(Z, Pi, 0.1, ranks)
        results[J] = [rate.detach(), *torch.autograd.grad(3 * rate, (Z, Pi))]
    return results


def trainings(rounding: float = 0.0) -> dict[str, Any]:
    """Loss record and weights of every training, on a machine whose rounding is off by so much."""
    X = torch.randn(200, 12, generator=torch.Generator().manual_seed(1)) * (1 + rounding)
    results = {}
    for name, settings in TRAININGS.items():
        head, record = train(X, settings, seed=3)
        results[name] = {"record": torch.tensor(record), "weights": dict(head.named_parameters())}
    return results


def one_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    meet = f"file://{folder}/meet"
    dist.init_process_group("gloo", init_method=meet, rank=rank, world_size=WORLD, timeout=timedelta(minutes=10))
    torch.save({"rates": rates(dist.group.WORLD), "trainings": trainings(rank * 1e-6)}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes found."""
    folder: Path = tmp_path_factory.mktemp("ranks")
    mp.spawn(one_rank, (str(folder),), nprocs=WORLD)
    return [torch.load(folder / f"{rank}.pt") for rank in range(WORLD)]


@pytest.mark.parametrize("J", COLUMNS)
def test_rate_and_gradients_on_two_ranks_equal_one_process(results: list[dict[str, Any]], J: int) -> None:
    expected = rates(None)[J]
    for rank in range(WORLD):
        for a, b in zip(results[rank]["rates"][J], expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_on_two_ranks_equals_one_process(results: list[dict[str, Any]], name: str) -> None:
    expected = trainings()[name]
    for rank in range(WORLD):
        torch.testing.assert_close(results[rank]["trainings"][name], expected, rtol=1e-4, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("name", TRAININGS)
def test_ranks_end_with_equal_bits_despite_different_rounding(results: list[dict[str, Any]], name: str) -> None:
    first, second = (results[rank]["trainings"][name]["weights"] for rank in range(WORLD))
    assert all(torch.equal(first[key], second[key]) for key in first)
