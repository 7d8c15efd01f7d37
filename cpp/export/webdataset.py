"""A shard of an export as a WebDataset tar: for every image `KEY.jpg` as it came, `KEY.cls` and `KEY.json`."""

from __future__ import annotations

import io
import json
import math
import re
import tarfile
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import pyarrow as pa

from cpp.export.folder import Folder

PLAIN = re.compile(r"[A-Za-z0-9_-]{1,80}")  # keys that stay: readers split at dots and slashes


def write(
    folder: Folder, name: str, images: Iterable[tuple[int, bytes, str]], rows: pa.Table, metadata: pa.Table
) -> dict[int, str]:
    """Write `NAME.tar` with the images (row, bytes, extension), in their order; none where there is no image.

    `rows` and `metadata` are of all rows of the shard. Returns the file of each row, `NAME.tar/KEY.jpg`.
    """
    images, files = iter(images), dict[int, str]()
    first = next(images, None)
    if first is None:
        return files
    keys, known, came = sample_keys(rows["key"].to_pylist()), rows.to_pylist(), metadata.to_pylist()
    with folder.writing(f"{name}.tar") as path, tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for row, image, kind in chain([first], images):
            about = {**known[row], "metadata": came[row] if came else {}}
            said = json.dumps(_strict(about), ensure_ascii=False, default=str)
            _add(tar, f"{keys[row]}.{kind}", image)
            _add(tar, f"{keys[row]}.cls", str(about["class"]).encode())
            _add(tar, f"{keys[row]}.json", said.encode())
            files[row] = f"{name}.tar/{keys[row]}.{kind}"
    return files


def sample_keys(keys: Sequence[str]) -> list[str]:
    """A key for each row of a shard, unique in it: the row's own where it is plain and not repeated, else `row-000012`.

    Neither the case of letters nor what else a key holds can make two samples one.
    """
    times = Counter(key.casefold() for key in keys)
    own = [key if PLAIN.fullmatch(key) and times[key.casefold()] == 1 else None for key in keys]
    taken = {key.casefold() for key in own if key is not None}
    found = []
    for row, key in enumerate(own):
        made = key or f"row-{row:06d}"
        while key is None and made in taken:
            made += "_"
        found.append(made)
    return found


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _strict(value: Any) -> Any:
    """The value without what JSON cannot say: NaN and infinities become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(name): _strict(item) for name, item in value.items()}
    return [_strict(item) for item in value] if isinstance(value, list) else value
