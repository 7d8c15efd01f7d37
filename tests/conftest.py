"""Data that tests draw themselves, and the way to the real data where it is at hand."""

from __future__ import annotations

import io
import json
import os
import signal
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from threadpoolctl import threadpool_limits

from cpp.encoding import encoder
from cpp.files import filesystem
from cpp.store import lease
from tests.support.object_store import ObjectStore

os.environ.pop("COLUMNS", None)  # which pytest-xdist sets: a console that starts with it keeps that width
os.environ["RAY_memory_monitor_refresh_ms"] = "0"  # noqa: SIM112 (else it ends workers where others fill the memory)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has it ignored by what it starts in the background

COLOURS = [(200, 30, 30), (30, 160, 60), (40, 60, 200), (220, 190, 40)]
TINY: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 48, "layers": 2, "width": 64, "patch_size": 16, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
SMALL = {**TINY, "embed_dim": 24, "vision_cfg": {**TINY["vision_cfg"], "image_size": 32, "layers": 1}}
SMALL_TRAINING = {
    "recipe": "paper",
    "hidden": 32,
    "dim": 8,
    "batch": 64,
    "epochs": 4,
    "warmup_steps": 5,
    "lr": 0.01,
    "lr_cluster": 0.01,
}
WORDS = ["red thing", "green thing", "blue thing", "yellow thing", "teapot", "cloud"]


def subspaces(n: int, K: int, rank: int, dim: int, seed: int) -> tuple[torch.Tensor, NDArray[np.int64]]:
    """Unit rows `[n, dim]` on a union of K random subspaces of the given rank, and which one each is on."""
    rng = np.random.default_rng(seed)
    bases = [np.linalg.qr(rng.standard_normal((dim, rank)))[0] for _ in range(K)]
    group = rng.permutation(np.arange(n) % K)
    X = np.stack([bases[g] @ rng.standard_normal(rank) for g in group])
    return torch.from_numpy((X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)), group


@dataclass(frozen=True)
class Dataset:
    """A small data set on disk with everything that a run can use, and its config file."""

    folder: Path
    config: Path
    root: Path
    rows: int

    def override(self, **values: object) -> list[str]:
        return [f"{key.replace('__', '.')}={value}" for key, value in values.items()]


def write_dataset(folder: Path, rows: tuple[int, ...] = (60, 60, 40), dim: int = 16) -> Dataset:
    """Vectors around four centres, a coloured picture for each row, words at the centres and two far from them."""
    rng = np.random.default_rng(7)
    centres = np.linalg.qr(rng.standard_normal((dim, 6)))[0].T
    for name in ("data/img_emb", "data/metadata", "data/images", "words"):
        (folder / name).mkdir(parents=True)
    for number, n in enumerate(rows):
        label = rng.permutation(np.arange(n) % 4)
        X = 3.0 * (centres[label] + 0.1 * rng.standard_normal((n, dim)))
        keys = [f"{number}{i:04d}" for i in range(n)]
        np.save(folder / f"data/img_emb/img_emb_{number}.npy", X.astype(np.float16))
        about = {"key": keys, "label": label, "url": [f"https://example.org/{key}?a=1&b=<2>" for key in keys]}
        pq.write_table(pa.table(about), folder / f"data/metadata/metadata_{number}.parquet")
        with tarfile.open(folder / f"data/images/{number:05d}.tar", "w") as tar:
            for key, k in zip(keys, label, strict=True):
                buffer = io.BytesIO()
                Image.new("RGB", (32, 24), COLOURS[k]).save(buffer, "JPEG")
                for suffix, data in (("jpg", buffer.getvalue()), ("json", json.dumps({"label": int(k)}).encode())):
                    member = tarfile.TarInfo(f"{key}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    (folder / "words/names.txt").write_text("\n".join(WORDS) + "\n")
    np.save(folder / "words/embeddings.npy", centres.astype(np.float16))
    config = {
        "name": "Coloured things",
        "root": str(folder / "run"),
        "data": str(folder),
        "import": {"path": "data", "images": "data/images"},
        "fit": SMALL_TRAINING,
        "partition": {"n_clusters": 4},
        "label": {"vocabulary": ["words"], "min_confidence": 0},  # with four clusters no word can lead by much
        "evaluate": {"label": "label"},
        "resources": {"workers": 1},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return Dataset(folder, path, folder / "run", sum(rows))


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
    encoder.register(str(folder))
    for name, file in (("cpp-run", "weights"), ("cpp-small", "small")):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            state = open_clip.create_model(name).state_dict()
        save_file({key: tensor.contiguous() for key, tensor in state.items()}, folder / f"{file}.safetensors")
    return folder


def from_pictures(dataset: Dataset, model: Path) -> Dataset:
    """The data set, started from its pictures and a list of words."""
    config = yaml.safe_load(dataset.config.read_text())
    del config["import"]
    config["images"] = {"format": "webdataset", "path": ["data/images/{00000..00002}.tar"]}
    config["encode"] = {
        "model": "cpp-run", "pretrained": str(model / "weights.safetensors"), "configs": str(model),
    }  # fmt: skip
    config["label"] = {"vocabulary": ["words.txt"], "templates": ["a photo of a {}."], "min_confidence": 0}
    (dataset.folder / "words.txt").write_text("\n".join([*WORDS, "", WORDS[0]]) + "\n")
    dataset.config.write_text(yaml.safe_dump(config, sort_keys=False))
    return dataset


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


def claimed(address: str, writers: int = 6) -> Counter[str]:
    """How many of the writers that want the same lease at the same moment "wrote", and what became of the others."""
    went, gate, done = list[str](), threading.Barrier(writers), threading.Event()

    def work() -> None:
        made = lease.Lease(*filesystem.connect(address), "here")
        gate.wait()
        try:
            made.take(lambda said: None)
        except Exception as error:
            went.append(type(error).__name__)
        else:
            made.keep()
            went.append("wrote")
            done.wait()
            made.release()

    threads = [threading.Thread(target=work) for _ in range(writers)]
    for thread in threads:
        thread.start()
    while len(went) < writers:
        time.sleep(0.05)
    done.set()
    for thread in threads:
        thread.join()
    return Counter(went)


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
