"""What is a tar, and how it is compressed, is told by its content, for reading and for picking alike."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from cpp.sources import shards as sources
from cpp.sources.shards import Images, iter_shards, read_images, read_samples
from cpp.sources.tar import DamagedTarError, is_tar
from tests.support.tars import JPEG, only, samples, write_images, write_tar


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, "zstd", asbytes=True))


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes, "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstd,
}  # fmt: skip


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("name", ["00000.tar", "00000.tar.gz", "shard"])
def test_every_compression_is_read_under_any_name(tmp_path: Path, kind: str, name: str) -> None:
    files = [(f"{i}.jpg", JPEG + bytes([i])) for i in range(5)]
    plain = Path(write_tar(tmp_path / "plain", files)).read_bytes()
    path = tmp_path / name
    path.write_bytes(COMPRESS[kind](plain))
    assert is_tar(str(path))
    assert [(f"{s.key}.jpg", s.image) for s in samples(path)] == files
    assert read_images(str(path), ["3"]) == {"3": JPEG + b"\3"}
    assert list(sources.shards(Images("webdataset", (str(path),)))) == [name.partition(".")[0]]


def test_a_tar_that_begins_with_a_name_like_a_compression_is_plain(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "a.tar", [("BZh9.jpg", JPEG), ("b.jpg", JPEG)])
    assert is_tar(tar)
    assert [sample.key for sample in samples(tar)] == ["BZh9", "b"]


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_parts_compressed_one_by_one_are_read_to_the_end(tmp_path: Path, kind: str) -> None:
    plain = Path(write_tar(tmp_path / "plain", [(f"{i}.jpg", JPEG) for i in range(40)])).read_bytes()
    half = len(plain) // 2
    (tmp_path / "a.tar").write_bytes(COMPRESS[kind](plain[:half]) + COMPRESS[kind](plain[half:]))
    assert len(samples(tmp_path / "a.tar")) == 40


@pytest.mark.parametrize("kind", [kind for kind in COMPRESS if kind != "plain"])
def test_a_compressed_tar_that_is_cut_short_is_named(tmp_path: Path, kind: str) -> None:
    plain = Path(write_tar(tmp_path / "plain", [(f"{i}.png", JPEG * 9) for i in range(9)])).read_bytes()
    whole = COMPRESS[kind](plain)
    (tmp_path / "a.tar").write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(DamagedTarError, match=r"a\.tar is cut short or damaged"):
        samples(tmp_path / "a.tar")


def test_other_files_are_no_tars(tmp_path: Path) -> None:
    for name, data in {"a.jpg": JPEG, "b.gz": gzip.compress(b"text"), "c": b"", "d.tar": b"text"}.items():
        (tmp_path / name).write_bytes(data)
        assert not is_tar(str(tmp_path / name))


def test_a_folder_with_the_name_of_a_tar_is_a_folder(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "photos.tar", ["1.jpg", "2.jpg"])
    assert len(list(read_samples(only("folder", folder)))) == 2
    assert read_images(folder, ["2.jpg"]) == {"2.jpg": JPEG + b"2.jpg"}


def test_a_folder_of_tars_stands_for_the_tars_in_it(tmp_path: Path) -> None:
    for name in ("a.tar", "b.tar.gz", "c.TAR", "._a.tar", "notes.md", "without-suffix"):
        write_tar(tmp_path / name, [("x.jpg", JPEG)])
    (tmp_path / "README").write_text("no tar")
    counts = sources.FileCounts()
    assert [name for name, _ in iter_shards(Images("webdataset", (str(tmp_path),)), counts)] == [
        "a",
        "b",
        "c",
        "without-suffix",
    ]
    assert list(counts.first.values()) == [f"{tmp_path}/._a.tar"]


def test_tars_that_differ_in_their_endings_only_keep_both(tmp_path: Path) -> None:
    for name in ("a.tar", "a.tgz"):
        write_tar(tmp_path / name, [("x.jpg", JPEG)])
    assert list(sources.shards(Images("webdataset", (f"{tmp_path}/a.*",)))) == ["a.tar", "a.tgz"]


@pytest.mark.parametrize("pattern", ["*.tar", "**/*.tar"])
def test_hidden_files_and_folders_are_left_out_of_a_glob(tmp_path: Path, pattern: str) -> None:
    write_tar(tmp_path / "a.tar", [("x.jpg", JPEG)])
    (tmp_path / "._a.tar").write_bytes(b"\0\5\x16\7 a resource fork")
    (tmp_path / "b.tar").mkdir()
    counts = sources.FileCounts()
    assert [name for name, _ in iter_shards(Images("webdataset", (f"{tmp_path}/{pattern}",)), counts)] == ["a"]
    assert f"{tmp_path}/._a.tar" in counts.first.values()
    assert any("hidden" in line for line in counts.lines())
