"""Tar files, whole and damaged."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cpp.sources import shards
from cpp.sources.samples import Reason, Sample
from cpp.sources.shards import Images, ImageShard, read_samples
from tests.support.pictures import encoded, picture, png

JPEG = encoded(picture(), "JPEG")


Files = Iterable[tuple[str | tarfile.TarInfo, bytes]]


def write_tar(path: Path, files: Files, **options: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(data) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(data))
    return str(path)


def entry(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def write_images(folder: Path, names: Iterable[str]) -> str:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(JPEG + name.encode())
    return str(folder)


def only(format: shards.Format, *path: str, **settings: Any) -> ImageShard:
    (shard,) = shards.shards(Images(format, path, **settings)).values()
    return shard


def samples(path: Path | str, max_bytes: int = shards.MAX_BYTES) -> list[Sample]:
    return list(read_samples(only("webdataset", str(path)), max_bytes))


def about(found: Iterable[Sample]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(sample.key, sample.metadata) for sample in found]


DAMAGE: dict[str, tuple[bytes | str, Reason | None]] = {
    "whole": (JPEG, None),
    "grey": (encoded(picture("L"), "JPEG"), None),
    "cmyk": (encoded(picture("CMYK"), "JPEG"), None),
    "sixteen": (encoded(picture("I;16")), None),
    "palette": (encoded(picture("RGBA").quantize(16)), None),
    "grey-alpha": (encoded(picture("LA")), None),
    "alpha": (encoded(picture("RGBA")), None),
    "one-bit": (encoded(picture("1")), None),
    "png": (encoded(picture()), None),
    "webp": (encoded(picture(), "WEBP"), None),
    "bmp": (encoded(picture(), "BMP"), None),
    "tiff": (encoded(picture(), "TIFF"), None),
    "gif": (encoded(picture(), "GIF"), None),
    "gif-moving": (encoded(picture(), "GIF", save_all=True, append_images=[picture(seed=1)]), None),
    "webp-moving": (encoded(picture(), "WEBP", save_all=True, append_images=[picture(seed=1)]), None),
    "png-moving": (encoded(picture(), "PNG", save_all=True, append_images=[picture(seed=1)]), None),
    "one-pixel": (encoded(picture(size=(1, 1))), None),
    "trailing": (JPEG + b"more", None),
    "../../outside": (JPEG, None),
    "/etc/absolute": (JPEG, None),
    "pipe:touch here": (JPEG, None),
    "s3://bucket/name": (JPEG, None),
    "spaces and 'quotes' \"": (JPEG, None),
    "ünïcode-☃": (JPEG, None),
    "x" * 300: (JPEG, None),
    "empty": (b"", Reason.EMPTY),
    "cut-half": (JPEG[: len(JPEG) // 2], Reason.DAMAGED),
    "cut-end": (JPEG[:-200], Reason.DAMAGED),
    "cut-start": (JPEG[:3], Reason.NOT_AN_IMAGE),
    "cut-png": (encoded(picture())[:-300], Reason.DAMAGED),
    "cut-webp": (encoded(picture(), "WEBP")[:-100], Reason.DAMAGED),
    "cut-gif": (encoded(picture(), "GIF")[:900], Reason.DAMAGED),
    "zeros": (bytes(5000), Reason.NOT_AN_IMAGE),
    "text": (b"just words", Reason.NOT_AN_IMAGE),
    "html": (b"<!DOCTYPE html><html><body>Not found</body></html>", Reason.NOT_AN_IMAGE),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', Reason.NOT_AN_IMAGE),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n", Reason.NOT_AN_IMAGE),
    "pdf": (b"%PDF-1.7\n%%EOF\n", Reason.NOT_AN_IMAGE),
    "zip": (b"PK\x03\x04" + bytes(50), Reason.NOT_AN_IMAGE),
    "no-width": (png(0, 9), Reason.NOT_AN_IMAGE),
    "no-height": (png(9, 0), Reason.NOT_AN_IMAGE),
    "no-data": (png(9, 9), Reason.DAMAGED),
    "bad-data": (png(9, 9, b"not deflate"), Reason.DAMAGED),
    "bomb": (png(100_000, 100_000), Reason.TOO_MANY_PIXELS),
    "large": (png(10_000, 9_500), Reason.TOO_MANY_PIXELS),
    "thin": (png(9_000, 3), Reason.TOO_LONG),
    "heavy": (JPEG + bytes(200_000), Reason.TOO_MANY_BYTES),
    "json": ("json:{not json", Reason.BAD_JSON),
    "json-list": ("json:[1, 2]", Reason.BAD_JSON),
    "json-deep": ("json:" + "[" * 100_000, Reason.BAD_JSON),
    "json-surrogate": ('json:{"caption": "\\ud800"}', Reason.BAD_JSON),
    "json-number": ('json:{"n": 1' + "0" * 5000 + "}", Reason.BAD_JSON),
    "caption": ("txt:\udcff\udcfe", Reason.BAD_TEXT),
    "class": ("cls:\udcff", Reason.BAD_TEXT),
    "alone": ("alone", Reason.NO_IMAGE),
    "other": ("other", Reason.NO_IMAGE),
    "bare": ("bare", Reason.NO_IMAGE),
    "symbolic": ("symbolic", Reason.LINK),
    "hard": ("hard", Reason.LINK),
    "fifo": ("fifo", Reason.LINK),
}


def damaged_files() -> Files:
    links = {"symbolic": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "fifo": tarfile.FIFOTYPE}
    for key, (content, _) in DAMAGE.items():
        if isinstance(content, bytes):
            yield f"{key}.jpg", content
        elif ":" in content:
            extension, _, data = content.partition(":")
            yield f"{key}.jpg", JPEG
            yield f"{key}.{extension}", data.encode(errors="surrogateescape")
        elif content in links:
            yield entry(f"{key}.jpg", links[content], "whole.jpg"), b""
        else:
            yield {"alone": "alone.txt", "other": "other.mp4", "bare": "bare"}[content], b"text"
