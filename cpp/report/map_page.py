"""The page with the map of up to a million images, drawn by WebGL: hover, search, and a lasso. Knows no files.

Titles and keys are untrusted. They go into the page as compressed data that its script shows as text.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from cpp.report import html, workbench
from cpp.report.tsne_map import SIDE, plane

ROOM = 4_000_000  # bytes of the pictures
SCRIPTS = (
    "report.js",
    "map_failure.js",
    "files.js",
    "decisions.js",
    "undo_redo.js",
    "leaving.js",
    "map_names.js",
    "map_moves.js",
    "map_data.js",
    "map_points.js",
    "map_selection.js",
    "map_page.js",
)


def render(
    title: str, state: str, points: pa.Table, clusters: Sequence[Mapping[str, Any]], pictures: Mapping[int, bytes]
) -> str:
    """The page of `points`, with `x`, `y`, `cluster`, `key` and `image_shard` of each.

    `clusters` are rows of `clusters.parquet` of the main layer, `pictures` WebP by the number of the point, and `state`
    is the state of the clusters that decisions name.
    """
    Y = np.stack([points["x"].to_numpy(), points["y"].to_numpy()], axis=1)
    shards = points["image_shard"].combine_chunks().dictionary_encode()
    centres = {centre["cluster"]: centre for centre in plane(Y, points["cluster"].to_numpy().tolist())["centres"]}
    content = {
        "shards": shards.dictionary.to_pylist(),
        "clusters": [
            {**centres[row["cluster"]], "title": row["title"]}
            for row in sorted(clusters, key=lambda row: -row["size"])
            if row["cluster"] in centres
        ],
        "pictures": _fitting(pictures),
    }
    parts = {
        "content": json.dumps(content).encode(),
        "keys": json.dumps(points["key"].to_pylist()).encode(),
        "places": np.clip(Y / SIDE * 65535, 0, 65535).round().astype("<u2").tobytes(),
        "clusters": points["cluster"].to_numpy().astype("<i4").tobytes(),
        "shards": shards.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype("<i4").tobytes(),
    }
    return html.fill(
        "map_page.html",
        SCRIPTS,
        run=title,
        workbench=workbench.data(title, state, clusters),
        images=len(points),
        clusters=len(content["clusters"]),
        parts={name: html.base64_text(gzip.compress(data, 6, mtime=0)) for name, data in parts.items()},
    )


def _fitting(pictures: Mapping[int, bytes]) -> dict[int, str]:
    """The first pictures that fit in `ROOM` bytes, as text."""
    room, shown = ROOM, {}
    for number, data in pictures.items():
        room -= len(data) * 4 // 3
        if room < 0:
            break
        shown[number] = html.base64_text(data)
    return shown
