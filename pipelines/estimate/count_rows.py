"""Counts the rows of a run's inputs by listing them, without reading them.

Rows of vectors follow from the sizes of their files. The number of images in a tar follows from its size, and from the
images per byte of a few tars whose number is known. Knows no stages and no rates.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cpp.files import filesystem
from cpp.sources import vectors
from cpp.sources.paths import HTTP
from cpp.sources.table import TableShard
from cpp.sources.tar import TarShard
from pipelines.config.load import Config
from pipelines.engine.inputs import input_shards
from pipelines.engine.shard_index import FilePaths

TARS_COUNTED = 8  # tars, spread evenly over all, whose `_stats.json` gives the number of images


@dataclass(frozen=True)
class InputRows:
    """Shards and rows of the inputs. `source` says how the rows are known."""

    shards: int
    rows: int
    source: str


def count_rows(config: Config) -> InputRows:
    """Count the inputs. ConfigError if there are none; OSError or ValueError if they cannot be listed."""
    files = input_shards(config)
    if config.import_:
        return _count_vectors(list(FilePaths(files["vectors"])))
    images: list[Any] = list(FilePaths(files["images"]))
    if isinstance(images[0], TarShard):
        return _count_tars(images)
    rows = sum(s.stop - s.start if isinstance(s, TableShard) else len(s.names) for s in images)
    return InputRows(len(images), rows, "as listed")


def _count_vectors(paths: list[str]) -> InputRows:
    sizes = _sizes(paths)
    for path in paths:
        try:
            start, dim, dtype = vectors.read_header(path)
        except (ValueError, OSError):
            continue
        rows = sum(max(sizes[path] - start, 0) // (dim * dtype.itemsize) for path in paths)
        return InputRows(len(paths), rows, "by the sizes of the files of vectors")
    raise ValueError(f"none of the {len(paths)} files of vectors can be read; the first is {paths[0]}")


def _count_tars(tars: list[TarShard]) -> InputRows:
    sizes = _sizes(tar.path for tar in tars)
    selected = [tars[i] for i in np.unique(np.linspace(0, len(tars) - 1, TARS_COUNTED).astype(int))]
    counted = {tar.path: n for tar in selected if (n := _successes(tar.path))}
    source = f"by the _stats.json of {len(counted)} tars and the sizes of all"
    if not counted:  # img2dataset did not write these tars
        first = tars[0]
        counted = {first.path: max(sum(1 for _ in first.pick((), 1 << 26)), 1)}
        source = f"by the headers of {first.path} and the sizes of all tars"
    bytes_per_image = sum(sizes[path] for path in counted) / sum(counted.values())
    rows = sum(counted.get(tar.path, round(sizes[tar.path] / bytes_per_image)) for tar in tars)
    return InputRows(len(tars), rows, source)


def _successes(tar: str) -> int | None:
    """The number of images that img2dataset recorded for a tar; None without its record."""
    try:
        with filesystem.open_file(f"{tar.removesuffix('.tar')}_stats.json") as file:
            return int(json.load(file)["successes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _sizes(paths: Iterable[str]) -> Mapping[str, int]:
    """Bytes of files, by one listing of each of their folders."""
    names = {path: filesystem.connect(path) for path in paths}
    sizes: dict[str, int] = {}
    for folder in {path.rpartition("/")[0] for path in names}:
        fs, name = filesystem.connect(folder)
        if folder.startswith(HTTP):  # HTTP cannot list a folder
            urls = [url for path, (_, url) in names.items() if path.startswith(folder)]
            sizes |= {url: size or 0 for url, size in zip(urls, fs.sizes(urls), strict=True)}
        else:
            sizes |= {entry["name"]: int(entry.get("size") or 0) for entry in fs.ls(name, detail=True)}
    return {path: sizes.get(name, 0) for path, (_, name) in names.items()}
