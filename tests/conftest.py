"""Data that tests draw themselves, and the way to the real data where it is at hand."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from threadpoolctl import threadpool_limits

from cpp.encoding import pretrained
from cpp.files import filesystem
from cpp.store import lease
from tests.support.datasets import SMALL, TINY, Dataset, from_pictures, write_dataset
from tests.support.object_store import ObjectStore, disconnect

os.environ.pop("COLUMNS", None)  # which pytest-xdist sets: a console that starts with it keeps that width
os.environ["RAY_memory_monitor_refresh_ms"] = "0"  # noqa: SIM112 (else it ends workers where others fill the memory)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has it ignored by what it starts in the background


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that use a bucket are marked by the fixture that starts its server."""
    for item in items:
        if {"server", "gs"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("bucket")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Small matrices are slower on two threads, and much slower where another program has the second core."""
    torch.set_num_threads(1)
    threadpool_limits(1)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return write_dataset(tmp_path)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two registered models and their random weights: cpp-run, weights; cpp-small, small."""
    folder = tmp_path_factory.mktemp("model")
    for name, config in (("cpp-run", TINY), ("cpp-small", SMALL)):
        (folder / f"{name}.json").write_text(json.dumps(config))
    pretrained.register(str(folder))
    for name, file in (("cpp-run", "weights"), ("cpp-small", "small")):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            state = open_clip.create_model(name).state_dict()
        save_file({key: tensor.contiguous() for key, tensor in state.items()}, folder / f"{file}.safetensors")
    return folder


@pytest.fixture
def pictures(dataset: Dataset, model: Path) -> Dataset:
    return from_pictures(dataset, model)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data, see its README; tests that need it skip without it."""
    found = os.environ.get("CPP_TEST_DATA")
    if not found:
        pytest.skip("CPP_TEST_DATA is not set to the folder of real data")
    return Path(found)


@pytest.fixture(scope="session")
def server() -> Iterator[ObjectStore]:
    made = ObjectStore()
    yield made
    made.close()


@pytest.fixture
def s3(server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """A server that speaks S3 with an empty bucket `bucket`, which this process and its children use."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    server.reset()
    server.settle()
    disconnect()  # another test may have connected with other credentials
    fs = filesystem.connect("s3://bucket")[0]
    if fs.exists("bucket"):
        fs.rm("bucket", recursive=True)
    fs.mkdir("bucket")
    server.reset()
    return server


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases that are renewed ten times a second, and lost only by who stands still for half a minute."""
    monkeypatch.setattr(lease, "RENEW", 0.1)
    monkeypatch.setattr(lease, "PATIENCE", 30.0)


@pytest.fixture
def impatient(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, and one that is abandoned is taken over soon. Who has it keeps it, however busy the machine."""
    keep = lease.Lease.keep

    def patient(taken: lease.Lease) -> None:
        monkeypatch.setattr(lease, "RENEW", 10.0)
        monkeypatch.setattr(lease, "PATIENCE", 3600.0)
        keep(taken)

    monkeypatch.setattr(lease, "PATIENCE", 1.5)
    monkeypatch.setattr(lease.Lease, "keep", patient)
