"""Every layout is read whole and in order: what is in it comes out with its metadata, or as a row with a reason."""

import io
import json
import os
import pickle
import tarfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from PIL import Image

from cpp import images, sources
from cpp.samples import Reason, Sample, columns, merge, read_json, read_label
from cpp.sources import Images, ImageShard, read, read_images
from cpp.tars import DamagedTarError
from tests.test_images import encoded, picture, png

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


def only(format: sources.Format, *path: str, **settings: Any) -> ImageShard:
    (shard,) = sources.shards(Images(format, path, **settings)).values()
    return shard


def samples(path: Path | str, max_bytes: int = sources.MAX_BYTES) -> list[Sample]:
    return list(read(only("webdataset", str(path)), max_bytes))


def about(found: Iterable[Sample]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(sample.key, sample.metadata) for sample in found]


# --- tars


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


# --- paths


def test_braces_globs_and_lists_name_the_same_shards(tmp_path: Path) -> None:
    for i in range(12):
        write_tar(tmp_path / f"{i:05d}.tar", [("a.jpg", JPEG)])
    (tmp_path / "list.txt").write_text("# a comment\n\n" + "".join(f"{i:05d}.tar\n" for i in range(12)))
    expected = sources.shards(Images("webdataset", (f"{tmp_path}/{{00000..00011}}.tar",)))
    assert list(expected) == [f"{i:05d}" for i in range(12)]
    for path in (f"{tmp_path}/*.tar", f"@{tmp_path}/list.txt", f"{tmp_path}/list.txt", f"{tmp_path}/000[01]?.tar"):
        assert sources.shards(Images("webdataset", (path,))) == expected
    assert list(sources.shards(Images("webdataset", (f"{tmp_path}/{{00003,00001}}.tar",)))) == ["00003", "00001"]
    assert pickle.loads(pickle.dumps(expected)) == expected  # noqa: S301 - its own


def test_any_file_system_of_fsspec_will_do(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "00000.tar", [("a.jpg", JPEG), ("a.txt", b"words")])
    shard = only("webdataset", f"file://{tmp_path}/*.tar")
    assert shard.path == f"file://{tar}"
    assert about(read(shard)) == [("a", {"caption": "words"})]


def test_tars_of_the_same_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for folder in ("train", "val"):
        write_tar(tmp_path / folder / "00000.tar", [])
    assert list(sources.shards(Images("webdataset", (f"{tmp_path}/*/*.tar",)))) == ["train-00000", "val-00000"]


def test_fingerprints_follow_the_files_and_the_settings(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "f", [f"{i}.jpg" for i in range(4)])
    setting = Images("folder", (folder,), shard_size=2)
    before = sources.shards(setting)
    os.utime(f"{folder}/3.jpg", (1, 1))
    after = sources.shards(setting)
    assert before["00000"] == after["00000"]
    assert before["00001"].fingerprint != after["00001"].fingerprint
    assert before["00000"].fingerprint != sources.shards(replace(setting, labels=True))["00000"].fingerprint


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Images("webdataset", ("DIR/{000..002}.tar",)), r"2 of the 3 paths .* the first is .*/001\.tar"),
        (Images("webdataset", ("DIR/*.tgz",)), r"1 of the 1 paths"),
        (Images("webdataset", ("pipe:cat DIR/000.tar",)), "does not run commands"),
        (Images("webdataset", ("@DIR/none.txt",)), r"the list .*none\.txt of images\.path does not exist"),
        (Images("webdataset", ("@DIR/bad.txt",)), "names pipe:cat x: a list holds paths"),
        (Images("webdataset", ()), r"images\.path is empty"),
        (Images("folder", ("DIR/none",)), r"the folder .*/none does not exist"),
        (Images("folder", ("DIR",)), "has no images"),
        (Images("folder", ("DIR", "DIR")), "names 2 folders"),
        (Images("folder", ("DIR",), shard_size=0), r"images\.shard_size is 0, it must be at least 1"),
        (Images("coco", ("DIR",)), r"images\.annotations is empty"),
        (
            Images("table", ("DIR/t.csv",)),
            r"images\.column is None, it must name a column of addresses .* there are url, n",
        ),
        (Images("table", ("DIR/t.csv",), column="url", key="id"), r"has no column 'id' \(images\.key\); it has url, n"),
        (Images("lmdb", ("DIR",)), r"images\.format is 'lmdb', it must be one of webdataset, folder"),  # type: ignore[arg-type]
    ],
)
def test_what_is_wrong_is_said_with_the_setting(tmp_path: Path, settings: Images, message: str) -> None:
    write_tar(tmp_path / "000.tar", [])
    (tmp_path / "t.csv").write_text("url,n\na.jpg,1\n")
    (tmp_path / "bad.txt").write_text("pipe:cat x\n")
    with pytest.raises(ValueError, match=message):
        sources.shards(replace(settings, path=tuple(path.replace("DIR", str(tmp_path)) for path in settings.path)))


# --- folders, COCO, tables


def test_a_folder_is_cut_in_order_and_its_folders_are_labels_when_asked(tmp_path: Path) -> None:
    names = ["b/2.JPG", "a/1.png", "a/x/3.jpeg", "0.webp", ".hidden/4.jpg", "a/.5.jpg", "notes.txt"]
    shards = sources.shards(Images("folder", (write_images(tmp_path, names),), shard_size=3, labels=True))
    assert [[s.key for s in read(shard)] for shard in shards.values()] == [
        ["0.webp", "a/1.png", "a/x/3.jpeg"],
        ["b/2.JPG"],
    ]
    labels = [s.metadata["label"] for shard in shards.values() for s in read(shard)]
    assert labels == [None, "a", "a/x", "b"]
    assert all(s.metadata == {} for s in read(only("folder", str(tmp_path))))


def test_files_that_go_away_or_are_too_large_are_rows_with_a_reason(tmp_path: Path) -> None:
    shard = only("folder", write_images(tmp_path, ["1.jpg", "2.jpg", "3.jpg"]))
    (tmp_path / "2.jpg").unlink()
    (tmp_path / "3.jpg").write_bytes(bytes(9000))
    found = list(read(shard, max_bytes=8000))
    assert [s.reason for s in found] == [None, Reason.MISSING, Reason.TOO_MANY_BYTES]


def coco(folder: Path) -> Images:
    write_images(folder / "val", ["1.jpg", "3.jpg", "5.jpg", "9.jpg"])
    entries = [{"id": i, "file_name": f"{i}.jpg", "width": 9, "license": None} for i in (7, 5, 3, 1, 4)]
    captions = [{"image_id": i, "caption": f"{word} {i}\n"} for word in ("first", "second") for i in (1, 3, 5)]
    boxes = [{"image_id": i, "category_id": c, "bbox": [0, 0, 1, 1]} for i, c in [(3, 2), (3, 1), (3, 2), (5, 1)]]
    names = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    (folder / "captions.json").write_text(json.dumps({"images": entries, "annotations": captions}))
    (folder / "instances.json").write_text(json.dumps({"images": entries, "annotations": boxes, "categories": names}))
    files = (f"{folder}/captions.json", f"{folder}/instances.json")
    return Images("coco", (f"{folder}/val",), shard_size=2, annotations=files)


def test_coco_gives_captions_categories_and_the_images_that_are_not_there(tmp_path: Path) -> None:
    shards = list(sources.shards(coco(tmp_path)).values())
    found = [[(s.key, s.reason) for s in read(shard)] for shard in shards]
    assert found == [
        [("1.jpg", None), ("3.jpg", None)],
        [("4.jpg", Reason.MISSING), ("5.jpg", None), ("7.jpg", Reason.MISSING), ("9.jpg", None)],
    ]
    rows = {s.key: s.metadata for shard in shards for s in read(shard)}
    assert rows["3.jpg"] == {
        "image_id": 3,
        "width": 9,
        "license": None,
        "caption": "first 3",
        "captions": ["first 3", "second 3"],
        "categories": ["dog", "cat"],
    }
    assert rows["9.jpg"] == {}


def test_a_file_that_is_not_cocos_is_named(tmp_path: Path) -> None:
    settings = coco(tmp_path)
    (tmp_path / "captions.json").write_text('{"images": [{"id": 1}]}')
    with pytest.raises(
        ValueError, match=r"captions\.json is not a COCO annotation file .* correct images\.annotations"
    ):
        list(read(next(iter(sources.shards(settings).values()))))


@pytest.mark.parametrize("struct", [True, False])
def test_parquet_with_bytes_as_hugging_face_has_them(tmp_path: Path, struct: bool) -> None:
    data = [JPEG + bytes([i]) for i in range(7)]
    cells = [{"bytes": d, "path": f"{i}.jpg"} for i, d in enumerate(data)] if struct else data
    table = pa.table(
        {"image": [*cells[:6], None], "label": list(range(7)), "mask": [b"x"] * 7, "id": [f"k{i}" for i in range(7)]}
    )
    pq.write_table(table, tmp_path / "train.parquet", row_group_size=2)
    shards = sources.shards(Images("parquet", (f"{tmp_path}/*.parquet",), shard_size=3, column="image", key="id"))
    assert list(shards) == ["train-00000", "train-00001", "train-00002"]
    found = [s for shard in shards.values() for s in read(shard)]
    assert [s.key for s in found] == [f"k{i}" for i in range(7)]
    assert [s.image for s in found] == [*data[:6], None]
    assert found[6].reason == Reason.NO_IMAGE
    assert found[2].metadata == {"label": 2} | ({"path": "2.jpg"} if struct else {})
    numbered = only("parquet", f"{tmp_path}/train.parquet", column="image")
    assert [s.key for s in read(numbered)][:2] == ["train/0", "train/1"]


def test_the_only_column_of_bytes_is_found(tmp_path: Path) -> None:
    pq.write_table(pa.table({"png": [JPEG], "n": [1]}), tmp_path / "a.parquet")
    assert [s.image for s in read(only("parquet", f"{tmp_path}/a.parquet"))] == [JPEG]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_a_table_of_addresses(tmp_path: Path, suffix: str) -> None:
    write_images(tmp_path / "pictures", ["1.jpg", "2.jpg"])
    addresses = [
        "pictures/1.jpg",
        f"{tmp_path}/pictures/2.jpg",
        "none.jpg",
        "",
        "ssh://host/x.jpg",
        "file:///a::zip://b.jpg",
    ]
    table = pa.table({"where": addresses, "text": ["a, b", 'c "d"', "e\nf", "", "g", "h"]})
    if suffix == "parquet":
        pq.write_table(table, tmp_path / "t.parquet")
    else:
        table.to_pandas().to_csv(tmp_path / f"t.{suffix}", sep="\t" if suffix == "tsv" else ",", index=False)
    shards = sources.shards(Images("table", (f"{tmp_path}/t.{suffix}",), shard_size=4, column="where"))
    found = [s for shard in shards.values() for s in read(shard)]
    assert [s.key for s in found] == [f"t/{i}" for i in range(6)]
    assert [s.reason for s in found] == [
        None,
        None,
        Reason.MISSING,
        Reason.NO_IMAGE,
        Reason.BAD_ADDRESS,
        Reason.BAD_ADDRESS,
    ]
    assert found[0].image == JPEG + b"1.jpg"
    assert found[2].metadata == {"where": "none.jpg", "text": "e\nf"}


# --- metadata


def test_metadata_become_columns_of_one_kind() -> None:
    rows: list[dict[str, Any]] = [
        {"key": "a", "n": 1, "x": 1, "text": "t", "list": ["u"], "mixed": 1, "score": 0.5, "none": None, "big": 2**60},
        {"key": "b", "n": None, "x": 0.5, "list": [], "mixed": "one", "ok": True, "big": 0.5},
    ]
    found = pa.table(columns(["a", "b"], rows))
    assert {f.name: str(f.type) for f in found.schema} == {
        "n": "int64",
        "x": "double",
        "text": "string",
        "list": "list<item: string>",
        "mixed": "string",
        "source_score": "double",
        "none": "string",
        "big": "string",
        "ok": "bool",
    }
    assert found["mixed"].to_pylist() == ["1", "one"]
    assert found["list"].to_pylist() == [["u"], []]
    assert pa.table(columns(["a"], [{"key": "other"}])).to_pydict() == {"source_key": ["other"]}


def test_what_json_can_say_is_kept() -> None:
    found = read_json(
        b'{"a": {"b": [1, "\\u00e9"]}, "c": [1, 2], "d": ["x"], "e": 1e400, "f": 123456789012345678901234}'
    )
    assert found == {
        "a": '{"b": [1, "é"]}',
        "c": "[1, 2]",
        "d": ["x"],
        "e": float("inf"),
        "f": "123456789012345678901234",
    }
    assert [read_label(data) for data in (b"7\n", b" cat ", b"9" * 30)] == [7, "cat", "9" * 30]
    assert merge({"caption": "a", "x": 1}, {"caption": "b", "x": 1}) == {"caption": "a", "x": 1, "source_caption": "b"}


# --- real data


@pytest.mark.parametrize(
    ("path", "rows", "field"),
    [
        ("cc3m-img2dataset/00000.tar", 3650, "sha256"),
        ("flickr8k/00003.tar", 1000, "captions"),
        ("caltech101-clip-b32/images/00002.tar", 1114, "class"),
        ("cifar10-test/00001.tar", 2500, "label"),
    ],
)
def test_real_tars_are_read_whole_and_as_webdataset_reads_them(
    real_data: Path, path: str, rows: int, field: str
) -> None:
    found = samples(real_data / path)
    assert Counter(sample.reason for sample in found) == {None: rows}
    assert all(sample.metadata[field] is not None for sample in found)
    with open(real_data / path, "rb") as file:
        members = ({"__url__": path, **m} for m in webdataset.tariterators.tar_file_iterator(file))
        for sample, expected in zip(found, webdataset.tariterators.group_by_keys(members), strict=True):
            assert (sample.key, sample.image) == (expected["__key__"], expected["jpg"])
            assert expected.get("txt", b"").decode().strip() == sample.metadata.get("caption", "")
            assert json.loads(expected.get("json", b"{}")).items() <= sample.metadata.items()


def test_real_coco_is_read_whole(real_data: Path) -> None:
    folder = real_data / "coco-mini"
    settings = Images("coco", (f"{folder}/val2017",), shard_size=30, annotations=(f"{folder}/annotations/*.json",))
    found = [sample for shard in sources.shards(settings).values() for sample in read(shard)]
    assert len(found) == 79
    assert all(s.reason is None and len(s.metadata["captions"]) == 5 for s in found)
    truth = json.loads((folder / "annotations/captions_val2017.json").read_text())["annotations"]
    said = {(s.metadata["image_id"], caption) for s in found for caption in s.metadata["captions"]}
    assert said == {(a["image_id"], a["caption"].strip()) for a in truth}
    assert all(Image.open(io.BytesIO(s.image or b"")).width == s.metadata["width"] for s in found)
