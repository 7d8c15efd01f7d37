"""Small pictures of the images that a person is shown, read from their shard by key. Knows no clusters and no pages."""

from __future__ import annotations

import io
import warnings
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import pyarrow as pa
from PIL import Image, ImageFile, ImageOps

from cpp.encoding.images import eight_bits, open_image
from cpp.files.iterables import map_threads
from cpp.sources.shards import iter_images

LARGE, MIDDLE, SMALL = 160, 112, 72  # pixels of the longer side
MANY = 200  # clusters on one page, above which their pictures are of the middle size
QUALITY = {LARGE: 72, MIDDLE: 64, SMALL: 60}  # of WebP: about 4, 2 and 1 kB for a photograph
REASONS = 2  # rejected images of a shard that are shown for each reason
WAITING = 4  # images for each thread that are in memory at a time
THUMBNAILS = pa.schema(
    [
        ("image_shard", pa.string()),
        ("key", pa.string()),
        ("large", pa.binary()),  # WebP; null where it is not wanted or there is none
        ("small", pa.binary()),
        ("caption", pa.string()),
        ("reason", pa.string()),  # why the image was rejected, null for one that was not
    ]
)


class Wanted(NamedTuple):
    """An image to show, and in which sizes."""

    key: str
    large: bool
    small: bool
    caption: str | None = None
    reason: str | None = None


def side(n_clusters: int, paged: int) -> int:
    """Pixels of a large picture where so many clusters are shown, more than `paged` of them on pages of their own."""
    return MIDDLE if MANY < n_clusters <= paged else LARGE


def make(image_shard: str | None, wanted: Collection[Wanted], large: int, threads: int) -> pa.Table:
    """THUMBNAILS of the wanted images of a shard, each once; without pictures where the shard is None.

    `large` is the longer side of a large picture in pixels. An image that is not there, or is no picture, has none
    either. `threads` images are decoded at a time.
    """
    by_key: dict[str, Wanted] = {}
    for image in wanted:
        known = by_key.get(image.key)
        by_key[image.key] = image if known is None else _both(known, image)
    found = iter_images(image_shard, by_key) if image_shard is not None else ()
    pictures = dict(map_threads(partial(_sizes, by_key=by_key, large=large), found, threads, WAITING * threads))
    rows = []
    for key, image in by_key.items():
        large_picture, small_picture = pictures.get(key, (None, None))
        rows.append(
            {
                "image_shard": image_shard,
                "key": key,
                "large": large_picture,
                "small": small_picture,
                "caption": image.caption,
                "reason": image.reason,
            }
        )
    return pa.Table.from_pylist(rows, THUMBNAILS)


def pictures(places: Iterable[tuple[str | None, str]], threads: int) -> dict[tuple[str | None, str], bytes | None]:
    """The large picture of each image by shard and key, None where there is none. Reads every shard that is named."""
    wanted: dict[str | None, list[Wanted]] = {}
    for shard, key in places:
        wanted.setdefault(shard, []).append(Wanted(key, large=True, small=False))
    found = (make(shard, some, LARGE, threads).to_pylist() for shard, some in wanted.items())
    return {(row["image_shard"], row["key"]): row["large"] for rows in found for row in rows}


def _both(a: Wanted, b: Wanted) -> Wanted:
    return Wanted(a.key, a.large or b.large, a.small or b.small, a.caption or b.caption, a.reason or b.reason)


def _sizes(
    found: tuple[str, bytes], by_key: dict[str, Wanted], large: int
) -> tuple[str, tuple[bytes | None, bytes | None]]:
    key, data = found
    image = by_key[key]
    sides = [size for size, asked in ((large, image.large), (SMALL, image.small)) if asked]
    made = dict(zip(sides, thumbnails(data, sides, broken=image.reason is not None), strict=True))
    return key, (made.get(large), made.get(SMALL))


def thumbnails(data: bytes, sides: Sequence[int], broken: bool = False) -> list[bytes | None]:
    """WebP bytes of the picture scaled to fit a square of each of the `sides`, the largest first.

    None where `data` is no readable image; with `broken` what there is of a picture that was cut short, the rest grey.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            encoded = open_image(data)
            encoded.draft("RGB", (2 * sides[0], 2 * sides[0]))
            image = eight_bits(ImageOps.exif_transpose(_cut_short(encoded) if broken else encoded))
            transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
            image = image.convert("RGBA" if transparent else "RGB")
            return [_webp(image, side) for side in sides]
    except Exception:  # Pillow raises many kinds for bad bytes, and a report does not stop for a picture
        return [None] * len(sides)


def _cut_short(image: Image.Image) -> Image.Image:
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
    """The text of a caption, or the first of a list of them, cut to `most` characters; None where there is none."""
    if isinstance(value, list):
        value = next((item for item in value if item), None)
    if value is None or not (text := " ".join(str(value).split())):
        return None
    return text if len(text) <= most else text[: most - 1] + "…"
