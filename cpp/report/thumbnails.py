"""Small pictures of the images on the pages, read from their shard by key. Knows no clusters and no pages."""

from __future__ import annotations

import io
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
from PIL import ExifTags, Image, ImageFile, ImageOps

from cpp.encoding.images import flatten, open_image
from cpp.files.iterables import map_threads
from cpp.sources.shards import iter_images

LARGE, MIDDLE, SMALL = 160, 112, 72  # pixels of the longer side
ENLARGED = 480  # pixels of the longer side of a picture that the viewer shows, JPEG of about 30 kB
GAIN = 1.5  # a picture is enlarged if its longer side is so many times that of the largest copy on the page
MANY = 200  # with more clusters on one page, their pictures have the middle size
QUALITY = {LARGE: 72, MIDDLE: 64, SMALL: 60}  # of WebP: a photograph takes about 4, 2 and 1 kB
REJECTED = 2  # rejected images of a shard that are shown for each reason
IN_FLIGHT = 4  # images per thread that are in memory at a time
Place = tuple[str | None, str]  # the shard of an image, and its key
THUMBNAILS = pa.schema(
    [
        ("image_shard", pa.string()),
        ("key", pa.string()),
        ("large", pa.binary()),  # WebP; null if it cannot be read
        ("small", pa.binary()),  # null too if the image is not on the map
        ("enlarged", pa.binary()),  # JPEG; null if the page's own copy is about as large as the image
        ("caption", pa.string()),
        ("reason", pa.string()),  # why the image was rejected, null for one that was not
    ]
)


def side(n_clusters: int, paged: int) -> int:
    """The longer side of a large picture in pixels. Runs with more than `paged` clusters have several pages."""
    return MIDDLE if MANY < n_clusters <= paged else LARGE


def read(
    sides: Mapping[Place, Mapping[str, int]], threads: int, damaged: Collection[Place] = ()
) -> dict[Place, dict[str, bytes | None]]:
    """The pictures of images by name; `sides` has the pixels of the longer side of each, the largest first.

    An image that is missing has no pictures, and None stands for one that cannot be read, or is not worth enlarging.
    Those in `damaged` are shown as far as possible. `threads` images are decoded at a time.
    """
    keys: dict[str, list[str]] = {}
    for shard, key in sides:
        if shard is not None:
            keys.setdefault(shard, []).append(key)

    def encode(shard: str, image: tuple[str, bytes]) -> tuple[Place, dict[str, bytes | None]]:
        place = shard, image[0]
        pictures = thumbnails(image[1], list(sides[place].values()), damaged=place in damaged)
        return place, dict(zip(sides[place], pictures, strict=True))

    pictures: dict[Place, dict[str, bytes | None]] = {}
    for shard, of_shard in keys.items():
        pictures.update(map_threads(partial(encode, shard), iter_images(shard, of_shard), threads, IN_FLIGHT * threads))
    return pictures


def large_pictures(places: Iterable[Place], threads: int) -> dict[Place, bytes | None]:
    """The large pictures by shard and key; an image that is missing has none."""
    pictures = read({place: {"large": LARGE} for place in places}, threads)
    return {place: of_place["large"] for place, of_place in pictures.items()}


def thumbnails(data: bytes, sides: Sequence[int], damaged: bool = False) -> list[bytes | None]:
    """WebP bytes of the picture, as the encoder saw it but upright, for a square of each of the `sides`, largest first.

    For the side `ENLARGED` they are JPEG bytes, or None if the next side shows nearly as much. All are None if `data`
    is no readable image. With `damaged`, a truncated picture is shown as far as possible.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            encoded = open_image(data)
            encoded.draft("RGB", (2 * sides[0], 2 * sides[0]))
            loaded = _load_truncated(encoded) if damaged else encoded
            orientation = loaded.getexif().get(ExifTags.Base.Orientation, 1)
            image = flatten(loaded)
            image.getexif()[ExifTags.Base.Orientation] = orientation  # which flattening does not keep
            image = ImageOps.exif_transpose(image).convert("RGB")
            return [_enlarged(image, sides[1:]) if side == ENLARGED else _webp(image, side) for side in sides]
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
    return _encoded(image, side, format="WEBP", quality=QUALITY.get(side, 72), method=2)


def _enlarged(image: Image.Image, others: Sequence[int]) -> bytes | None:
    if max(image.size) <= GAIN * max(others, default=0):
        return None
    return _encoded(image, ENLARGED, format="JPEG", quality=80)


def _encoded(image: Image.Image, side: int, **options: Any) -> bytes:
    small = image.copy()
    small.thumbnail((side, side))
    out = io.BytesIO()
    small.save(out, **options)
    return out.getvalue()


def caption(value: Any, most: int = 200) -> str | None:
    """The text of a caption, or of the first in a list, cut to `most` characters; None if it is empty."""
    if isinstance(value, list):
        value = next((item for item in value if item), None)
    if value is None or not (text := " ".join(str(value).split())):
        return None
    return text if len(text) <= most else text[: most - 1] + "…"
