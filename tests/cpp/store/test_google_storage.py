"""A run and an export on Google Cloud Storage, as its JSON API is spoken over HTTP: the bytes of those on a disk."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpp.export.format import Format
from cpp.files import filesystem
from cpp.store.lease import LockedError
from cpp.store.object_store import open_store
from pipelines.commands.export import go
from pipelines.commands.export_plan import Wanted
from pipelines.config.load import load
from pipelines.run import Run
from tests.support.datasets import write_dataset
from tests.support.google_store import GoogleStore
from tests.support.leases import claimed
from tests.support.runs import QUICK, files

ROOT = "gs://bucket/run"


@pytest.fixture
def gs(monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleStore]:
    made = GoogleStore()
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    for name in ("gcsfs", "google.auth"):  # which say at each request that they find no credentials
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)
    filesystem.connect("gs://bucket")[0].mkdir("bucket")
    yield made
    made.close()


def fetch(folder: str, to: Path) -> dict[str, bytes]:
    """As `files`, of a folder in the store; gcsfs would ask the emulator for an empty file again and again."""
    fs = filesystem.connect("gs://bucket")[0]
    for name in fs.find(folder):
        path = to / name.removeprefix(f"{folder}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(fs.cat_file(name))
    return files(to)


@pytest.mark.slow
def test_a_run_and_an_export_on_gs_have_the_bytes_of_those_on_a_disk(gs: GoogleStore, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data", (20, 20, 12))
    assert Run(load(dataset.config, QUICK), local=True).go()
    config = load(dataset.config, [*QUICK, f"root={ROOT}"])
    assert Run(config, local=True).go()
    assert fetch("bucket/run", tmp_path / "shown") == files(dataset.root)
    again = Run(config, local=True)
    assert again.go()
    assert {outcome.reused for outcome in again.outcomes.values()} <= {1, 3}
    assert go(config, Wanted(Format.WEBDATASET, "gs://bucket/out"), local=True).images == 52
    assert go(config, Wanted(Format.WEBDATASET, str(tmp_path / "out")), local=True).images == 52
    here, there = files(tmp_path / "out"), fetch("bucket/out", tmp_path / "fetched")
    assert {name: data for name, data in there.items() if ".lease" not in name} == {
        name: data for name, data in here.items() if name != ".lock"
    }
    assert go(config, Wanted(Format.WEBDATASET, "gs://bucket/out"), local=True).reused == 3


def test_of_many_writers_at_once_one_wins(gs: GoogleStore, quick: None) -> None:
    assert claimed("gs://bucket/lease") == {"wrote": 1, "LockedError": 5}
    store = open_store(ROOT)
    with store.lock(), pytest.raises(LockedError, match="another run is writing to gs://bucket/run"):
        open_store(ROOT).lock().__enter__()
