"""Pixels equal those of open_clip's transform bit for bit; bad images are rejected with a reason."""

import contextlib
import io
import struct
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image, PngImagePlugin

from cpp.encoding.images import Limits, Preprocess, decode, extension, prepare
from cpp.report.thumbnails import thumbnails
from cpp.sources import shards
from cpp.sources.samples import Reason, Rejected, Sample
from tests.support.pictures import encoded, picture, png

MODES = ["RGB", "L", "P", "1", "CMYK"]
FORMAT = {"CMYK": "JPEG"}


def reason(data: bytes, limits: Limits | None = None) -> Reason:
    with pytest.raises(Rejected) as caught:
        decode(data, limits or Limits())
    return caught.value.reason


def ours(config: PreprocessCfg) -> Preprocess:
    size = config.size if isinstance(config.size, tuple) else (config.size, config.size)
    return Preprocess(size, config.mean, config.std, config.interpolation, config.resize_mode, config.fill_color)


def same(data: bytes, config: PreprocessCfg) -> bool:
    expected = image_transform_v2(config, is_train=False)(Image.open(io.BytesIO(data)))
    pixels = torch.from_numpy(ours(config)(decode(data, Limits())).copy()).permute(2, 0, 1)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (config.mean, config.std))
    return torch.equal((pixels.float() / 255 - mean) / std, expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
def test_pixels_equal_those_of_open_clip_for_every_mode_and_shape(mode: str, resize_mode: str) -> None:
    for size, interpolation, target in product(
        [(90, 60), (61, 97), (40, 40), (32, 48), (17, 131)], ["bicubic", "bilinear"], [32, 40, (24, 40), (48, 30)]
    ):
        config = PreprocessCfg(size=target, interpolation=interpolation, resize_mode=resize_mode, fill_color=7)
        assert same(encoded(picture(size=size).convert(mode), FORMAT.get(mode, "PNG")), config), (
            size,
            interpolation,
            target,
        )


def test_exif_orientation_is_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert same(encoded(picture(), "JPEG", exif=exif), PreprocessCfg(size=32))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_an_opaque_alpha_channel_changes_nothing(mode: str) -> None:
    image = picture(mode)
    image.putalpha(255)
    assert same(encoded(image), PreprocessCfg(size=32))


def icon(mode: str) -> bytes:
    """A black square on a transparent ground."""
    image = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (10, 10, 30, 30))
    if mode == "P":
        return encoded(image.quantize(2), "GIF", transparency=image.quantize(2).getpixel((0, 0)))
    if mode in ("RGB", "L"):  # one colour is transparent
        return encoded(
            Image.new(mode, (40, 40), "red" if mode == "RGB" else 9), transparency=(255, 0, 0) if mode == "RGB" else 9
        )
    return encoded(image.convert(mode), "TIFF" if mode == "PA" else "PNG")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L"])
def test_transparent_pixels_are_white(mode: str) -> None:
    pixels = np.asarray(decode(icon(mode), Limits()).convert("L"))
    assert pixels[0, 0] == 255
    assert pixels[20, 20] == (255 if mode in ("RGB", "L") else 0)


def test_parts_of_an_animated_webp_without_a_frame_are_white() -> None:
    icon = Image.new("RGBA", (24, 24))
    icon.paste((200, 30, 30, 255), (6, 6, 18, 18))  # of which libwebp stores this square alone, without transparency
    another = Image.new("RGBA", (24, 24), "blue")
    data = encoded(icon, "WEBP", save_all=True, append_images=[another], lossless=True)
    decoded = decode(data, Limits())
    assert [decoded.getpixel(place) for place in ((0, 0), (12, 12))] == [(255, 255, 255), (200, 30, 30)]
    opaque = encoded(another, "WEBP", save_all=True, append_images=[icon], lossless=True)
    assert decode(opaque, Limits()).getpixel((0, 0)) == (0, 0, 255)


def test_white_icons_lie_on_black_and_empty_pictures_on_white() -> None:
    image = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    assert decode(encoded(image), Limits()).getpixel((0, 0)) == (255, 255, 255)
    image.paste((255, 255, 255, 255), (10, 10, 30, 30))
    shown = decode(encoded(image), Limits())
    assert (shown.getpixel((0, 0)), shown.getpixel((20, 20))) == ((0, 0, 0), (255, 255, 255))


def test_half_transparent_pixels_are_mixed_with_white() -> None:
    image = decode(encoded(Image.new("RGBA", (4, 4), (0, 100, 255, 51))), Limits())
    assert image.mode == "RGB"
    assert image.getpixel((0, 0)) == (204, 224, 255)


def test_the_thumbnail_shows_the_white_ground() -> None:
    (thumbnail,) = thumbnails(icon("RGBA"), [40])
    assert thumbnail is not None
    shown = Image.open(io.BytesIO(thumbnail))
    assert shown.mode == "RGB"
    assert np.abs(np.subtract(shown.getpixel((2, 2)), 255)).max() < 5  # type: ignore[call-overload]


def unsigned_tiff(*row: int) -> bytes:
    signed = np.array([row], np.uint32).view(np.int32)
    data = encoded(Image.fromarray(signed), "TIFF")
    tag, value = struct.pack("<HHI", 339, 3, 1), struct.pack("<I", 2)
    assert data.count(tag + value) == 1
    return data.replace(tag + value, tag + struct.pack("<I", 1))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"P5\n3 1\n65535\n\0\0\x7f\xff\xff\xff", [0, 127, 255]),
        (b"P5\n3 1\n1023\n\0\0\x01\xff\x03\xff", [0, 127, 255]),
        (encoded(Image.fromarray(np.array([[0, 500, 1000]], np.int32)), "TIFF"), [0, 128, 255]),
        (encoded(Image.fromarray(np.array([[-100, 0, 100]], np.int32)), "TIFF"), [0, 128, 255]),
        (unsigned_tiff(0, 2**31, 2**32 - 1), [0, 128, 255]),
        (encoded(Image.fromarray(np.array([[0, 0.5, 1]], np.float32)), "TIFF"), [0, 128, 255]),
        (encoded(Image.fromarray(np.array([[0.25, 0.5, 0.75]], np.float32)), "TIFF"), [64, 128, 191]),
        (encoded(Image.fromarray(np.array([[-3, 0, 3]], np.float32)), "TIFF"), [0, 128, 255]),
        (encoded(Image.fromarray(np.array([[np.nan, 200, 100]], np.float32)), "TIFF"), [0, 255, 0]),
        (encoded(Image.fromarray(np.array([[7, 7, 7]], np.int32)), "TIFF"), [0, 0, 0]),
        (encoded(Image.fromarray(np.array([[0, 32768, 65535]], ">u2")), "TIFF"), [0, 128, 255]),
        (encoded(Image.fromarray(np.array([[0, 1000, 65535]], np.uint16)), transparency=1000), [0, 255, 255]),
        (b"Pf\n3 1\n-1.0\n" + np.array([0, 0.5, 1], "<f4").tobytes(), [0, 128, 255]),
    ],
)
def test_deep_greys_keep_their_shades(data: bytes, expected: list[int]) -> None:
    image = decode(data, Limits())
    assert image.mode == "L"
    assert np.asarray(image).ravel().tolist() == expected


def test_a_tiff_whose_white_is_zero_is_inverted() -> None:
    deep = Image.fromarray(np.array([[0, 65535]], np.uint16))
    data = encoded(deep, "TIFF", tiffinfo={262: 0})
    assert np.asarray(decode(data, Limits())).tolist() == [[255, 0]]


def test_a_png_with_megabytes_of_text_and_profile_is_decoded() -> None:
    text = PngImagePlugin.PngInfo()
    for i in range(3):
        text.add_text(f"parameters{i}", "x" * 3_000_000, zip=i > 0)
    plain, long = encoded(picture()), encoded(picture(), pnginfo=text, icc_profile=bytes(5_000_000))
    np.testing.assert_array_equal(decode(long, Limits()), decode(plain, Limits()))
    assert thumbnails(long, [64]) == thumbnails(plain, [64])


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"\xff\x0a", Reason.JPEG_XL),
        (b"8BPS", Reason.FORMAT),
        (b"II*\0\x10\0\0\0CR\x02\0", Reason.RAW),
        (b"\0\0\0\x18ftypcrx ", Reason.RAW),
    ],
)
def test_formats_that_are_not_read_have_a_reason(head: bytes, expected: Reason) -> None:
    assert reason(head + bytes(2000)) == expected


def test_a_dng_is_camera_raw_and_not_its_preview() -> None:
    assert reason(encoded(picture(), "TIFF", tiffinfo={50706: b"\1\4\0\0"})) == Reason.RAW


def test_heic_is_read_with_its_package_and_named_without(monkeypatch: pytest.MonkeyPatch) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    data = encoded(Image.new("RGB", (64, 48), (200, 30, 30)), "HEIF")
    assert decode(data, Limits()).size == (64, 48)
    assert extension(data) == "heic"
    monkeypatch.delitem(Image.OPEN, "HEIF")
    assert reason(data) == Reason.HEIC


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_greyscale_equals_8_bit(kind: str) -> None:
    grey = picture("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    assert deep.mode == "I;16"
    image = decode(encoded(deep, kind), Limits())
    assert image.mode == "L"
    np.testing.assert_array_equal(np.asarray(image), np.asarray(grey))
    assert thumbnails(encoded(deep, kind), [64]) == thumbnails(encoded(grey, kind), [64]) != [None]


@pytest.mark.parametrize(("kind", "suffix"), [("GIF", "gif"), ("WEBP", "webp"), ("PNG", "png")])
def test_the_first_frame_of_an_animation_is_used(kind: str, suffix: str) -> None:
    frames = [picture(seed=seed) for seed in range(3)]
    data = encoded(
        frames[0], kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "WEBP" else {})
    )
    assert getattr(Image.open(io.BytesIO(data)), "n_frames", 1) == 3
    assert same(data, PreprocessCfg(size=32))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_truncated_images_are_rejected(kind: str) -> None:
    data = encoded(picture(size=(40, 30)), kind)
    whole = np.asarray(decode(data, Limits()).convert("RGB"))
    for end in range(0, len(data), max(1, len(data) // 40)):
        with contextlib.suppress(Rejected):
            np.testing.assert_array_equal(np.asarray(decode(data[:end], Limits()).convert("RGB")), whole)


@pytest.mark.filterwarnings("default::PIL.Image.DecompressionBombWarning")
def test_bytes_that_are_not_images_have_distinct_reasons() -> None:
    jpeg = encoded(picture(), "JPEG")
    assert reason(b"") == Reason.EMPTY
    assert reason(b"<html><body>404</body></html>") == Reason.NOT_AN_IMAGE
    assert reason(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n") == Reason.NOT_AN_IMAGE
    assert reason(png(0, 10)) == Reason.NOT_AN_IMAGE
    assert reason(png(10, 10)) == Reason.DAMAGED
    assert reason(jpeg[: len(jpeg) // 2]) == Reason.DAMAGED
    assert reason(png(60_000, 60_000)) == Reason.TOO_MANY_PIXELS
    assert reason(png(11_000, 10_000)) == Reason.TOO_MANY_PIXELS
    assert reason(png(10_000, 10)) == Reason.TOO_LONG
    assert reason(jpeg, Limits(max_bytes=len(jpeg) - 1)) == Reason.TOO_MANY_BYTES
    assert reason(jpeg, Limits(max_pixels=90 * 60 - 1)) == Reason.TOO_MANY_PIXELS
    assert reason(jpeg, Limits(max_aspect=1.4)) == Reason.TOO_LONG
    assert decode(jpeg, Limits(len(jpeg), 90 * 60, 1.5)).size == (90, 60)


def test_preparing_keeps_order_and_decodes_once_for_all_transforms() -> None:
    small, large = (ours(PreprocessCfg(size=size)) for size in (16, 24))
    good = encoded(picture(), "JPEG")
    samples = [Sample(str(i), good if i % 3 else b"junk", {"n": i}) for i in range(30)]
    samples[4] = Sample("4", None, {}, Reason.LINK)
    samples[5] = Sample("5", good, {}, Reason.BAD_JSON)
    done = list(prepare(samples, [small, large, small], Limits(), threads=3, waiting=5))
    assert [item.key for item in done] == [str(i) for i in range(30)]
    assert {item.key: item.reason for item in done if item.pixels is None} == {
        **{str(i): Reason.NOT_AN_IMAGE for i in range(0, 30, 3)},
        "4": Reason.LINK,
        "5": Reason.BAD_JSON,
    }
    first = done[1].pixels
    assert first is not None
    assert [p.shape for p in first] == [(16, 16, 3), (24, 24, 3), (16, 16, 3)]
    assert first[0] is first[2]
    assert done[1].metadata == {"n": 1}


def test_preparing_reads_ahead_within_its_limit() -> None:
    drawn = 0

    def samples() -> Iterator[Sample]:
        nonlocal drawn
        for i in range(100):
            drawn = i + 1
            yield Sample(str(i), encoded(picture(size=(8, 8))))

    stream = prepare(samples(), [ours(PreprocessCfg(size=8))], Limits(), threads=2, waiting=6)
    for taken in range(1, 20):
        next(stream)
        assert taken < drawn <= taken + 6


def test_an_error_of_the_source_is_raised_after_the_earlier_samples() -> None:
    def samples() -> Iterator[Sample]:
        for i in range(7):
            yield Sample(str(i), encoded(picture(size=(8, 8))))
        raise ValueError("00000.tar is cut short")

    stream = prepare(samples(), [ours(PreprocessCfg(size=8))], Limits(), threads=2, waiting=16)
    assert [next(stream).key for _ in range(7)] == [str(i) for i in range(7)]
    with pytest.raises(ValueError, match="cut short"):
        next(stream)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("JPEG", "jpg"),
        ("MPO", "jpg"),
        ("PNG", "png"),
        ("WEBP", "webp"),
        ("GIF", "gif"),
        ("BMP", "bmp"),
        ("TIFF", "tif"),
        ("PPM", "ppm"),
    ],
)
def test_the_extension_follows_the_bytes(kind: str, expected: str) -> None:
    more: dict[str, object] = {"save_all": True, "append_images": [picture()]} if kind == "MPO" else {}
    file = io.BytesIO()
    picture().save(file, kind, **more)
    assert extension(file.getvalue()) == expected


def test_unreadable_bytes_have_no_extension() -> None:
    assert extension(b"") is extension(b"<html>") is extension(b"%!PS-Adobe-3.0 EPSF-3.0\n") is None


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("cc3m-img2dataset/00000.tar", "webdataset"),
        ("caltech101-clip-b32/images/00000.tar", "webdataset"),
        ("coco-mini", "folder"),
    ],
)
def test_pixels_of_photographs_equal_those_of_open_clip(real_data: Path, path: str, kind: shards.Format) -> None:
    shard = next(iter(shards.shards(shards.Images(kind, (str(real_data / path),))).values()))
    n = 25 if kind == "folder" else 120
    data = [sample.image for sample, _ in zip(shards.read_samples(shard), range(n), strict=False)]
    squash = PreprocessCfg(size=256, mean=(0.5,) * 3, std=(0.5,) * 3, resize_mode="squash")  # SigLIP's
    assert all(image is not None and same(image, PreprocessCfg()) for image in data)
    assert all(image is not None and same(image, squash) for image in data[:: n // 12])
