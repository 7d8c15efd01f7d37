"""Heat maps over pictures: turned upright as thumbnails are, the largest part of most of the mass, its outline."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from cpp.report.heat_maps import overlay, page_bytes, row, segment

WHOLE = (0.0, 0.0, 1.0, 1.0)


def png(size: tuple[int, int] = (30, 20)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size).save(out, "PNG")
    return out.getvalue()


def test_a_segment_is_the_largest_part_of_the_places_that_hold_the_mass() -> None:
    heat = np.array([[9, 0, 0, 0], [0, 0, 5, 0], [0, 0, 0, 3], [3, 1, 1, 2]], np.float32)  # of 24; 60% are 14.4
    assert np.argwhere(segment(heat)).tolist() == [[1, 2], [2, 3]]  # 9 + 5 are 14: 3 is needed, and touches the 5
    assert np.argwhere(segment(heat, 0.9)).tolist() == [[1, 2], [2, 3], [3, 3]]  # and the other 3, and the 2
    assert np.argwhere(segment(heat, 0.3)).tolist() == [[0, 0]]
    assert segment(np.ones((4, 5), np.float32)).sum() == 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_map_is_turned_as_its_picture(orientation: int) -> None:
    heat = np.arange(1, 7, dtype=np.float32).reshape(2, 3) ** 2
    cells = Image.fromarray(np.rint(255 * np.sqrt(heat / heat.max())).astype(np.uint8))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    out = io.BytesIO()
    cells.save(out, "PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(out.getvalue()))))
    turned = row(out.getvalue(), heat, (0.1, -0.2, 0.9, 1.2))
    assert (turned["height"], turned["width"]) == (turned["rows"], turned["columns"]) == expected.shape
    assert turned["attention"] == expected.tobytes()
    assert turned["view"] == ([-0.2, 0.1, 1.2, 0.9] if orientation > 4 else [0.1, -0.2, 0.9, 1.2])


def test_an_overlay_lies_where_the_encoder_looked_and_its_outline_surrounds_the_segment() -> None:
    heat = np.zeros((4, 4), np.float32)
    heat[1, 1:3] = 0.5
    drawn = overlay(row(png(), heat, (1 / 6, 0.0, 5 / 6, 1.0)))
    assert drawn["size"] == "1000 667"
    assert drawn["box"] == ["167", "0", "667", "667"]
    assert sorted(drawn["outline"].split("M")[1:]) == ["1 1h1", "1 1v1", "1 2h1", "2 1h1", "2 2h1", "3 1v1"]
    shown = np.asarray(Image.open(io.BytesIO(drawn["png"])).convert("RGBA"))
    assert shown.shape == (4, 4, 4)
    assert shown[1, 1].sum() > shown[0, 0].sum()
    assert page_bytes(None) == 0 < page_bytes(drawn) < 1200


def test_weak_attention_beside_a_strong_one_keeps_its_segment() -> None:
    heat = np.full((7, 7), 1e-4, np.float32)
    heat[2:5, 2:5] = 1e-2
    heat[0, 0] = 0.05
    kept: dict[str, Any] = row(png(), heat / heat.sum(), WHOLE)
    again = np.square(np.frombuffer(kept["attention"], np.uint8).reshape(7, 7), dtype=np.float32)
    assert (segment(again) == segment(heat)).all()
    assert segment(heat).sum() >= 3
