"""Tars as img2dataset writes them, and with every kind of damage: each row comes out, or its reason."""

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset

from cpp.encoding import images
from cpp.sources import shards
from cpp.sources.samples import Reason, Sample
from cpp.sources.shards import Images, ImageShard, read, read_images
from cpp.sources.tar import DamagedTarError, TarShard
from tests.cpp.encoding.test_images import encoded, picture, png

JPEG = encoded(picture(), "JPEG")
Files = Iterable[tuple[str | tarfile.TarInfo, bytes]]


def write_tar(path: Path, files: Files, **options: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(data) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(data))
    return str(path)


def entry(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def write_images(folder: Path, names: Iterable[str]) -> str:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(JPEG + name.encode())
    return str(folder)


def only(format: shards.Format, *path: str, **settings: Any) -> ImageShard:
    (shard,) = shards.shards(Images(format, path, **settings)).values()
    return shard


def samples(path: Path | str, max_bytes: int = shards.MAX_BYTES) -> list[Sample]:
    return list(read(only("webdataset", str(path)), max_bytes))


def about(found: Iterable[Sample]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(sample.key, sample.metadata) for sample in found]


def test_a_tar_as_img2dataset_writes_it(tmp_path: Path) -> None:
    fields = {
        "caption": "a cat",
        "key": "000000001",
        "width": 3,
        "nsfw": 0.5,
        "ok": True,
        "exif": None,
        "tags": ["a", "b"],
    }
    files = [("000000001.JPG", JPEG), ("000000001.txt", b"a cat"), ("000000001.json", json.dumps(fields).encode())]
    (sample,) = samples(write_tar(tmp_path / "00000.tar", files))
    assert sample == Sample("000000001", JPEG, {"caption": "a cat", **fields})


@pytest.mark.parametrize("extension", ["jpg", "jpeg", "png", "webp", "JPEG", "Png"])
def test_images_in_any_case_with_the_class_as_label(tmp_path: Path, extension: str) -> None:
    (sample,) = samples(write_tar(tmp_path / "a.tar", [(f"d/1.{extension}", JPEG), ("d/1.cls", b"7\n")]))
    assert sample == Sample("d/1", JPEG, {"label": 7})


def test_grouping_is_that_of_webdataset(tmp_path: Path) -> None:
    files = [
        (f"{key}.{ext}", JPEG + f"{key}{ext}".encode())
        for key, extensions in {
            "a": ("jpg", "txt"),
            "./b": ("png",),
            "c/d.e/f": ("txt", "jpeg"),
            "g": ("jpg", "seg.png", "x.y"),
        }.items()
        for ext in extensions
    ]
    tar = write_tar(tmp_path / "a.tar", [f for f in files if not f[0].endswith("txt")])
    with open(tar, "rb") as file:
        members = ({"__url__": tar, **m} for m in webdataset.tariterators.tar_file_iterator(file))
        expected = list(webdataset.tariterators.group_by_keys(members))
    found = samples(tar)
    assert [s.key for s in found] == [s["__key__"] for s in expected]
    assert all(s.image in e.values() for s, e in zip(found, expected, strict=True))


def test_names_with_dots_repeated_keys_and_second_images_are_all_kept(tmp_path: Path) -> None:
    names = [
        "p.1.jpg",
        "p.1.txt",
        "p.2.jpg",
        "p.2.txt",
        "k.jpg",
        "k.txt",
        "k.jpg",
        "k.txt",
        "m.jpg",
        "m.png",
        "m.txt",
        "k.jpg",
    ]
    found = samples(write_tar(tmp_path / "a.tar", [(name, name.encode()) for name in names]))
    assert [(s.key, s.image, s.metadata.get("caption")) for s in found] == [
        ("p.1", b"p.1.jpg", "p.1.txt"),
        ("p.2", b"p.2.jpg", "p.2.txt"),
        ("k", b"k.jpg", "k.txt"),
        ("k", b"k.jpg", "k.txt"),
        ("m", b"m.jpg", "m.txt"),
        ("m", b"m.png", "m.txt"),
        ("k", b"k.jpg", None),
    ]


def test_a_tar_of_one_prefix_is_not_held_in_memory(tmp_path: Path) -> None:
    files = [(f"www.site.{i}.{ext}", str(i).encode()) for i in range(100) for ext in ("jpg", "txt")]
    stream = read(only("webdataset", write_tar(tmp_path / "a.tar", files)))
    found = list(stream)
    assert about(found) == [(f"www.site.{i}", {"caption": str(i)}) for i in range(100)]


def test_the_table_beside_a_tar_adds_what_the_samples_lack(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "00000.tar", [("01.jpg", JPEG), ("01.json", b'{"caption": "own"}'), ("03.jpg", JPEG)])
    before = only("webdataset", tar)
    table = {"key": ["01", "02", "03"], "caption": ["other", "failed", "third"], "punsafe": [0.25, 0.5, None]}
    pq.write_table(pa.table(table), tmp_path / "00000.parquet")
    shard = only("webdataset", tar)
    assert about(read(shard)) == [
        ("01", {"caption": "own", "punsafe": 0.25}),
        ("03", {"caption": "third", "punsafe": None}),
    ]
    assert before.fingerprint != shard.fingerprint


DAMAGE: dict[str, tuple[bytes | str, Reason | None]] = {
    "whole": (JPEG, None),
    "grey": (encoded(picture("L"), "JPEG"), None),
    "cmyk": (encoded(picture("CMYK"), "JPEG"), None),
    "sixteen": (encoded(picture("I;16")), None),
    "palette": (encoded(picture("RGBA").quantize(16)), None),
    "grey-alpha": (encoded(picture("LA")), None),
    "alpha": (encoded(picture("RGBA")), None),
    "one-bit": (encoded(picture("1")), None),
    "png": (encoded(picture()), None),
    "webp": (encoded(picture(), "WEBP"), None),
    "bmp": (encoded(picture(), "BMP"), None),
    "tiff": (encoded(picture(), "TIFF"), None),
    "gif": (encoded(picture(), "GIF"), None),
    "gif-moving": (encoded(picture(), "GIF", save_all=True, append_images=[picture(seed=1)]), None),
    "webp-moving": (encoded(picture(), "WEBP", save_all=True, append_images=[picture(seed=1)]), None),
    "png-moving": (encoded(picture(), "PNG", save_all=True, append_images=[picture(seed=1)]), None),
    "one-pixel": (encoded(picture(size=(1, 1))), None),
    "trailing": (JPEG + b"more", None),
    "../../outside": (JPEG, None),
    "/etc/absolute": (JPEG, None),
    "pipe:touch here": (JPEG, None),
    "s3://bucket/name": (JPEG, None),
    "spaces and 'quotes' \"": (JPEG, None),
    "ünïcode-☃": (JPEG, None),
    "x" * 300: (JPEG, None),
    "empty": (b"", Reason.EMPTY),
    "cut-half": (JPEG[: len(JPEG) // 2], Reason.DAMAGED),
    "cut-end": (JPEG[:-200], Reason.DAMAGED),
    "cut-start": (JPEG[:3], Reason.NOT_AN_IMAGE),
    "cut-png": (encoded(picture())[:-300], Reason.DAMAGED),
    "cut-webp": (encoded(picture(), "WEBP")[:-100], Reason.DAMAGED),
    "cut-gif": (encoded(picture(), "GIF")[:900], Reason.DAMAGED),
    "zeros": (bytes(5000), Reason.NOT_AN_IMAGE),
    "text": (b"just words", Reason.NOT_AN_IMAGE),
    "html": (b"<!DOCTYPE html><html><body>Not found</body></html>", Reason.NOT_AN_IMAGE),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', Reason.NOT_AN_IMAGE),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n", Reason.NOT_AN_IMAGE),
    "pdf": (b"%PDF-1.7\n%%EOF\n", Reason.NOT_AN_IMAGE),
    "zip": (b"PK\x03\x04" + bytes(50), Reason.NOT_AN_IMAGE),
    "no-width": (png(0, 9), Reason.NOT_AN_IMAGE),
    "no-height": (png(9, 0), Reason.NOT_AN_IMAGE),
    "no-data": (png(9, 9), Reason.DAMAGED),
    "bad-data": (png(9, 9, b"not deflate"), Reason.DAMAGED),
    "bomb": (png(100_000, 100_000), Reason.TOO_MANY_PIXELS),
    "large": (png(10_000, 9_500), Reason.TOO_MANY_PIXELS),
    "thin": (png(9_000, 3), Reason.TOO_LONG),
    "heavy": (JPEG + bytes(200_000), Reason.TOO_MANY_BYTES),
    "json": ("json:{not json", Reason.BAD_JSON),
    "json-list": ("json:[1, 2]", Reason.BAD_JSON),
    "json-deep": ("json:" + "[" * 100_000, Reason.BAD_JSON),
    "json-surrogate": ('json:{"caption": "\\ud800"}', Reason.BAD_JSON),
    "json-number": ('json:{"n": 1' + "0" * 5000 + "}", Reason.BAD_JSON),
    "caption": ("txt:\udcff\udcfe", Reason.BAD_TEXT),
    "class": ("cls:\udcff", Reason.BAD_TEXT),
    "alone": ("alone", Reason.NO_IMAGE),
    "other": ("other", Reason.NO_IMAGE),
    "bare": ("bare", Reason.NO_IMAGE),
    "symbolic": ("symbolic", Reason.LINK),
    "hard": ("hard", Reason.LINK),
    "fifo": ("fifo", Reason.LINK),
}


def damaged_files() -> Files:
    links = {"symbolic": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "fifo": tarfile.FIFOTYPE}
    for key, (content, _) in DAMAGE.items():
        if isinstance(content, bytes):
            yield f"{key}.jpg", content
        elif ":" in content:
            extension, _, data = content.partition(":")
            yield f"{key}.jpg", JPEG
            yield f"{key}.{extension}", data.encode(errors="surrogateescape")
        elif content in links:
            yield entry(f"{key}.jpg", links[content], "whole.jpg"), b""
        else:
            yield {"alone": "alone.txt", "other": "other.mp4", "bare": "bare"}[content], b"text"


@pytest.mark.filterwarnings("default::PIL.Image.DecompressionBombWarning", "ignore::UserWarning")
def test_a_shard_with_every_kind_of_damage_gives_the_undamaged_rows_and_a_reason_for_each_other(tmp_path: Path) -> None:
    hidden: Files = [("a/.DS_Store", b"x"), ("._whole.jpg", b"x"), ("__meta__/x.json", b"x")]
    tar = write_tar(tmp_path / "bad.tar", [(entry("folder", tarfile.DIRTYPE), b""), *hidden, *damaged_files()])
    clip = images.Preprocess((32, 32), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    stream = read(only("webdataset", tar), max_bytes=150_000)
    done = list(images.prepare(stream, [clip], images.Limits(), threads=2, waiting=8))
    assert [(item.key, item.reason) for item in done] == [(key, why) for key, (_, why) in DAMAGE.items()]
    assert all((item.pixels is None) == (item.reason is not None) for item in done)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.tar"]


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_a_tar_cut_anywhere_gives_the_rows_before_the_cut_and_an_error(tmp_path: Path, kind: int) -> None:
    whole = Path(write_tar(tmp_path / "a.tar", [(f"{i}.jpg", JPEG) for i in range(4)], format=kind)).read_bytes()
    member = 512 + -(-len(JPEG) // 512) * 512
    for end in [0, 100, 512, 600, member, member + 1, member + 512, 2 * member + 700, 4 * member, 4 * member + 100]:
        (tmp_path / "cut.tar").write_bytes(whole[:end])
        found = list[Sample]()
        with pytest.raises(DamagedTarError, match=r"cut\.tar is cut short or damaged"):
            found.extend(read(only("webdataset", str(tmp_path / "cut.tar"))))
        assert [(s.key, s.image) for s in found] == [(str(i), JPEG) for i in range(len(found))]
        assert len(found) >= end // member - 1
    assert len(samples(tmp_path / "a.tar")) == 4


def test_rubbish_in_a_tar_is_damage_and_not_its_end(tmp_path: Path) -> None:
    data = bytearray(Path(write_tar(tmp_path / "a.tar", [(f"{i}.jpg", JPEG) for i in range(4)])).read_bytes())
    member = 512 + -(-len(JPEG) // 512) * 512
    data[2 * member : 2 * member + 512] = b"rubbish!" * 64
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(DamagedTarError, match="invalid header where a member"):
        samples(tmp_path / "a.tar")
    (tmp_path / "a.tar").write_bytes(b"<html>not a tar</html>" * 99)
    with pytest.raises(DamagedTarError, match=r"a\.tar is cut short or damaged"):
        samples(tmp_path / "a.tar")


def test_an_extended_header_cannot_fill_the_memory(tmp_path: Path) -> None:
    info = entry("././@LongLink", tarfile.GNUTYPE_LONGNAME)
    info.size = 1 << 40
    (tmp_path / "a.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(10_000))
    with pytest.raises(DamagedTarError, match="extended header is too large"):
        samples(tmp_path / "a.tar")


def test_an_empty_tar_has_no_rows(tmp_path: Path) -> None:
    assert samples(write_tar(tmp_path / "a.tar", [])) == []


def test_pictures_are_found_by_key_without_reading_the_rest(tmp_path: Path) -> None:
    files = [(f"{key}.jpg", key.encode()) for key in "abcda"]
    tar = Path(write_tar(tmp_path / "a.tar", files))
    tar.write_bytes(tar.read_bytes()[: 1024 * 4])
    assert read_images(str(tar), ["c", "a"]) == {"c": b"c", "a": b"a"}
    folder = write_images(tmp_path / "f", ["a.jpg", "b/c.jpg"])
    assert read_images(only("folder", folder), ["b/c.jpg", "../a.tar"]) == {"b/c.jpg": JPEG + b"b/c.jpg"}


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_picked_samples_are_those_that_are_read_and_a_plain_tar_is_read_where_they_lie(
    tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for i in range(40):
            for suffix, data in (("jpg", bytes([i]) * 100_000), ("txt", f"caption {i}".encode())):
                info = tarfile.TarInfo(f"in/{i:04d}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    shard = TarShard(str(path), "")
    keys = {"in/0003", "in/0017", "in/0038"}
    expected = [sample for sample in shard.read(1 << 20) if sample.key in keys]
    assert len(expected) == 3
    taken = 0

    class Counting(io.FileIO):
        def readinto(self, buffer: object) -> int:
            nonlocal taken
            n = super().readinto(buffer)  # type: ignore[arg-type]
            taken += n or 0
            return n or 0

    class Opened:
        def __init__(self, where: str) -> None:
            self.file = io.BufferedReader(Counting(where), 4096)

        def __enter__(self) -> io.BufferedReader:
            return self.file

        def __exit__(self, *exc: object) -> None:
            self.file.close()

    monkeypatch.setattr("cpp.sources.tar.filesystem.opened", Opened)
    assert [sample for sample in shard.pick(keys, 1 << 20) if sample.key in keys] == expected
    if mode == "w":
        assert taken < 0.2 * path.stat().st_size
