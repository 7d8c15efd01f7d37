"""Quality of pictures: planted faults are flagged, and thresholds can be left out."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from cpp.encoding.quality import FLAGS, Quality, Thresholds, flags, quality

DEFAULTS = Thresholds(dark=0.32, bright=0.05, blurred=0.29, constant=0.3, aspect=0.35, size=3.0)


def photograph(width: int = 240, height: int = 180) -> Image.Image:
    """Blocks of random colours under noise, with sharp edges."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (height // 20, width // 20, 3)).repeat(20, axis=0).repeat(20, axis=1)
    return Image.fromarray((blocks + rng.normal(0, 8, blocks.shape)).clip(0, 255).astype(np.uint8))


def flagged(images: list[Image.Image], thresholds: Thresholds = DEFAULTS) -> list[set[str]]:
    """The flags of pictures in a collection whose sizes have the quartiles 100 and 200."""
    rows = [(*image.size, *quality(image)) for image in images]
    measures = dict(zip(("width", "height", *Quality._fields), np.array(rows, np.float64).T, strict=True))
    found = flags(measures, (100.0, 200.0), thresholds)
    assert tuple(found) == FLAGS
    return [{name for name in FLAGS if found[name][i]} for i in range(len(images))]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (photograph(), set()),
        (photograph().point(lambda value: value // 8), {"dark"}),
        (Image.blend(photograph(), Image.new("RGB", (240, 180), "white"), 0.97), {"bright"}),
        (photograph().filter(ImageFilter.GaussianBlur(12)), {"blurred"}),
        (photograph(240, 60), {"odd_aspect"}),
        (photograph(600, 600), {"odd_size"}),
    ],
    ids=["good", "dark", "bright", "blurred", "long", "large"],
)
def test_a_planted_fault_is_flagged(image: Image.Image, expected: set[str]) -> None:
    assert expected <= flagged([image])[0]
    if not expected:
        assert flagged([image]) == [set()]


def test_a_picture_of_one_colour_is_constant() -> None:
    assert "constant" in flagged([Image.new("RGB", (150, 150), "grey")])[0]


def test_without_thresholds_and_without_measures_there_are_no_flags() -> None:
    grey = Image.new("RGB", (600, 60))
    assert flagged([grey], Thresholds(*[None] * 6)) == [set()]
    unknown = {name: np.array([np.nan]) for name in ("width", "height", *Quality._fields)}
    assert not any(values.any() for values in flags(unknown, (100.0, 200.0), DEFAULTS).values())
