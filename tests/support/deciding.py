"""Decisions about the clusters of a finished run, as a person's file names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from tests.support.datasets import Dataset


def main_clusters(dataset: Dataset) -> pd.DataFrame:
    table = pd.read_parquet(dataset.root / "clusters.parquet")
    return table[table["main"]].set_index("cluster")


def refer(dataset: Dataset, k: int) -> dict[str, Any]:
    """A cluster as decisions name it."""
    row = main_clusters(dataset).loc[k]
    return {"cluster": k, "members": [*row["examples"]], "title": row["title"]}


def state(dataset: Dataset) -> str:
    """The state that the page of the run shows."""
    shown = dataset.root / "clusters.parquet"
    return next(p for p in (dataset.root / "cache/clusters").iterdir() if p.samefile(shown)).stem.rpartition("-")[2]


def write(dataset: Dataset, name: str, *decisions: dict[str, Any], **keys: Any) -> Path:
    path = dataset.folder / name
    path.write_text(yaml.safe_dump({"state": state(dataset), **keys, "decisions": [*decisions]}))
    return path
