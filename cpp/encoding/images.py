"""Decodes images under size limits and applies a model's transform; rejects bad images with a reason.

Pillow's check for decompression bombs stays on. Pixels are uint8 `[height, width, channel]`, a quarter of the traffic
of float32; the device permutes and normalises them. The pixels are those of open_clip except where its result is no
picture: transparent pixels lie on white, and greys of more than 8 bits are scaled (`flatten`). Does not know models,
only the settings of their transforms.
"""

from __future__ import annotations

import importlib.util
import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from cpp.files.iterables import map_threads
from cpp.sources.formats import HEAD, READ, is_picture, unread_format
from cpp.sources.samples import Reason, Rejected, Sample

# excludes formats whose decoders run a program or open another file (EPS, WMF, ...)
FORMATS = tuple(dict.fromkeys(READ.values()))

EXTENSIONS = {
    "JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif",
    "PPM": "ppm", "AVIF": "avif", "JPEG2000": "jp2", "HEIF": "heic",
}  # fmt: skip  # MPO is Pillow's name for a JPEG file that contains several pictures

ToPixels = Callable[[Image.Image], NDArray[np.uint8]]  # a model's transform, or another use of a decoded picture
BLANK = 250  # a picture whose every channel is at least this is blank

_PNG = b"\x89PNG\r\n\x1a\n"
_NO_PIXELS = {b"tEXt", b"zTXt", b"iTXt", b"iCCP"}  # chunks of a PNG that its pixels do not depend on
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT, _DNG = 258, 262, 339, 50706  # tags of TIFF
_WEBP_ANIMATED, _WEBP_ALPHA = 0x02, 0x10  # flags in the header of an extended WebP
_UNSIGNED = 1  # the default value of _SAMPLE_FORMAT


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
    """A decoded sample: the result of each transform, or None and a reason if rejected."""

    key: str
    metadata: dict[str, Any]
    pixels: tuple[NDArray[np.uint8], ...] | None
    reason: Reason | None = None


def decode(data: bytes, limits: Limits) -> Image.Image:
    """Decode an image, or the first frame of an animation, as `flatten` returns it.

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
        if _DNG in getattr(image, "tag_v2", ()):
            raise Rejected(Reason.RAW)  # Pillow would read its preview
        image.load()
    except (Rejected, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Rejected(Reason.TOO_MANY_PIXELS) from None
    except UnidentifiedImageError:
        raise Rejected(_unidentified(data[:HEAD])) from None
    except Exception as error:  # Pillow raises many kinds of errors for bad bytes
        raise Rejected(Reason.DAMAGED) from error
    return flatten(image)


def flatten(image: Image.Image) -> Image.Image:
    """An image with 8 bits per channel and without transparency; others than these are returned unchanged.

    Transparent pixels are composed on white: dropping the alpha channel, as open_clip does, shows colours that nobody
    sees, and icons become one black picture. White icons, which white would hide, are composed on black. Deep greys are
    scaled by `_grey`, where Pillow would clip to white.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _grey(image)
    if not image.has_transparency_data:
        return image
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    opaque = Image.new("RGB", image.size, "white")
    opaque.paste(rgba, mask=rgba)
    alpha = np.asarray(rgba.getchannel("A"))
    if alpha.min() < alpha.max() and np.asarray(opaque).min() >= BLANK:
        opaque = Image.new("RGB", image.size, "black")
        opaque.paste(rgba, mask=rgba)
    return opaque


def _grey(image: Image.Image) -> Image.Image:
    """A grey of more than 8 bits in 8: by its bits; or floats from 0 to 1; or else from its least to its largest value.

    PGM has 16 bits here, because Pillow scales it. Of 32-bit integers and floats no value is known to be white.
    """
    values, tags = np.asarray(image), getattr(image, "tag_v2", {})
    if image.format == "TIFF" and image.mode == "I" and tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0] == _UNSIGNED:
        values = values.view(np.uint32)  # Pillow reads 32 bits as signed
    if image.mode.startswith("I;16") or (image.format == "PPM" and image.mode == "I"):
        grey = values >> (max(tags.get(_BITS, (16,))[0], 8) - 8)
    else:
        finite = values[np.isfinite(values)].astype(np.float64)
        low, high = (finite.min(), finite.max()) if len(finite) else (0, 1)
        low, high = (0, 1) if image.mode == "F" and low >= 0 and high <= 1 else (low, max(high, low + 1e-9))
        grey = np.rint((np.nan_to_num(values.astype(np.float64), nan=low) - low) / (high - low) * 255)
    grey = np.clip(grey, 0, 255)
    if tags.get(_PHOTOMETRIC) == 0:  # white is zero, which Pillow knows up to 8 bits only
        grey = 255 - grey
    if isinstance(transparent := image.info.get("transparency"), int):
        grey = np.where(values == transparent, 255, grey)
    return Image.fromarray(grey.astype(np.uint8))


def open_image(data: bytes) -> Image.Image:
    """Open an image in one of `FORMATS` without decoding its pixels. UnidentifiedImageError for any other bytes."""
    _load_plugins()  # Pillow tries only formats whose plugins are loaded
    return Image.open(
        io.BytesIO(_with_alpha(_without_text(data))), formats=[name for name in FORMATS if name in Image.OPEN]
    )


@cache
def _load_plugins() -> None:
    Image.init()
    if importlib.util.find_spec("pillow_heif"):
        import pillow_heif

        pillow_heif.register_heif_opener()


def _without_text(data: bytes) -> bytes:
    """A PNG without texts and colour profile, of which Pillow accepts few; other bytes unchanged."""
    if not data.startswith(_PNG):
        return data
    kept, at = [_PNG], len(_PNG)
    while at < len(data):
        stop = at + 12 + int.from_bytes(data[at : at + 4])
        if data[at + 4 : at + 8] not in _NO_PIXELS:
            kept.append(data[at:stop])
        at = stop
    return b"".join(kept)


def reads_heif() -> bool:
    """Whether HEIC pictures can be read: the package pillow-heif is installed."""
    _load_plugins()
    return "HEIF" in Image.OPEN


def _with_alpha(data: bytes) -> bytes:
    """An animated WebP marked as transparent, since its frames may leave parts of it free; other bytes unchanged.

    Without the mark, which encoders set only if a frame has transparent pixels, Pillow paints these parts black.
    """
    is_animated = data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8X" and data[20:21] and data[20] & _WEBP_ANIMATED
    return data[:20] + bytes([data[20] | _WEBP_ALPHA]) + data[21:] if is_animated else data


def _unidentified(head: bytes) -> Reason:
    if reason := unread_format(head):
        return reason
    is_heic = is_picture(head) and head[4:8] == b"ftyp" and "HEIF" not in Image.OPEN
    return Reason.HEIC if is_heic else Reason.NOT_AN_IMAGE


def size(data: bytes) -> tuple[int, int] | None:
    """Width and height according to the image's header, or None if the bytes are not a readable image."""
    header = _header(data)
    return header.size if header else None


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
    samples: Iterable[Sample], transforms: Sequence[ToPixels], limits: Limits, threads: int, waiting: int
) -> Iterator[Prepared]:
    """Decode and transform samples in `threads` threads, keeping their order; at most `waiting` are in memory.

    A bad image is rejected with its reason. An exception of `samples` is raised after the samples that precede it.
    """
    return map_threads(partial(_prepare, transforms=transforms, limits=limits), samples, threads, waiting)


def _prepare(sample: Sample, transforms: Sequence[ToPixels], limits: Limits) -> Prepared:
    try:
        if sample.image is None or sample.reason is not None:
            raise Rejected(sample.reason or Reason.NO_IMAGE)
        image = decode(sample.image, limits)
        pixels = {transform: _pixels(image, transform) for transform in dict.fromkeys(transforms)}
        return Prepared(sample.key, sample.metadata, tuple(pixels[transform] for transform in transforms))
    except Rejected as rejected:
        return Prepared(sample.key, sample.metadata, None, rejected.reason)


def _pixels(image: Image.Image, transform: ToPixels) -> NDArray[np.uint8]:
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
