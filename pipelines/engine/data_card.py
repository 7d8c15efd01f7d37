"""The data card of a run folder, README.md, by which Hugging Face `datasets` loads its tables.

Source: https://huggingface.co/docs/hub/datasets-manual-configuration. Reads no tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from cpp.files import filesystem

NAME = "README.md"
BATCH = 10_000  # rows; without it, `datasets` takes that of the first row group, and fails on a shard without rows
# the tables by product: those whose columns are the same in all shards; the first that exists is the default
TABLES = {
    "assignments": "the cluster of every image, with its metadata",
    "clusters": "the clusters of every layer, with their names",
    "labels": "the name of every image's cluster, row for row with `assignments`",
    "rejected": "input rows that are not clustered, with the reason",
    "keep": "images that curation keeps",
    "drop": "images that curation drops, with the reason",
    "outliers": "outlier scores, row for row with `assignments`",
    "duplicates": "groups of duplicates, row for row with `assignments`",
    "quality": "quality of the pictures, row for row with `assignments`",
    "codes": "codes of the images, row for row with `assignments`",
    "map": "images in the plane",
}


def text(title: str, paths: Mapping[str, str]) -> str:
    """The card of a run with this title; `paths` has the path or pattern of the files of each of its products."""
    configs: list[dict[str, Any]] = [
        {"config_name": name, "data_files": [{"split": "train", "path": paths[name]}], "batch_size": BATCH}
        for name in TABLES
        if name in paths
    ]
    configs[0]["default"] = True
    head = yaml.safe_dump({"pretty_name": title, "configs": configs}, sort_keys=False, allow_unicode=True)
    lines = [f"- `{name}`: {meaning}" for name, meaning in TABLES.items() if name in paths]
    return f"""---
{head}---
The tables of a run of CPP at scale, as they were when it was completed:

{chr(10).join(lines)}

With `datasets`, `load_dataset("THIS FOLDER", "clusters")["train"]` is one of them.
"""


def is_current(path: str, card: str) -> bool:
    """Whether the file at this path or address has this text."""
    fs, name = filesystem.connect(path)
    return bool(fs.exists(name) and fs.cat_file(name) == card.encode())
