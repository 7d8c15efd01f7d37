"""Image bytes -> pixels, under limits: what a model's own transform makes, or a reason. Pillow's bomb check stays on.

Pixels are handed on as bytes, [height, width, channel]: a quarter of the traffic of floats, and a device permutes and
normalises them for nothing. Knows nothing of models but the settings of their transform.
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

# without those that run a program or follow a path (EPS, WMF, ...)
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")

EXTENSIONS = {
    "JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif",
    "PPM": "ppm", "AVIF": "avif", "JPEG2000": "jp2",
}  # fmt: skip  # MPO is what Pillow calls a JPEG file with more pictures in it


@dataclass(frozen=True)
class Limits:
    """What is decoded at all: encoded bytes, pixels (Pillow itself stops at twice its own), longer side by shorter."""

    max_bytes: int = 1 << 26
    max_pixels: int = Image.MAX_IMAGE_PIXELS or 1 << 26
    max_aspect: float = 100.0


@dataclass(frozen=True)
class Preprocess:
    """The settings of open_clip's inference transform (`open_clip.transform.image_transform`), and what it does.

    `size` is (height, width). `mean` and `std` are for the device: the pixels are not normalised here.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"
    resize_mode: Literal["shortest", "longest", "squash"] = "shortest"
    fill_color: int = 0

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]:
        """Pixels `[height, width, 3]`, equal to the transform's before it makes floats of them.

        As there, scaling comes before the conversion to RGB, and the orientation in EXIF is not applied.
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
        uneven = self.resize_mode == "shortest" and self.size[0] != self.size[1]  # there open_clip has bicubic only
        bilinear = self.interpolation == "bilinear" and not uneven
        return Image.Resampling.BILINEAR if bilinear else Image.Resampling.BICUBIC


class Prepared(NamedTuple):
    """A sample as pixels, `[height, width, 3]` for each of the transforms; None where it is rejected for the reason."""

    key: str
    metadata: dict[str, Any]
    pixels: tuple[NDArray[np.uint8], ...] | None
    reason: Reason | None = None


def decode(data: bytes, limits: Limits) -> Image.Image:
    """The picture (the first, where it is animated) in its colour mode, with 8 bits. `Rejected` where there is none."""
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
    except Exception as error:  # Pillow raises many kinds for bad bytes
        raise Rejected(Reason.DAMAGED) from error
    return eight_bits(image)


def eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits as grey of 8, others as they are: Pillow, and so open_clip, would make all above 255 white."""
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)) if image.mode.startswith("I;16") else image


def open_image(data: bytes) -> Image.Image:
    """A picture of one of `FORMATS` whose pixels are not read yet. UnidentifiedImageError where the bytes are none."""
    Image.init()  # Pillow looks for a named format only among those that are loaded
    return Image.open(io.BytesIO(data), formats=[name for name in FORMATS if name in Image.OPEN])


def pixels(data: bytes) -> int | None:
    """The number of pixels that the header of a picture says; None where the bytes are none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            width, height = open_image(data).size
            return width * height
    except Exception:  # Pillow raises many kinds for bad bytes
        return None


def extension(data: bytes) -> str | None:
    """The extension that the format of the bytes has, from their header: `jpg`; None where they are no image."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return EXTENSIONS.get(open_image(data).format or "")
    except Exception:  # Pillow raises many kinds for bad bytes
        return None


def prepare(
    samples: Iterable[Sample], transforms: Sequence[Preprocess], limits: Limits, threads: int, waiting: int
) -> Iterator[Prepared]:
    """Decode samples and transform them in `threads` threads, in order; at most `waiting` are in memory at a time.

    A bad image is rejected with its reason. An exception of `samples` is raised after what comes before it.
    """
    return map_threads(partial(_prepare, transforms=transforms, limits=limits), samples, threads, waiting)


def _prepare(sample: Sample, transforms: Sequence[Preprocess], limits: Limits) -> Prepared:
    try:
        if sample.image is None or sample.reason is not None:
            raise Rejected(sample.reason or Reason.NO_IMAGE)
        image = decode(sample.image, limits)
        done = {transform: _pixels(image, transform) for transform in dict.fromkeys(transforms)}
        return Prepared(sample.key, sample.metadata, tuple(done[transform] for transform in transforms))
    except Rejected as rejected:
        return Prepared(sample.key, sample.metadata, None, rejected.reason)


def _pixels(image: Image.Image, transform: Preprocess) -> NDArray[np.uint8]:
    try:
        return transform(image)
    except ValueError as error:  # Pillow cannot scale or convert every mode that it reads, so neither can open_clip
        raise Rejected(Reason.COLOUR_MODE) from error


def _pad(image: Image.Image, width: int, height: int, fill: int) -> Image.Image:
    """The picture in the middle of at least `width` x `height`, as torchvision pads."""
    x, y = max(width - image.width, 0), max(height - image.height, 0)
    if not x and not y:
        return image
    bands = len(image.getbands())
    border = (x // 2, y // 2, (x + 1) // 2, (y + 1) // 2)
    padded = ImageOps.expand(image, border, (fill,) * bands if bands > 1 else fill)
    if image.mode == "P" and (palette := image.getpalette()) is not None:
        padded.putpalette(palette)
    return padded
