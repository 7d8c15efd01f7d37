"""New shards for a finished run, and the command that appends them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.parquet as pq

from tests.support.datasets import Dataset
from tests.support.runs import call

STEPS = ("labels",)  # nothing after them is needed


def new_vectors(dataset: Dataset, name: str, number: int, as_number: int = 0) -> Path:
    """A folder with the vectors, metadata and images of one shard of the data set, by another number."""
    folder, data = dataset.folder / name, dataset.folder / "data"
    for kind, old, new in (
        ("img_emb", f"img_emb_{number}.npy", f"img_emb_{as_number}.npy"),
        ("metadata", f"metadata_{number}.parquet", f"metadata_{as_number}.parquet"),
        ("images", f"{number:05d}.tar", f"{as_number:05d}.tar"),
    ):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        shutil.move(data / kind / old, folder / kind / new)
    return folder


def append(dataset: Dataset, *folders: Path, more: tuple[str, ...] = ()) -> tuple[int, str]:
    named = [part for f in folders for part in ("--shards", f, "--images", f / "images")]
    return call("append", dataset.config, *named, "--local", *more)


def rows(folder: Path) -> dict[str, tuple[object, ...]]:
    table = pq.read_table(folder, columns=["key", "cluster", "score", "margin"]).to_pylist()
    return {row.pop("key"): tuple(row.values()) for row in table}


def result_files(folder: Path) -> list[Path]:
    """Every file of a run but its logs."""
    logs = {"run.json", "run.log", "events.jsonl", "lock"}
    return [path for path in folder.rglob("*") if path.is_file() and path.name not in logs]
