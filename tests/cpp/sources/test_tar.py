"""Tars as img2dataset writes them, and with every kind of damage: each row comes out, or its reason."""

import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset

from cpp.encoding import images
from cpp.sources.samples import Reason, Sample
from cpp.sources.shards import read_images, read_samples
from cpp.sources.tar import DamagedTarError, TarShard
from tests.support.tars import DAMAGE, JPEG, Files, about, damaged_files, entry, only, samples, write_images, write_tar


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
    found = [sample for sample in samples(tar) if sample.reason is None]
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
        ("k#2", b"k.jpg", "k.txt"),
        ("m", b"m.jpg", "m.txt"),
        ("m#2", b"m.png", "m.txt"),
        ("k#3", b"k.jpg", None),
    ]


def test_a_tar_of_one_prefix_is_not_held_in_memory(tmp_path: Path) -> None:
    files = [(f"www.site.{i}.{ext}", str(i).encode()) for i in range(100) for ext in ("jpg", "txt")]
    stream = read_samples(only("webdataset", write_tar(tmp_path / "a.tar", files)))
    found = list(stream)
    assert about(found) == [(f"www.site.{i}", {"caption": str(i)}) for i in range(100)]


def test_the_table_beside_a_tar_adds_what_the_samples_lack(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "00000.tar", [("01.jpg", JPEG), ("01.json", b'{"caption": "own"}'), ("03.jpg", JPEG)])
    before = only("webdataset", tar)
    table = {"key": ["01", "02", "03"], "caption": ["other", "failed", "third"], "punsafe": [0.25, 0.5, None]}
    pq.write_table(pa.table(table), tmp_path / "00000.parquet")
    shard = only("webdataset", tar)
    assert about(read_samples(shard)) == [
        ("01", {"caption": "own", "punsafe": 0.25}),
        ("03", {"caption": "third", "punsafe": None}),
    ]
    assert before.fingerprint != shard.fingerprint


def test_texts_far_from_their_image_come_before_the_table(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "0.tar", [("a.jpg", JPEG), ("b.jpg", JPEG), ("a.txt", b"own"), ("b.txt", b"own too")])
    table = {"key": ["a", "b"], "caption": ["other", None], "n": [1, 2]}
    pq.write_table(pa.table(table), tmp_path / "0.parquet")
    expected = [("a", {"caption": "own", "n": 1}), ("b", {"caption": "own too", "n": 2})]
    assert about(read_samples(only("webdataset", tar))) == expected


@pytest.mark.filterwarnings("default::PIL.Image.DecompressionBombWarning", "ignore::UserWarning")
def test_a_shard_with_every_kind_of_damage_gives_the_undamaged_rows_and_a_reason_for_each_other(tmp_path: Path) -> None:
    hidden: Files = [("a/.DS_Store", b"x"), ("._whole.jpg", b"x"), ("__meta__/x.json", b"x")]
    tar = write_tar(tmp_path / "bad.tar", [(entry("folder", tarfile.DIRTYPE), b""), *hidden, *damaged_files()])
    clip = images.Preprocess((32, 32), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    stream = read_samples(only("webdataset", tar), max_bytes=150_000)
    done = list(images.prepare(stream, [clip], images.Limits(), threads=2, waiting=8))
    last = sorted(DAMAGE.items(), key=lambda item: item[1][1] == Reason.NO_IMAGE)  # those without a picture
    assert [(item.key, item.reason) for item in done] == [(key, why) for key, (_, why) in last]
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
            found.extend(read_samples(only("webdataset", str(tmp_path / "cut.tar"))))
        assert [(s.key, s.image) for s in found] == [(str(i), JPEG) for i in range(len(found))]
        assert len(found) >= end // member - 1
    assert len(samples(tmp_path / "a.tar")) == 4


def test_rubbish_in_a_tar_is_damage_and_not_its_end(tmp_path: Path) -> None:
    data = bytearray(Path(write_tar(tmp_path / "a.tar", [(f"{i}.jpg", JPEG) for i in range(4)])).read_bytes())
    member = 512 + -(-len(JPEG) // 512) * 512
    data[2 * member : 2 * member + 512] = b"rubbish!" * 64
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(DamagedTarError, match="invalid header in place of a member"):
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
        def __init__(self, where: str, ahead: bool) -> None:
            assert not ahead
            self.file = io.BufferedReader(Counting(where), 4096)

        def __enter__(self) -> io.BufferedReader:
            return self.file

        def __exit__(self, *exc: object) -> None:
            self.file.close()

    monkeypatch.setattr("cpp.sources.tar.filesystem.open_file", Opened)
    assert [sample for sample in shard.pick(keys, 1 << 20) if sample.key in keys] == expected
    if mode == "w":
        assert taken < 0.2 * path.stat().st_size
