"""Measures of a picture's technical quality, and the flags that thresholds on them give. Knows no files.

Measures and default thresholds are those of cleanvision (github.com/cleanlab/cleanvision, version 0.3.7). Large
pictures are measured at a reduced size.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageStat

FLAGS = ("dark", "bright", "blurred", "constant", "odd_aspect", "odd_size")
_SIDE = 200  # pixels of the shorter side that a reduced picture has at least
_BLUR_SIDE = 64  # pixels of the longer side at which sharpness is measured
_LUMA = np.array(
    [0.241, 0.691, 0.068], np.float32
)  # weights of the squares of red, green and blue in perceived brightness
_BLUR_SCALE, _SPREAD_LEAST = 0.01, 0.18  # of cleanvision's blur score
_MOST_ENTROPY = 10.0  # bits at which cleanvision's score of information is 1


class Quality(NamedTuple):
    """Measures of a picture. `brightest` and `darkest` are the 99th and the 5th percentile of brightness, 0 to 1.

    `sharpness` and `information` are scores from 0 to 1, of edges and of the entropy of the grey values.
    """

    brightest: float
    darkest: float
    sharpness: float
    information: float


QUALITY = pa.schema(
    {
        "key": "string",
        "width": "int32",
        "height": "int32",
        **dict.fromkeys(Quality._fields, "float32"),
        **dict.fromkeys(FLAGS, "bool"),
    }
)


def quality(image: Image.Image) -> Quality:
    """Measure a decoded picture. ValueError if Pillow cannot convert its mode."""
    small = reduced(image)
    rgb = np.asarray(small, np.float32)
    darkest, brightest = np.percentile(np.sqrt(np.square(rgb) @ _LUMA), [5, 99]) / 255
    return Quality(float(brightest), float(darkest), _sharpness(small), min(image.entropy() / _MOST_ENTROPY, 1.0))


def reduced(image: Image.Image) -> Image.Image:
    """The picture in RGB, reduced by the largest whole factor that leaves `_SIDE` pixels to its shorter side."""
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    factor = min(rgb.size) // _SIDE
    return rgb.reduce(factor) if factor > 1 else rgb


def _sharpness(image: Image.Image) -> float:
    """Cleanvision's blur score: the spread of edges at a small size; a picture of very uneven grey values is sharp."""
    ratio = max(image.size) / _BLUR_SIDE
    if ratio > 1:
        image = image.resize((max(int(image.width // ratio), 1), max(int(image.height // ratio), 1)))
    grey = image.convert("L")
    edges = 1 - np.exp(-_BLUR_SCALE * ImageStat.Stat(grey.filter(ImageFilter.FIND_EDGES)).var[0] ** 0.5)
    spread = 1 - np.exp(-_BLUR_SCALE * np.std(grey.histogram()))
    return float(min(edges + (spread if spread > _SPREAD_LEAST else 0), 1))


class Thresholds(NamedTuple):
    """The thresholds of the flags; pictures with a smaller value are flagged. None gives no flag.

    `dark` is one of `brightest`, `bright` of 1 - `darkest`, `blurred` of `sharpness`, `constant` of `information` and
    `aspect` of the shorter by the longer side. A size is odd if it is more than `size` times the interquartile range
    from the quartiles of all sizes, which are the square roots of the numbers of pixels.
    """

    dark: float | None
    bright: float | None
    blurred: float | None
    constant: float | None
    aspect: float | None
    size: float | None


def flags(
    measures: dict[str, NDArray[np.float64]], quartiles: tuple[float, float], thresholds: Thresholds
) -> dict[str, NDArray[np.bool_]]:
    """The flags of pictures by name, `[n]` each, from their measures, width and height; False where these are NaN."""
    width, height = measures["width"], measures["height"]
    side, (low, high) = np.sqrt(width * height), quartiles
    t, nothing = thresholds, np.zeros(len(width), bool)
    far = (high - low) * (t.size or 0)
    with np.errstate(invalid="ignore"):
        flagged = {
            "dark": t.dark is not None and measures["brightest"] < t.dark,
            "bright": t.bright is not None and 1 - measures["darkest"] < t.bright,
            "blurred": t.blurred is not None and measures["sharpness"] < t.blurred,
            "constant": t.constant is not None and measures["information"] < t.constant,
            "odd_aspect": t.aspect is not None and np.minimum(width / height, height / width) < t.aspect,
            "odd_size": t.size is not None and (side < low - far) | (side > high + far),
        }
    return {name: nothing | np.asarray(values, bool) for name, values in flagged.items()}
