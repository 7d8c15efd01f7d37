"""What a run starts from, in rows: how many, in how many shards, how many in the largest. Listed, not read.

Rows of vectors follow from the sizes of their files. A tar says nothing of its images: they follow from its bytes, and
from the images a byte in the tars that are looked into. Knows no stages and no rates.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cpp.files import filesystem
from cpp.sources import vectors
from cpp.sources.coco import CocoShard
from cpp.sources.folder import FolderShard
from cpp.sources.paths import HTTP
from cpp.sources.table import TableShard
from cpp.sources.tar import TarShard
from pipelines.config.load import Config
from pipelines.engine.inputs import shards
from pipelines.engine.shard_index import Paths

LOOKED_INTO = 8  # tars, evenly over all, whose `_stats.json` says how many images they have


@dataclass(frozen=True)
class Manifest:
    """`dim` is that of vectors that exist, None where images are to be encoded. `about` says how rows are known."""

    shards: int
    rows: int
    largest: int  # rows of the largest shard
    dim: int | None
    about: str


def manifest(config: Config) -> Manifest:
    """What there is. ConfigError where there is nothing; OSError or ValueError where it cannot be listed."""
    files = shards(config)
    if config.import_:
        return _vectors(list(Paths(files["vectors"])))
    found: list[Any] = list(Paths(files["images"]))
    if isinstance(found[0], TarShard):
        return _tars(found)
    rows = [_length(shard) for shard in found]
    return Manifest(len(rows), sum(rows), max(rows), None, "as listed")


def _length(shard: FolderShard | CocoShard | TableShard) -> int:
    return shard.stop - shard.start if isinstance(shard, TableShard) else len(shard.names)


def _vectors(paths: list[str]) -> Manifest:
    sizes = _sizes(paths)
    for path in paths:
        try:
            start, dim, kind = vectors.header(path)
        except (ValueError, OSError):
            continue
        rows = [max(sizes[path] - start, 0) // (dim * kind.itemsize) for path in paths]
        return Manifest(len(paths), sum(rows), max(rows), dim, "by the sizes of the files of vectors")
    raise ValueError(f"none of the files of vectors can be read, such as {paths[0]}")


def _tars(tars: list[TarShard]) -> Manifest:
    sizes = _sizes(tar.path for tar in tars)
    looked = [tars[i] for i in np.unique(np.linspace(0, len(tars) - 1, LOOKED_INTO).astype(int))]
    said = {tar.path: n for tar in looked if (n := _successes(tar.path))}
    about = f"by the _stats.json of {len(said)} tars and the bytes of all"
    if not said:  # not img2dataset's
        first = tars[0]
        said = {first.path: max(sum(1 for _ in first.pick((), 1 << 26)), 1)}
        about = f"by the headers of {first.path} and the bytes of all tars"
    each = sum(sizes[path] for path in said) / sum(said.values())
    rows = [said.get(tar.path, round(sizes[tar.path] / each)) for tar in tars]
    return Manifest(len(tars), sum(rows), max(rows), None, about)


def _successes(tar: str) -> int | None:
    """How many images img2dataset says that it put into a tar; None where it says nothing."""
    try:
        with filesystem.opened(f"{tar.removesuffix('.tar')}_stats.json") as file:
            return int(json.load(file)["successes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _sizes(paths: Iterable[str]) -> Mapping[str, int]:
    """Bytes of files, by one listing of each of their folders."""
    names = {path: filesystem.connect(path) for path in paths}
    found: dict[str, int] = {}
    for folder in {path.rpartition("/")[0] for path in names}:
        fs, name = filesystem.connect(folder)
        if folder.startswith(HTTP):  # which lists nothing
            asked = [own for path, (_, own) in names.items() if path.startswith(folder)]
            found |= {own: size or 0 for own, size in zip(asked, fs.sizes(asked), strict=True)}
        else:
            found |= {entry["name"]: int(entry.get("size") or 0) for entry in fs.ls(name, detail=True)}
    return {path: found.get(own, 0) for path, (_, own) in names.items()}
