"""Heat maps of attention over the pictures of a page: their table, and how they are drawn. Knows no encoder.

A map belongs to the upright picture, as thumbnails show it, and covers the part that the encoder saw.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import ExifTags, Image

from cpp.encoding.images import open_image

ATTENTION = pa.schema(
    [
        ("image_shard", pa.string()),
        ("key", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("rows", pa.int32()),
        ("columns", pa.int32()),
        ("attention", pa.binary()),
        ("view", pa.list_(pa.float32())),
    ]
)
ABOUT = b"cpp.attention"  # in the footer: `model`, and its `query` or the `reason` why it has no maps
MASS = 0.6  # share of the attention in a segment, as in DINO (Caron et al., arXiv 2104.14294, figure 4)
LEVELS = 16  # colours of a map, which the browser blends
COLOURS = np.array(
    [(20, 20, 90, 110), (140, 40, 120, 120), (250, 120, 40, 150), (255, 245, 140, 190)]
)  # RGBA, low to high
# How numpy turns an array upright by the value of the EXIF tag Orientation; from 5 on the axes are exchanged
_UPRIGHT = {
    2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1], 5: lambda a: a.T,
    6: lambda a: a.T[:, ::-1], 7: lambda a: a.T[::-1, ::-1], 8: lambda a: a.T[::-1],
}  # fmt: skip


def row(data: bytes, heat: NDArray[np.float32], view: tuple[float, float, float, float]) -> dict[str, Any]:
    """A row of ATTENTION without the place, for the encoded picture `data` and its attention `[rows, columns]`.

    `view` is the part of the picture that the encoder saw, as `cpp.encoding.attention.view` returns it. The square root
    of the attention is kept, 255 for the largest, so that weak attention keeps its digits.
    """
    picture = open_image(data)
    width, height = picture.size
    orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
    left, top, right, bottom = view
    if orientation in _UPRIGHT:
        heat = _UPRIGHT[orientation](heat)
    if orientation in (5, 6, 7, 8):
        width, height = height, width
        left, top, right, bottom = top, left, bottom, right  # transforms crop in the middle, so that ends stay ends
    kept = np.rint(255 * np.sqrt(heat / heat.max())).astype(np.uint8)
    return {
        "width": width, "height": height, "rows": len(kept), "columns": kept.shape[1],
        "attention": kept.tobytes(), "view": [left, top, right, bottom],
    }  # fmt: skip


def overlay(row: Mapping[str, Any]) -> dict[str, Any]:
    """What the template draws over a picture, from its row of ATTENTION.

    `size` is that of the picture, `box` the place of the map in it (x, y, width, height), `grid` its columns and rows,
    `png` its colours, and `outline` an SVG path around its segment on the grid.
    """
    shape = row["rows"], row["columns"]
    kept = np.frombuffer(row["attention"], np.uint8).reshape(shape)
    left, top, right, bottom = row["view"]
    width, height = row["width"], row["height"]
    scale = 1000 / max(width, height)  # short numbers
    w, h = width * scale, height * scale
    box = left * w, top * h, (right - left) * w, (bottom - top) * h
    return {
        "size": f"{w:.0f} {h:.0f}",
        "box": [f"{value:.0f}" for value in box],
        "grid": shape[::-1],
        "png": _png(kept),
        "outline": _outline(segment(np.square(kept, dtype=np.float32))),
    }


def page_bytes(drawn: Mapping[str, Any] | None) -> int:
    """The bytes that an overlay takes on a page, approximately."""
    return 4 * len(drawn["png"]) // 3 + len(drawn["outline"]) + 400 if drawn else 0


def segment(heat: NDArray[np.float32], mass: float = MASS) -> NDArray[np.bool_]:
    """The largest connected part of the fewest places that hold the share `mass` of the attention, `[rows, columns]`.

    The threshold is that of DINO (arXiv 2104.14294, section 4.2.2). Places that share a corner are connected. Not the
    part with most attention, since single patches of the background can hold much of it (arXiv 2309.16588).
    """
    from scipy import ndimage

    order = np.argsort(-heat, axis=None, kind="stable")
    held = np.cumsum(heat.ravel()[order]) / heat.sum()
    chosen = np.zeros(heat.size, bool)
    chosen[order[: np.searchsorted(held, mass) + 1]] = True
    parts, _ = ndimage.label(chosen.reshape(heat.shape), np.ones((3, 3)))
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0  # the places outside
    largest: NDArray[np.bool_] = parts == sizes.argmax()
    return largest


def _png(kept: NDArray[np.uint8]) -> bytes:
    levels = np.linspace(0, 1, LEVELS)
    anchors = np.linspace(0, 1, len(COLOURS))
    palette = np.stack([np.interp(levels, anchors, channel) for channel in COLOURS.T], axis=1).astype(np.uint8)
    image = Image.fromarray((kept // (256 // LEVELS)).astype(np.uint8), "P")
    image.putpalette(palette[:, :3].tobytes())
    out = io.BytesIO()
    image.save(out, "PNG", transparency=palette[:, 3].tobytes(), bits=4, optimize=True)
    return out.getvalue()


def _outline(segment: NDArray[np.bool_]) -> str:
    """The sides between places inside and outside, as a path whose unit is a place."""
    padded = np.pad(segment, 1)
    across = zip(*np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1]), strict=True)
    down = zip(*np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1]), strict=True)
    return "".join([*(f"M{x} {y}h1" for y, x in across), *(f"M{x} {y}v1" for y, x in down)])
