"""The metadata of an export for Hugging Face `datasets`: a Parquet file with a ClassLabel, and a data card.

Source: the `imagefolder` of https://huggingface.co/docs/datasets/image_dataset. Knows no images.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from cpp.export.tables import unique_titles, write_parquet

# `datasets` reads columns of such names as paths of images
_PATHS = re.compile(r"\A(.*_|)file_(names?)\Z", re.DOTALL)
CARD = """---
configs:
- config_name: default
  data_files:
  - split: train
    path:
    - images/*
    - metadata.parquet
---
Images with the cluster of each as its label. `classes.csv` has the clusters, `export.json` the run that this is from.
"""


def write_metadata(path: Path, parts: Sequence[str], schema: pa.Schema, titles: Sequence[str]) -> None:
    """Write `metadata.parquet` for rows of this schema: `file_name`, the label as a ClassLabel, and all other columns.

    `titles` are the names of the classes by number. The column `class_name`, which they repeat, is left out. A column
    whose name `datasets` would take for paths of images is called `filename`, one with the name `image` `source_image`.
    """
    columns = {"file_name": "file", "label": "class"}
    others = [name for name in schema.names if name not in ("file", "class", "class_name", "label")]
    columns |= {title: name for name, title in unique_titles(others, _plain).items()}
    types = {title: pa.int64() if title == "label" else schema.field(name).type for title, name in columns.items()}
    label: dict[str, Any] = {"names": list(titles), "_type": "ClassLabel"}
    info = json.dumps({"info": {"features": {"label": label}}}, ensure_ascii=False)
    write_parquet(path, parts, pa.schema(types, {"huggingface": info}), columns)


def _plain(name: str) -> str:
    return "source_image" if name == "image" else _PATHS.sub(r"\1file\2", name)
