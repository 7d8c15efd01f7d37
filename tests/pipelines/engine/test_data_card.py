"""Hugging Face `datasets` loads every table of a run folder by its data card."""

from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
import yaml

from pipelines.engine.data_card import NAME, TABLES, text
from tests.support.datasets import Dataset
from tests.support.runs import QUICK, go


def configs(card: str) -> dict[str, str]:
    """The pattern of the files of each config of a card."""
    front = yaml.safe_load(card.split("---")[1])
    return {config["config_name"]: config["data_files"][0]["path"] for config in front["configs"]}


def test_datasets_loads_the_tables_of_a_run_folder(dataset: Dataset, tmp_path: Path) -> None:
    """Among them `rejected`, of which two of three files have no rows."""
    path = dataset.folder / "data/img_emb/img_emb_0.npy"
    X = np.load(path)
    X[0] = np.nan
    np.save(path, X)
    assert go(dataset, *QUICK, "curate={size: 40}").ok
    paths = configs((dataset.root / NAME).read_text())
    assert paths.keys() == TABLES.keys()
    for name, pattern in paths.items():
        assert list(dataset.root.glob(pattern))
        table = datasets.load_dataset(str(dataset.root), name, cache_dir=str(tmp_path / "cache"))["train"]
        assert len(table) == sum(len(pd.read_parquet(path)) for path in dataset.root.glob(pattern))
    assert len(pd.read_parquet(dataset.root / "rejected")) == 1
    default = datasets.load_dataset(str(dataset.root), cache_dir=str(tmp_path / "cache"))["train"]
    files = sorted((dataset.root / "assignments").iterdir())
    assert default["key"] == pd.concat(map(pd.read_parquet, files))["key"].tolist()


def test_the_folder_shows_the_steps_of_the_last_complete_run_only(dataset: Dataset) -> None:
    """A smaller configuration hides what it does not compute, and the results stay in the cache."""
    go(dataset, *QUICK, "curate={size: 40}")
    assert (dataset.root / "shares.parquet").exists()
    go(dataset, *QUICK, "curate={}", "label.top=3")
    assert not (dataset.root / "shares.parquet").exists()
    assert (dataset.root / "curation.json").exists()
    go(dataset, *QUICK)  # rejects no row, and an empty table cannot be loaded
    assert "rejected" not in configs((dataset.root / NAME).read_text())
    assert not (dataset.root / "balance_page.html").exists()
    assert "keep" not in configs((dataset.root / NAME).read_text())
    again = go(dataset, *QUICK, "curate={size: 40}")
    assert again.outcomes["balance"].reused == 1
    assert (dataset.root / "shares.parquet").exists()


@pytest.mark.parametrize("title", ["a: b", "- x", "---", "# 猫 {y}", "'\"\n---\n"])
def test_a_title_does_not_change_what_the_card_says(title: str) -> None:
    paths = {"clusters": "clusters.parquet", "head": "head.safetensors", "assignments": "assignments/*.parquet"}
    front = yaml.safe_load(text(title, paths).split("\n---\n")[0].removeprefix("---\n"))
    assert front["pretty_name"] == title
    assert [config["config_name"] for config in front["configs"]] == ["assignments", "clusters"]
