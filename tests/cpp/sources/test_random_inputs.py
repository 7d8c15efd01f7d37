"""Odd tars and folders built at random: every picture is a row or a rejected row, once, with its own texts."""

import gzip
import os
import random
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from cpp.sources import shards as sources
from cpp.sources.samples import Reason
from cpp.sources.shards import Images, read_images, read_samples
from tests.support.tars import JPEG, samples, write_tar

SEEDS = range(60)
IMAGES = (".jpg", ".JPG", ".png", ".gif", ".jfif", ".dng", ".heic", "", ".weird")
TEXTS = (".txt", ".json", ".cls", ".mp4", ".md")


def content(i: int, ending: str) -> bytes:
    if ending in IMAGES:
        return JPEG + f"{i}".encode()
    return f'{{"field {i}": "text {i}"}}'.encode() if ending == ".json" else f"text {i}".encode()


@pytest.mark.parametrize("seed", SEEDS)
def test_every_picture_of_a_tar_is_a_row_once(tmp_path: Path, seed: int) -> None:
    generator = random.Random(seed)  # noqa: S311 - not for secrets
    members, images, texts = [], 0, set()
    for i in range(generator.randrange(1, 40)):
        stem, inner = generator.choice("abcd"), generator.choice(["", "", "", ".1", ".2", ".Back", ".v1.2"])
        ending = generator.choice(IMAGES if generator.random() < 0.6 else TEXTS)
        name = f"{generator.choice(['', 'in/'])}{stem}{inner}{ending}"
        members.append((name, content(i, ending)))
        images += ending in IMAGES
        texts |= {f"text {i}"} if ending in (".txt", ".cls", ".json") else set()
    path = Path(write_tar(tmp_path / "a.tar", members))
    compress = generator.choice([bytes, gzip.compress, lambda data: pa.compress(data, "zstd", asbytes=True)])
    path.write_bytes(compress(path.read_bytes()))
    rows = samples(path)
    assert max(Counter(row.key for row in rows).values()) == 1
    found = Counter(row.image for row in rows if row.image is not None)
    assert set(found.values()) <= {1}
    assert len(found) + sum(row.reason not in (None, Reason.NO_IMAGE) for row in rows if row.image is None) == images
    assert texts <= {value for row in rows for value in row.metadata.values()}
    some = generator.sample(rows, min(len(rows), 4))
    assert read_images(str(path), [row.key for row in some]) == {row.key: row.image for row in some if row.image}


@pytest.mark.parametrize("seed", SEEDS)
def test_every_picture_of_a_folder_is_a_row_once(tmp_path: Path, seed: int) -> None:
    generator = random.Random(seed)  # noqa: S311 - not for secrets
    folders, images, captions = ["", "a", "a/b", "c.tar", "photos [1]"], {"first.jpg": JPEG}, dict[str, str]()
    (tmp_path / "first.jpg").write_bytes(JPEG)
    for i in range(generator.randrange(40)):
        folder, ending = generator.choice(folders), generator.choice([*IMAGES, *TEXTS])
        path = tmp_path / folder / f"{generator.choice(['p', 'q.r', 'é 1'])}{generator.randrange(6)}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(i, ending))
        name = str(path.relative_to(tmp_path))
        images |= {name: path.read_bytes()} if ending in IMAGES else {}
        captions |= {name.removesuffix(".txt"): f"text {i}"} if ending == ".txt" else {}
    for i in range(generator.randrange(4)):
        target = generator.choice([tmp_path, tmp_path / "none", "."])
        (tmp_path / f"link{i}").symlink_to(target)
    size = generator.choice([1, 2, 3, 5, 1000])
    shards = sources.shards(Images("folder", (str(tmp_path),), shard_size=size))
    rows = {row.key: row for shard in shards.values() for row in read_samples(shard)}
    assert {key: row.image or images[key] for key, row in rows.items()} == images
    assert all(row.image or row.reason == Reason.RAW for row in rows.values())
    for name, row in rows.items():
        assert row.metadata.get("caption") == captions.get(os.path.splitext(name)[0], captions.get(name)), name
    assert max(len(shard.names) for shard in shards.values()) <= size  # type: ignore[union-attr]
