"""What a run starts from, in rows, without reading it."""

import json

import pytest

from pipelines.config.load import load
from pipelines.estimate.count_rows import count_rows
from tests.support.datasets import Dataset


def test_rows_of_vectors_follow_from_the_sizes_of_their_files(dataset: Dataset) -> None:
    (dataset.folder / "data/img_emb/img_emb_0.npy").write_bytes(b"broken")  # the header is that of the next
    rows = count_rows(load(dataset.config))
    assert (rows.shards, rows.rows) == (3, 100)


def test_images_of_tars_follow_from_their_sizes_and_img2dataset_stats(pictures: Dataset) -> None:
    rows = count_rows(load(pictures.config))
    assert rows.shards == 3
    assert rows.rows == pytest.approx(160, abs=4)
    assert "00000.tar" in rows.source
    for number, n in enumerate((60, 60, 40)):
        stats = pictures.folder / f"data/images/{number:05d}_stats.json"
        stats.write_text(json.dumps({"count": 99, "successes": n}))
    rows = count_rows(load(pictures.config))
    assert rows.rows == 160


def test_files_of_a_folder_are_counted(pictures: Dataset) -> None:
    for i in range(5):
        (pictures.folder / f"loose/{i}.jpg").parent.mkdir(exist_ok=True)
        (pictures.folder / f"loose/{i}.jpg").write_bytes(b"")
    config = load(pictures.config, ["images={format: folder, path: [loose], shard_size: 2}"])
    rows = count_rows(config)
    assert (rows.shards, rows.rows) == (3, 5)
