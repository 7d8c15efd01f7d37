"""Signatures: copies of a picture have nearly the same, other pictures and other colours do not."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageOps

from cpp.demo.drawing import KINDS, draw
from cpp.encoding.signature import SIZE, differing_bits, same_picture, signature


def pictures(n: int) -> list[Image.Image]:
    rng = np.random.default_rng(3)
    return [draw(kind, rng)[0] for _, kind in zip(range(n), list(KINDS) * n, strict=False)]


def compressed(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


def cropped(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    w, h = image.size
    return image.crop((round(left * w), round(top * h), round((1 - right) * w), round((1 - bottom) * h)))


@pytest.mark.parametrize(
    "change",
    [
        lambda image: compressed(image, 50),
        lambda image: image.resize((image.width * 2, image.height)),
        ImageOps.mirror,
        lambda image: cropped(image, 0.03, 0.03, 0.03, 0.03),
        lambda image: cropped(image, 0.06, 0.03, 0.03, 0.06),
    ],
    ids=["compressed", "scaled", "mirrored", "cropped", "cropped unevenly"],
)
def test_copies_have_nearly_the_same_signature(change: Callable[[Image.Image], Image.Image]) -> None:
    originals = pictures(24)
    A, B = (np.stack([signature(image) for image in images]) for images in (originals, map(change, originals)))
    assert A.shape == (24, SIZE)
    assert same_picture(A, B).mean() >= 0.8
    assert same_picture(B, A).tolist() == same_picture(A, B).tolist()


def test_other_pictures_and_other_colours_are_not_the_same() -> None:
    S = np.stack([signature(image) for image in pictures(24)])
    a, b = np.triu_indices(24, 1)
    assert not same_picture(S[a], S[b]).any()
    red, blue = (Image.new("RGB", (64, 64), colour) for colour in ("#800000", "#000080"))
    for image in (red, blue):
        image.paste("white", (10, 20, 30, 50))
    A, B = (signature(image)[None] for image in (red, blue))
    assert differing_bits(A, B)[0] < 26
    assert not same_picture(A, B)[0]


def test_an_unknown_picture_is_never_the_same() -> None:
    A = signature(pictures(1)[0])[None]
    assert same_picture(A, A)[0]
    unknown = np.zeros_like(A)
    assert not same_picture(A, unknown)[0]
    assert not same_picture(unknown, unknown)[0]
    assert len(same_picture(A[:0], A[:0])) == 0
