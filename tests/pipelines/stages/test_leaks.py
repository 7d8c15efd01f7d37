"""Duplicates between splits: the list, the page, and copies in several splits."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpp.curation.duplicate_groups import between_splits
from cpp.curation.strongest_pairs import Pairs
from pipelines.config.errors import ConfigError
from pipelines.config.load import load
from pipelines.run import Run
from tests.support.datasets import Dataset


def listed(pairs: Pairs) -> set[tuple[int, int, int]]:
    return set(zip(pairs.a.tolist(), pairs.b.tolist(), pairs.kind.tolist(), strict=True))


def test_pairs_within_a_split_and_of_rows_without_one_are_no_leaks() -> None:
    pairs = Pairs(np.array([0, 1, 2]), np.array([1, 2, 3]), np.float32([0.96, 0.97, 0.98]), np.int8([0, 0, 0]))
    assert listed(between_splits(pairs, np.array([0, 0, 1, -1], np.int32))) == {(1, 2, 0)}


def test_every_copy_in_another_split_is_in_a_pair() -> None:
    """0 = 1 = 2 = 3 by pairs with 0; 0, 1 are in one split, 2, 3 in another; 4 is near 0 and in the first split."""
    pairs = Pairs(np.array([0, 0, 0, 0]), np.array([1, 2, 3, 4]), np.float32([1, 1, 1, 0.96]), np.int8([2, 2, 2, 0]))
    assert listed(between_splits(pairs, np.array([0, 0, 1, 1, 0], np.int32))) == {
        (0, 2, 2), (0, 3, 2), (1, 2, 2), (2, 4, 0),
    }  # fmt: skip


def test_a_run_lists_and_shows_the_leaks(dataset: Dataset) -> None:
    """Row 5 of the last shard is a copy of row 3 of the first, and the shards are the splits."""
    folder = dataset.folder / "data"
    X = [np.load(folder / f"img_emb/img_emb_{i}.npy") for i in range(3)]
    X[2][5], X[0][7] = X[0][3], X[0][3]
    for i, name in enumerate(("train", "train", "test")):
        np.save(folder / f"img_emb/img_emb_{i}.npy", X[i])
        path = folder / f"metadata/metadata_{i}.parquet"
        table = pq.read_table(path)
        pq.write_table(table.append_column("part", pa.repeat(name, len(table))), path)
    curate = "curate={split: part, duplicates: {threshold: 0.9999, pictures: false}}"
    assert Run(load(dataset.config, [curate]), ["leaks"], local=True).go()
    leaks = pd.read_parquet(dataset.root / "leaks.parquet")
    assert sorted(map(tuple, leaks[["key", "split", "other_key", "other_split", "kind"]].to_numpy().tolist())) == [
        ("00003", "train", "20005", "test", "vector"),
        ("00007", "train", "20005", "test", "vector"),
    ]
    page = (dataset.root / "leaks_page.html").read_text()
    assert "2 pairs of duplicates have images in different splits by the column part" in page
    assert "test: 20005" in page
    assert page.count("data:image/webp;base64,UklG") >= 2


def test_splits_without_a_search_for_duplicates_are_an_error(dataset: Dataset) -> None:
    with pytest.raises(ConfigError, match="curate: split is 'url' and duplicates is null: leave duplicates out"):
        load(dataset.config, ["curate={split: url, duplicates: null}"])
