"""Image bytes -> pixels, under limits. Input is untrusted: Pillow's bomb check stays on, and nothing here raises."""

from __future__ import annotations

import io
import warnings

from PIL import Image, ImageOps


def thumbnail(data: bytes, side: int) -> bytes | None:
    """JPEG bytes of the picture scaled to fit `side` x `side` pixels, None where `data` is no readable image."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data))
            image.draft("RGB", (side, side))
            image = ImageOps.exif_transpose(image).convert("RGB")
            image.thumbnail((side, side))
            out = io.BytesIO()
            image.save(out, "JPEG", quality=80)
            return out.getvalue()
    except Exception:  # Pillow raises many kinds for bad bytes, and a report does not stop for a picture
        return None
