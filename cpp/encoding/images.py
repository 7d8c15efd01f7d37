"""Decodes images under size limits and applies a model's transform; rejects bad images with a reason.

Pillow's check for decompression bombs stays on. Pixels are uint8 `[height, width, channel]`, a quarter of the traffic
of float32; the device permutes and normalises them. Does not know models, only the settings of their transforms.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from cpp.files.iterables import map_threads
from cpp.sources.samples import Reason, Rejected, Sample

# excludes formats whose decoders run a program or open another file (EPS, WMF, ...)
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")

EXTENSIONS = {
    "JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif",
    "PPM": "ppm", "AVIF": "avif", "JPEG2000": "jp2",
}  # fmt: skip  # MPO is Pillow's name for a JPEG file that contains several pictures


@dataclass(frozen=True)
class Limits:
    """Limits on the images that are decoded: encoded bytes, pixels, and the ratio of the longer to the shorter side.

    Pillow itself raises an error above twice its own limit of pixels.
    """

    max_bytes: int = 1 << 26
    max_pixels: int = Image.MAX_IMAGE_PIXELS or 1 << 26
    max_aspect: float = 100.0


@dataclass(frozen=True)
class Preprocess:
    """open_clip's inference transform (`open_clip.transform.image_transform`) without the normalisation.

    `size` is (height, width). `mean` and `std` are used later, when the device normalises the pixels.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"
    resize_mode: Literal["shortest", "longest", "squash"] = "shortest"
    fill_color: int = 0

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]:
        """Pixels uint8 `[height, width, 3]`, equal to those of open_clip before its conversion to floats.

        As in open_clip, scaling precedes the conversion to RGB, and the EXIF orientation is not applied.
        """
        scaled = self._scaled(*image.size)
        if scaled != image.size:
            image = image.resize(scaled, self._filter())
        height, width = self.size
        if image.size != (width, height):
            image = _pad(image, width, height, self.fill_color if self.resize_mode == "longest" else 0)
            left, top = round((image.width - width) / 2), round((image.height - height) / 2)
            image = image.crop((left, top, left + width, top + height))
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))

    def _scaled(self, width: int, height: int) -> tuple[int, int]:
        """Width and height after scaling, before the crop; rounded as torchvision and open_clip do."""
        h, w = self.size
        if self.resize_mode == "squash":
            return w, h
        if self.resize_mode == "shortest" and h == w:
            return (w, int(w * height / width)) if width <= height else (int(w * width / height), w)
        ratio = (max if self.resize_mode == "longest" else min)(height / h, width / w)
        return round(width / ratio), round(height / ratio)

    def _filter(self) -> Image.Resampling:
        uneven = self.resize_mode == "shortest" and self.size[0] != self.size[1]  # open_clip supports only bicubic here
        bilinear = self.interpolation == "bilinear" and not uneven
        return Image.Resampling.BILINEAR if bilinear else Image.Resampling.BICUBIC


class Prepared(NamedTuple):
    """A decoded sample: pixels uint8 `[height, width, 3]` for each transform, or None and a reason if rejected."""

    key: str
    metadata: dict[str, Any]
    pixels: tuple[NDArray[np.uint8], ...] | None
    reason: Reason | None = None


def decode(data: bytes, limits: Limits) -> Image.Image:
    """Decode an image, or the first frame of an animation, in its own colour mode with 8 bits per channel.

    Raises `Rejected` with the reason if the bytes exceed `limits` or cannot be decoded.
    """
    if not data:
        raise Rejected(Reason.EMPTY)
    if len(data) > limits.max_bytes:
        raise Rejected(Reason.TOO_MANY_BYTES)
    try:
        image = open_image(data)
        if image.width * image.height > limits.max_pixels:
            raise Rejected(Reason.TOO_MANY_PIXELS)
        if max(image.size) > limits.max_aspect * min(image.size):
            raise Rejected(Reason.TOO_LONG)
        image.load()
    except (Rejected, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Rejected(Reason.TOO_MANY_PIXELS) from None
    except UnidentifiedImageError:
        raise Rejected(Reason.NOT_AN_IMAGE) from None
    except Exception as error:  # Pillow raises many kinds of errors for bad bytes
        raise Rejected(Reason.DAMAGED) from error
    return to_8_bit(image)


def to_8_bit(image: Image.Image) -> Image.Image:
    """Convert 16-bit greyscale to 8 bits; return others unchanged. Pillow would clip values above 255 to white."""
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)) if image.mode.startswith("I;16") else image


def open_image(data: bytes) -> Image.Image:
    """Open an image in one of `FORMATS` without decoding its pixels. UnidentifiedImageError for any other bytes."""
    Image.init()  # Pillow tries only formats whose plugins are loaded
    return Image.open(io.BytesIO(data), formats=[name for name in FORMATS if name in Image.OPEN])


def pixel_count(data: bytes) -> int | None:
    """The number of pixels according to the image's header, or None if the bytes are not a readable image."""
    header = _header(data)
    return header.width * header.height if header else None


def extension(data: bytes) -> str | None:
    """The usual file name extension of the image's format, such as `jpg`, or None if the bytes are not an image."""
    header = _header(data)
    return EXTENSIONS.get(header.format or "") if header else None


def _header(data: bytes) -> Image.Image | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return open_image(data)
    except Exception:  # Pillow raises many kinds of errors for bad bytes
        return None


def prepare(
    samples: Iterable[Sample], transforms: Sequence[Preprocess], limits: Limits, threads: int, waiting: int
) -> Iterator[Prepared]:
    """Decode and transform samples in `threads` threads, keeping their order; at most `waiting` are in memory.

    A bad image is rejected with its reason. An exception of `samples` is raised after the samples that precede it.
    """
    return map_threads(partial(_prepare, transforms=transforms, limits=limits), samples, threads, waiting)


def _prepare(sample: Sample, transforms: Sequence[Preprocess], limits: Limits) -> Prepared:
    try:
        if sample.image is None or sample.reason is not None:
            raise Rejected(sample.reason or Reason.NO_IMAGE)
        image = decode(sample.image, limits)
        pixels = {transform: _pixels(image, transform) for transform in dict.fromkeys(transforms)}
        return Prepared(sample.key, sample.metadata, tuple(pixels[transform] for transform in transforms))
    except Rejected as rejected:
        return Prepared(sample.key, sample.metadata, None, rejected.reason)


def _pixels(image: Image.Image, transform: Preprocess) -> NDArray[np.uint8]:
    try:
        return transform(image)
    except ValueError as error:  # Pillow, and therefore open_clip, cannot scale or convert every mode
        raise Rejected(Reason.COLOUR_MODE) from error


def _pad(image: Image.Image, width: int, height: int, fill: int) -> Image.Image:
    """Pad an image on all sides to at least `width` x `height`, as torchvision does."""
    x, y = max(width - image.width, 0), max(height - image.height, 0)
    if not x and not y:
        return image
    bands = len(image.getbands())
    border = (x // 2, y // 2, (x + 1) // 2, (y + 1) // 2)
    padded = ImageOps.expand(image, border, (fill,) * bands if bands > 1 else fill)
    if image.mode == "P" and (palette := image.getpalette()) is not None:
        padded.putpalette(palette)
    return padded
