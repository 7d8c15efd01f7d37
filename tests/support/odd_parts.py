"""Pictures, texts and names that are as odd as those of real collections.

Each picture has one colour, which is its number, and at most one caption. Knows nothing of the code that reads them.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

SUFFIXES = {"PNG": "png", "JPEG": "jpg", "GIF": "gif", "BMP": "bmp", "TIFF": "tif", "WEBP": "webp", "PPM": "ppm"}
TEXTS = ["a cat", "", '"', 'a 5" nail', '"begins', "a, b", "tab\there", "two\nlines", "naïve ☃ 猫", " spaces ", "null"]
TEXTS += [
    "1",
    "\u2028",
    "{}",
    "[1]",
    "true",
    "x" * 5000,
    "back\\slash",
    "'",
    "#",
    "%20",
    "a;b",
    "x\ufeff",
    "<b>&amp;</b>",
]
WORDS = ["cat", "Über", "a b", "photo.2020", "[1]", "{x}", "100%", "a#b", "a'b", "UPPER", "-dash", "a+b", "x=1", "日本"]


@dataclass
class OddInput:
    """An input: the section `images` or `import` (`kind`) of its configuration, and what must come out of it.

    `captions` has the caption of each picture that is a row; `rejected` is the number of rejected rows; with `error`,
    the run must end with an error that contains this text. `texts` is for names that overlap, so that rules say which
    pictures are rejected: each of the pictures is a row or a rejected row, and each of the texts is with one. `vectors`
    has each row of imported vectors in order: its `number` (None for a rejected one), `key`, `metadata`, and perhaps
    the number of its `picture`.
    """

    section: dict[str, Any]
    captions: dict[int, str | None] = field(default_factory=dict)
    rejected: int = 0
    error: str | None = None
    texts: set[str] | None = None
    kind: str = "images"
    vectors: list[dict[str, Any]] | None = None


def number(image: Image.Image) -> int:
    """The number of a picture."""
    red, green, blue = (value // 16 for value in image.convert("RGB").getpixel((0, 0)))  # type: ignore[union-attr]
    return int(red * 256 + green * 16 + blue)


class Parts:
    """Makes parts of one odd input in a new folder."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random, self.next = folder, random.Random(seed), 0  # noqa: S311 (no secrets)

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def text(self) -> str:
        return self.random.choice(TEXTS) if self.chance(0.7) else " ".join(self.random.choices(WORDS, k=3))

    def picture(self, format: str | None = None) -> tuple[int, str, bytes]:
        """The number, the extension and the bytes of a new picture."""
        self.next += 1
        format = format or self.random.choice(list(SUFFIXES))
        colour = tuple(16 * (self.next >> shift & 15) + 8 for shift in (8, 4, 0))
        data, options = io.BytesIO(), {"WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}}
        Image.new("RGB", (self.random.randint(1, 40), self.random.randint(1, 40)), colour).save(
            data, format, **options.get(format, {})
        )
        return self.next, SUFFIXES[format], data.getvalue()

    def bad(self) -> bytes:
        """Bytes that are no picture."""
        return self.random.choice([b"", b"words", self.picture("PNG")[2][:30], b"<html></html>", bytes(999)])

    def write(self, path: str, data: bytes) -> str:
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        assert not place.exists()
        place.write_bytes(data)
        return path

    def name(self, suffix: str) -> str:
        """A new file name, in a folder or not."""
        self.next += 1
        folders = [self.random.choice(WORDS) for _ in range(self.random.choice([0, 0, 1, 2]))]
        suffix = suffix.upper() if self.chance(0.2) else suffix
        return "/".join([*folders, f"{self.random.choice(WORDS)}-{self.next}.{suffix}"])

    def tar(self, stem: str, members: Iterable[tuple[str, bytes]]) -> str:
        """Write a tar, plain or compressed. Returns its extension."""
        data = io.BytesIO()
        with tarfile.open(None, "w", data) as tar:
            for name, content in members:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        kinds: list[tuple[str, Callable[[bytes], bytes]]] = [("tar", bytes), ("tar.gz", gzip.compress)]
        kinds += [("tgz", gzip.compress), ("tar", gzip.compress), ("tar.bz2", bz2.compress), ("txz", lzma.compress)]
        kinds += [(suffix, lambda content: pa.compress(content, "zstd", asbytes=True)) for suffix in ("tar.zst", "tar")]
        suffix, compress = self.random.choice(kinds)
        self.write(f"{stem}.{suffix}", compress(data.getvalue()))
        return suffix
