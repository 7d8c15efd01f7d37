"""Ranks on real Ray, by Ray Train: a training that they share out, ranks that raise, ranks that die."""

import os
import re
import signal
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import ray
import torch
import torch.distributed as dist
from ray.cluster_utils import Cluster
from safetensors.torch import load_file

from cpp.files.tables import Counts
from cpp.store.local import Store
from cpp.store.results import Product
from pipelines.config.load import load
from pipelines.config.sections import Resources
from pipelines.engine.plan import Task
from pipelines.engine.stage import Context, Inputs, Outputs, Stage
from pipelines.ray_backend.pool import Pool
from pipelines.run import Run
from tests.support.datasets import Dataset
from tests.support.ray_nodes import SMALL

pytestmark = pytest.mark.ray

GIVEN = Context({}, threads=1, device="cpu", batch=8, image_batch=8, prefetch=1)


class Broken(Stage):
    """Its second rank is killed on `dies`, at first on its way there, raises on `raises`, and ends last on `works`."""

    version = 1
    products = (Product("copy", ".txt"),)
    folder: str

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        name = files["text"]
        if name == "works":
            end = time.monotonic() + 600
            while dist.get_rank() == 1 and not (Path(self.folder) / name).exists():  # what the first has written
                assert time.monotonic() < end
                time.sleep(0.01)
            out["copy"].write_text(f"of rank {dist.get_rank()}")
            return Counts(1, 1)
        if dist.get_rank() == 1:
            mark(self.folder, name)
            if name == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ValueError(f"the second rank of {dist.get_world_size()} is bad")
        dist.all_reduce(torch.zeros(1))  # waits for the second
        return Counts(1, 1)

    def __reduce__(self) -> tuple[object, ...]:
        return arrive, (self.folder,)


def arrive(folder: str) -> Broken:
    if dist.is_initialized() and dist.get_rank() == 1 and not (Path(folder) / "dies").exists():
        mark(folder, "dies")
        os.kill(os.getpid(), signal.SIGKILL)
    return Broken(folder=folder)


def mark(folder: str, name: str) -> None:
    with (Path(folder) / name).open("a") as file:
        file.write("x")


@pytest.mark.slow
def test_ranks_restart_after_a_kill_and_not_after_an_exception(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.ray_backend.pool.ATTEMPTS", 2)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    handler = signal.getsignal(signal.SIGINT)
    store = Store(tmp_path / "store")
    todo = [
        Task("joined", name, "k", {"text": name}, {"copy": str(tmp_path / name)})
        for name in ("dies", "raises", "works")
    ]
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, **SMALL})
    with Pool(store, Resources(ray_address=nodes.address, workers=3)) as workers:  # more than it holds
        lost, bad, good = workers.results_from_ranks(Broken(folder=str(tmp_path)), GIVEN, todo)
    nodes.shutdown()
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert signal.getsignal(signal.SIGINT) is handler  # which Ray Train would take for itself
    assert re.fullmatch(r"given up: a rank was lost 2 times \(The actor .{,300}\)", str(lost.error))
    assert (tmp_path / "dies").read_text() == "xx"
    assert bad.error == "ValueError: the second rank of 2 is bad"
    assert "Traceback" in str(bad.traceback)
    assert (tmp_path / "raises").read_text() == "x"
    assert good.error is None
    assert (tmp_path / "works").read_text() == "of rank 0"


@pytest.mark.slow
def test_a_training_on_ranks_equals_one_process_within_rounding(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.run.in_ranks", lambda config, step: step == "fit")  # it would ask for GPUs
    trained = []
    for name, local in (("alone", True), ("ranks", False)):
        root = os.path.relpath(dataset.folder / name)  # as configs have it
        assert Run(load(dataset.config, [f"root={root}", "resources.workers=2"]), ["project"], local=local).go()
        loss = pq.read_table(f"{root}/loss.parquet").to_pandas().to_numpy(float)
        trained.append({**load_file(f"{root}/head.safetensors"), "loss": torch.from_numpy(loss)})
    torch.testing.assert_close(*trained, rtol=1e-4, atol=1e-5, equal_nan=True)
    assert len(list((dataset.folder / "ranks/cache/head").iterdir())) == 1
    assert not list((dataset.folder / "ranks/cache/tmp").glob("*"))
