"""Small pictures of the images on the pages, read from their shard by key. Knows no clusters and no pages."""

from __future__ import annotations

import io
import warnings
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import pyarrow as pa
from PIL import Image, ImageFile, ImageOps

from cpp.encoding.images import open_image, to_8_bit
from cpp.files.iterables import map_threads
from cpp.sources.shards import iter_images

LARGE, MIDDLE, SMALL = 160, 112, 72  # pixels of the longer side
MANY = 200  # with more clusters on one page, their pictures have the middle size
QUALITY = {LARGE: 72, MIDDLE: 64, SMALL: 60}  # of WebP: a photograph takes about 4, 2 and 1 kB
REJECTED = 2  # rejected images of a shard that are shown for each reason
IN_FLIGHT = 4  # images per thread that are in memory at a time
THUMBNAILS = pa.schema(
    [
        ("image_shard", pa.string()),
        ("key", pa.string()),
        ("large", pa.binary()),  # WebP; null if it is not requested or cannot be read
        ("small", pa.binary()),
        ("caption", pa.string()),
        ("reason", pa.string()),  # why the image was rejected, null for one that was not
    ]
)


class Request(NamedTuple):
    """An image to show, with the requested sizes."""

    key: str
    large: bool
    small: bool
    caption: str | None = None
    reason: str | None = None


def side(n_clusters: int, paged: int) -> int:
    """The longer side of a large picture in pixels. Runs with more than `paged` clusters have several pages."""
    return MIDDLE if MANY < n_clusters <= paged else LARGE


def make(image_shard: str | None, requests: Collection[Request], large: int, threads: int) -> pa.Table:
    """THUMBNAILS of the requested images of a shard, one row per key; without pictures if the shard is None.

    `large` is the longer side of a large picture in pixels. A key that is missing or is no picture has a row without
    pictures. `threads` images are decoded at a time.
    """
    by_key: dict[str, Request] = {}
    for request in requests:
        earlier = by_key.get(request.key)
        by_key[request.key] = request if earlier is None else _merged(earlier, request)
    images = iter_images(image_shard, by_key) if image_shard is not None else ()
    encode = partial(_encode, by_key=by_key, large=large)
    pictures = dict(map_threads(encode, images, threads, IN_FLIGHT * threads))
    rows = []
    for key, request in by_key.items():
        row: dict[str, Any] = {
            "image_shard": image_shard,
            "key": key,
            "caption": request.caption,
            "reason": request.reason,
        }
        rows.append(row | pictures.get(key, {}))
    return pa.Table.from_pylist(rows, THUMBNAILS)


def pictures(places: Iterable[tuple[str | None, str]], threads: int) -> dict[tuple[str | None, str], bytes | None]:
    """The large picture of each image by shard and key, None if it has none. Reads every shard that occurs."""
    requests: dict[str | None, list[Request]] = {}
    for shard, key in places:
        requests.setdefault(shard, []).append(Request(key, large=True, small=False))
    shards = (make(shard, of_shard, LARGE, threads).to_pylist() for shard, of_shard in requests.items())
    return {(row["image_shard"], row["key"]): row["large"] for rows in shards for row in rows}


def _merged(a: Request, b: Request) -> Request:
    return Request(a.key, a.large or b.large, a.small or b.small, a.caption or b.caption, a.reason or b.reason)


def _encode(image: tuple[str, bytes], by_key: dict[str, Request], large: int) -> tuple[str, dict[str, bytes | None]]:
    """The key of an image, and its requested pictures by column of THUMBNAILS."""
    key, data = image
    request = by_key[key]
    sides = {column: side for column, side in (("large", large), ("small", SMALL)) if getattr(request, column)}
    pictures = thumbnails(data, list(sides.values()), damaged=request.reason is not None)
    return key, dict(zip(sides, pictures, strict=True))


def thumbnails(data: bytes, sides: Sequence[int], damaged: bool = False) -> list[bytes | None]:
    """WebP bytes of the picture scaled to fit a square of each of the `sides`, the largest first.

    None if `data` is no readable image. With `damaged`, a truncated picture is shown as far as possible.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            encoded = open_image(data)
            encoded.draft("RGB", (2 * sides[0], 2 * sides[0]))
            image = to_8_bit(ImageOps.exif_transpose(_load_truncated(encoded) if damaged else encoded))
            transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
            image = image.convert("RGBA" if transparent else "RGB")
            return [_webp(image, side) for side in sides]
    except Exception:  # Pillow raises errors of many types for bad bytes, and a picture must not stop a run
        return [None] * len(sides)


def _load_truncated(image: Image.Image) -> Image.Image:
    before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, True
    try:
        image.load()
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before
    return image


def _webp(image: Image.Image, side: int) -> bytes:
    small = image.copy()
    small.thumbnail((side, side))
    out = io.BytesIO()
    small.save(out, "WEBP", quality=QUALITY.get(side, 72), method=2)
    return out.getvalue()


def caption(value: Any, most: int = 200) -> str | None:
    """The text of a caption, or of the first in a list, cut to `most` characters; None if it is empty."""
    if isinstance(value, list):
        value = next((item for item in value if item), None)
    if value is None or not (text := " ".join(str(value).split())):
        return None
    return text if len(text) <= most else text[: most - 1] + "…"
