"""A shard of an export as a WebDataset tar: the unchanged image `KEY.jpg`, `KEY.cls` and `KEY.json` of each sample."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain

import pyarrow as pa

from cpp.export.tables import to_json
from cpp.export.target import Target

PLAIN = re.compile(r"[A-Za-z0-9_-]{1,80}")  # keys that stay: readers split at dots and slashes


def write(
    target: Target, name: str, images: Iterable[tuple[int, bytes, str]], rows: pa.Table, metadata: pa.Table
) -> dict[int, str]:
    """Write `NAME.tar` with the images (row, bytes, extension) in their order; without images, write no file.

    `rows` and `metadata` have all rows of the shard. Returns the path of each row's image, `NAME.tar/KEY.jpg`.
    """
    images, files = iter(images), dict[int, str]()
    first = next(images, None)
    if first is None:
        return files
    keys, columns, source = sample_keys(rows["key"].to_pylist()), rows.to_pylist(), metadata.to_pylist()
    from webdataset import TarWriter  # it imports torch, which takes seconds and which tables do not need

    owner = {"user": "", "group": "", "mode": 0o644, "mtime": 0}  # fixed, so that equal samples are equal bytes
    with (
        target.commit({"tar": f"{target.address}/{name}.tar"}) as out,
        out["tar"].open("wb") as file,
        TarWriter(file, encoder=False, **owner) as tar,
    ):
        for row, image, kind in chain([first], images):
            sample = {**columns[row], "metadata": source[row] if source else {}}
            text = to_json(sample)
            members = {kind: image, "cls": str(sample["class"]).encode(), "json": text.encode()}
            for extension, data in members.items():  # one at a time: TarWriter would sort them, the image comes first
                tar.write({"__key__": keys[row], extension: data})
            files[row] = f"{name}.tar/{keys[row]}.{kind}"
    return files


def sample_keys(keys: Sequence[str]) -> list[str]:
    """A unique key for each row of a shard: its own key if that is plain and not repeated, else `row-000012`.

    Keys are compared without case, so that two samples stay apart on every file system.
    """
    times = Counter(map(str.casefold, keys))
    taken = {key.casefold() for key in keys if PLAIN.fullmatch(key) and times[key.casefold()] == 1}
    unique = []
    for row, key in enumerate(keys):
        name = key
        if key.casefold() not in taken:
            name = f"row-{row:06d}"
            while name in taken:
                name += "_"
        unique.append(name)
    return unique
