"""Images in every layout are read whole and in order, and cut into shards; what is wrong with the settings is said."""

import io
import json
import os
import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import webdataset
from PIL import Image

from cpp.sources import ignored as reasons
from cpp.sources import shards as sources
from cpp.sources.samples import Reason
from cpp.sources.shards import Images, read_images, read_samples, select_samples
from tests.support.tars import JPEG, about, only, samples, write_images, write_tar


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


def test_a_link_is_what_it_leads_to_however_it_is_named(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "store" / "blob", [("a.jpg", JPEG)])
    for name in ("d/00000.tar", "d/e/00000.tar"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(tar)
    found = [only("webdataset", f"{tmp_path}/d/{name}") for name in ("*.tar", "00000.tar", "0000{0..0}.tar", "*0.tar")]
    assert len(set(found)) == 1
    assert only("webdataset", f"{tmp_path}/d/*/*.tar").path == f"{tmp_path}/d/e/00000.tar"
    os.utime(tar, (1, 1))
    assert only("webdataset", f"{tmp_path}/d/*.tar").fingerprint != found[0].fingerprint
    with pytest.raises(ValueError, match=r"1 of the 1 paths of images.path do not exist, the first is .*00001\.tar"):
        only("webdataset", f"{tmp_path}/d/00001.tar")


@pytest.mark.parametrize(
    "paths", [("d/*.tar",), ("d",), ("d/a-link.tar", "d/x.tar"), ("d/x.tar", "e/x.tar"), ("d/x.tar", "d/../d/x.tar")]
)
def test_a_file_with_several_paths_is_read_once_and_the_others_are_counted(
    tmp_path: Path, paths: tuple[str, ...]
) -> None:
    tar = write_tar(tmp_path / "d/x.tar", [("a.jpg", JPEG)])
    (tmp_path / "d/a-link.tar").symlink_to("x.tar")
    (tmp_path / "e").symlink_to("d")
    counts = sources.FileCounts()
    ((name, shard),) = sources.iter_shards(Images("webdataset", tuple(f"{tmp_path}/{p}" for p in paths)), counts)
    assert (name, shard.path) == ("x", tar)
    assert (counts.files, counts.ignored) == (2, {reasons.REPEATED: 1})


@pytest.mark.parametrize("pattern", ["*.tar", "**/*.tar", "0000{0..1}.tar", "00001.tar"])
def test_a_link_to_nothing_is_named_and_never_passed_over(tmp_path: Path, pattern: str) -> None:
    write_tar(tmp_path / "00000.tar", [("a.jpg", JPEG)])
    (tmp_path / "00001.tar").symlink_to(tmp_path / "nothing")
    (tmp_path / "notes.txt").symlink_to(tmp_path / "nothing")  # which nobody asked for
    with pytest.raises(ValueError, match=r"00001\.tar is a broken link: repair or remove it"):
        sources.shards(Images("webdataset", (f"{tmp_path}/{pattern}",)))


@pytest.mark.parametrize("pattern", ["*.tar", "00001.tar"])
def test_a_pipe_is_named_and_not_waited_for(tmp_path: Path, pattern: str) -> None:
    os.mkfifo(tmp_path / "00001.tar")
    with pytest.raises(ValueError, match=r"00001\.tar is a pipe or a device, not a file: remove it"):
        sources.shards(Images("webdataset", (f"{tmp_path}/{pattern}",)))


@pytest.mark.parametrize(("layout", "path"), [("folder", ""), ("webdataset", "/*.jpg"), ("webdataset", "/b\udcff.jpg")])
def test_a_name_that_is_not_text_is_said_before_anything_starts(tmp_path: Path, layout: str, path: str) -> None:
    for name in ("a.jpg", "b\udcff.jpg", "notes\udcff.txt"):  # the text is not asked for
        (tmp_path / name).write_bytes(JPEG)
    with pytest.raises(ValueError, match=r"the name of the file .*b\\udcff\.jpg is not UTF-8: rename it"):
        sources.shards(Images(layout, (f"{tmp_path}{path}",)))  # type: ignore[arg-type]
    (tmp_path / "b\udcff.jpg").unlink()
    assert only("folder", str(tmp_path)).names == ("a.jpg",)


def test_any_file_system_of_fsspec_will_do(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "00000.tar", [("a.jpg", JPEG), ("a.txt", b"words")])
    shard = only("webdataset", f"file://{tmp_path}/*.tar")
    assert shard.path == f"file://{tar}"
    assert about(read_samples(shard)) == [("a", {"caption": "words"})]


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
    *unchanged, last = before
    assert unchanged
    assert all(before[name] == after[name] for name in unchanged)
    assert before[last].fingerprint != after[last].fingerprint
    assert before["00000"].fingerprint != sources.shards(replace(setting, labels=True))["00000"].fingerprint


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Images("webdataset", ("DIR/{000..002}.tar",)), r"2 of the 3 paths .* the first is .*/001\.tar"),
        (Images("webdataset", ("DIR/*.tgz",)), r"1 of the 1 paths"),
        (Images("webdataset", ("pipe:cat DIR/000.tar",)), "does not run commands"),
        (Images("webdataset", ("@DIR/none.txt",)), r"the list .*none\.txt of images\.path does not exist"),
        (Images("webdataset", ("@DIR/bad.txt",)), "contains pipe:cat x: a list holds paths"),
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
    keys = [[s.key for s in read_samples(shard)] for shard in shards.values()]
    assert [key for shard in keys for key in shard] == ["0.webp", "a/1.png", "a/x/3.jpeg", "b/2.JPG"]
    assert len(keys) > 1
    assert max(map(len, keys)) <= 3
    labels = [s.metadata["label"] for shard in shards.values() for s in read_samples(shard)]
    assert labels == [None, "a", "a/x", "b"]
    assert all(s.metadata == {} for s in read_samples(only("folder", str(tmp_path))))


def test_files_that_go_away_or_are_too_large_are_rows_with_a_reason(tmp_path: Path) -> None:
    shard = only("folder", write_images(tmp_path, ["1.jpg", "2.jpg", "3.jpg", "4.jpg"]))
    (tmp_path / "2.jpg").unlink()
    (tmp_path / "3.jpg").write_bytes(bytes(9000))
    (tmp_path / "4.jpg").unlink()
    (tmp_path / "4.jpg").symlink_to("/dev/null")
    found = list(read_samples(shard, max_bytes=8000))
    assert [s.reason for s in found] == [None, Reason.MISSING, Reason.TOO_MANY_BYTES, Reason.SPECIAL]


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
    found = [[(s.key, s.reason) for s in read_samples(shard)] for shard in shards]
    assert found == [
        [("1.jpg", None), ("3.jpg", None)],
        [("4.jpg", Reason.MISSING), ("5.jpg", None), ("7.jpg", Reason.MISSING), ("9.jpg", None)],
    ]
    rows = {s.key: s.metadata for shard in shards for s in read_samples(shard)}
    assert rows["3.jpg"] == {
        "image_id": 3,
        "width": 9,
        "license": None,
        "caption": "first 3",
        "captions": ["first 3", "second 3"],
        "categories": ["dog", "cat"],
    }
    assert rows["9.jpg"] == {}


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
    found = [sample for shard in sources.shards(settings).values() for sample in read_samples(shard)]
    assert len(found) == 79
    assert all(s.reason is None and len(s.metadata["captions"]) == 5 for s in found)
    truth = json.loads((folder / "annotations/captions_val2017.json").read_text())["annotations"]
    said = {(s.metadata["image_id"], caption) for s in found for caption in s.metadata["captions"]}
    assert said == {(a["image_id"], a["caption"].strip()) for a in truth}
    assert all(Image.open(io.BytesIO(s.image or b"")).width == s.metadata["width"] for s in found)


def test_keys_that_repeat_are_numbered_and_each_picks_its_own_image(tmp_path: Path) -> None:
    names = ["a.jpg", "b.jpg", "a.jpg", "c.jpg", "a.jpg"]
    tar = write_tar(tmp_path / "s.tar", [(name, f"{i}".encode() * 3) for i, name in enumerate(names)])
    images = {"a": b"000", "b": b"111", "a#2": b"222", "c": b"333", "a#3": b"444"}
    assert {s.key: s.image for s in samples(tar)} == images
    assert read_images(tar, images) == images
    assert read_images(tar, ["a#3"]) == {"a#3": b"444"}
    assert [(s.key, s.image) for s in select_samples(tar, frozenset("a"), 10)] == [  # as imported vectors name them
        ("a", b"000"),
        ("a", b"222"),
        ("a", b"444"),
    ]
    assert [s.reason for s in select_samples(tar, frozenset("c"), 2)] == [Reason.TOO_MANY_BYTES]
    assert read_images(tar, ["a"]) == {"a": b"000"}


def test_keys_that_look_numbered_stay_distinct_and_each_picks_its_own_image(tmp_path: Path) -> None:
    names = ["a", "a#2", "a", "a#2", "a", "b#2", "b", "b"]
    tar = write_tar(tmp_path / "s.tar", [(f"{name}.jpg", f"{i}".encode()) for i, name in enumerate(names)])
    images = {s.key: s.image for s in samples(tar)}
    assert list(images) == ["a", "a#2", "a#2#2", "a#2#2#2", "a#3", "b#2", "b", "b#2#2"]
    assert {key: read_images(tar, [key])[key] for key in images} == images
