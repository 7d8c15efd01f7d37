"""Thumbnails: the right picture for a key, at the right size; what is broken is no reason to stop."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cpp.report.thumbnails import ENLARGED, LARGE, MIDDLE, SMALL, caption, large_pictures, read, side, thumbnails
from tests.support.datasets import COLOURS, Dataset


def jpeg(size: tuple[int, int] = (300, 100), colour: tuple[int, int, int] = (200, 30, 30)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "JPEG")
    return out.getvalue()


def opened(data: bytes | None) -> Image.Image:
    assert data is not None
    return Image.open(io.BytesIO(data), formats=["WEBP"])


def test_thumbnails_fit_and_bad_bytes_have_none() -> None:
    large, small = thumbnails(jpeg(), [LARGE, SMALL])
    assert opened(large).size == (LARGE, 53)
    assert opened(small).size == (SMALL, 24)
    assert thumbnails(b"junk", [LARGE, SMALL]) == [None, None]
    assert thumbnails(b"", [LARGE]) == [None]


def test_a_picture_is_enlarged_only_if_it_is_clearly_larger_than_the_copy_on_the_page() -> None:
    enlarged, large = thumbnails(jpeg((900, 600)), [ENLARGED, LARGE])
    assert Image.open(io.BytesIO(enlarged or b""), formats=["JPEG"]).size == (ENLARGED, 320)
    assert opened(large).size == (LARGE, 107)
    assert thumbnails(jpeg((200, 100)), [ENLARGED, LARGE])[0] is None
    (smaller, _) = thumbnails(jpeg((200, 100)), [ENLARGED, SMALL])
    assert Image.open(io.BytesIO(smaller or b"")).size == (200, 100)


def test_a_picture_that_is_cut_short_is_shown_as_far_as_it_goes_where_that_is_asked() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8))
    out = io.BytesIO()
    noise.save(out, "JPEG")
    half = out.getvalue()[: len(out.getvalue()) // 2]
    assert thumbnails(half, [LARGE]) == [None]
    (picture,) = thumbnails(half, [LARGE], damaged=True)
    pixels = np.asarray(opened(picture).convert("L"), float)
    assert pixels[:50].std() > 5 * pixels[-30:].std()
    assert thumbnails(half, [LARGE]) == [None]  # and that changes nothing for the next


def test_a_bomb_is_not_decoded() -> None:
    out = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(out, "PNG")
    assert thumbnails(out.getvalue(), [LARGE], damaged=True) == [None]


def test_transparent_pictures_lie_on_white_and_turned_ones_are_turned() -> None:
    out = io.BytesIO()
    Image.new("RGBA", (50, 50), (0, 0, 0, 0)).save(out, "PNG")
    (picture,) = thumbnails(out.getvalue(), [SMALL])
    assert min(low for low, _ in opened(picture).convert("RGB").getextrema()) > 250
    out, turned = io.BytesIO(), Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (300, 100)).save(out, "JPEG", exif=turned)
    (picture,) = thumbnails(out.getvalue(), [SMALL])
    assert opened(picture).size == (24, SMALL)


def test_every_image_has_its_own_picture_in_the_requested_sizes(dataset: Dataset) -> None:
    shard = str(dataset.folder / "data/images/00001.tar")
    with tarfile.open(shard) as tar:
        names = [name.removesuffix(".jpg") for name in tar.getnames() if name.endswith(".jpg")]
    first, second = (shard, names[3]), (shard, names[9])
    both = {"large": LARGE, "small": SMALL}
    pictures = read({first: both, second: {"small": SMALL}, (shard, "nowhere"): both, (None, names[3]): both}, 2)
    assert {place: set(of_place) for place, of_place in pictures.items()} == {first: set(both), second: {"small"}}
    assert all(pictures[first].values())
    with tarfile.open(shard) as tar:
        for place in (first, second):
            original = Image.open(tar.extractfile(f"{place[1]}.jpg")).resize((1, 1)).getpixel((0, 0))  # type: ignore[arg-type]
            assert np.abs(np.subtract(original, COLOURS)).max(1).min() < 12
            shown = opened(pictures[place]["small"]).convert("RGB").resize((1, 1)).getpixel((0, 0))
            assert np.abs(np.subtract(shown, original)).max() < 12


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, None),
        ("", None),
        ("  a\n cat ", "a cat"),
        ([], None),
        (["", "two"], "two"),
        (7, "7"),
        ("x" * 300, "x" * 199 + "…"),
    ],
)
def test_captions(value: object, said: str | None) -> None:
    assert caption(value) == said


def test_pictures_shrink_where_clusters_are_many_and_not_on_pages_of_their_own() -> None:
    assert [side(n, 500) for n in (1, 200, 201, 500, 501)] == [LARGE, LARGE, MIDDLE, MIDDLE, LARGE]


def test_a_missing_tar_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="gone"):
        read({(str(tmp_path / "gone.tar"), "a"): {"large": LARGE}}, 1)


def test_pictures_of_several_shards_are_read_by_shard_and_key(dataset: Dataset) -> None:
    first, second = (str(dataset.folder / f"data/images/{n:05d}.tar") for n in (0, 1))
    places = [(first, "00000"), (second, "10001"), (second, "nowhere"), (None, "00000")]
    pictures = large_pictures(places, 1)
    assert list(pictures) == places[:2]
    assert all(opened(data).format == "WEBP" for data in pictures.values())
