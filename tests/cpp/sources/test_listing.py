"""Every file of a folder is a picture, a text of one, or ignored for a reason; links are followed once."""

import json
import os
import random
from pathlib import Path

import fsspec
import pytest

from cpp.sources import ignored as reasons
from cpp.sources import shards as sources
from cpp.sources.ignored import FileCounts
from cpp.sources.listing import cut, list_folder
from cpp.sources.samples import Reason
from cpp.sources.shards import Images, ImageShard, iter_shards, read_samples
from tests.support.tars import JPEG, only, write_images, write_tar


def names(folder: Path | str, counts: FileCounts | None = None) -> list[str]:
    return list(list_folder(str(folder), counts or FileCounts()).pictures)


def write(path: Path, content: bytes | str = b"x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def write_run(folder: Path) -> None:
    """What a run leaves in its folder, with a picture."""
    for name in ("run.json", "events.jsonl", "cache/plots/all-0/a.png", "plots/a.png", "export/webdataset/1.jpg"):
        write(folder / name, JPEG)


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    write_images(tmp_path / "disk2", ["cats/1.jpg", "cats/2.jpg"])
    write_images(tmp_path / "photos", ["dogs/1.jpg"])
    for link, target in {"cats": "../disk2/cats", "again": "../disk2/cats", "a": "dogs", "loop": "."}.items():
        (tmp_path / "photos" / link).symlink_to(target)
    (tmp_path / "disk2/cats/up").symlink_to(tmp_path / "photos")
    (tmp_path / "photos/self").symlink_to("self")
    counts = FileCounts()
    assert names(tmp_path / "photos", counts) == ["again/1.jpg", "again/2.jpg", "dogs/1.jpg"]
    assert counts.ignored == {reasons.LISTED: 4, reasons.LINK: 1}


@pytest.mark.skipif(os.getuid() == 0, reason="root may list every folder")
def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path) -> None:
    write_images(tmp_path, ["open/1.jpg", "closed/1.jpg"])
    (tmp_path / "closed").chmod(0)
    with pytest.raises(PermissionError, match="closed"):
        names(tmp_path)


def test_a_folder_whose_listing_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path, ["open/1.jpg", "closed/1.jpg"])
    scandir = os.scandir

    def denied(path: str) -> object:
        if path.endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(PermissionError, match="closed"):
        names(tmp_path)


def test_files_are_told_by_their_names_or_first_bytes_and_the_others_are_counted(tmp_path: Path) -> None:
    pictures = ["a.JFIF", "b.pgm", "c.heic", "d.dng", "e.jxl", "f", "g.JPG_large", "h.avif"]
    for name in pictures:
        write(tmp_path / name, JPEG)
    for name in ("README.md", "i.mp4", "j", "k.weird", ".hidden.jpg", ".git/l.jpg", "lost+found/m.jpg"):
        write(tmp_path / name)
    counts = FileCounts()
    assert names(tmp_path, counts) == pictures
    assert counts.ignored == {
        reasons.HIDDEN: 2,
        reasons.SYSTEM: 1,
        reasons.NO_PICTURE: 1,
        f"{reasons.NO_PICTURE} (.md)": 1,
        f"{reasons.NO_PICTURE} (.mp4)": 1,
        f"{reasons.NO_PICTURE} (.weird)": 1,
    }
    rejected = {s.key: s.reason for s in read_samples(only("folder", str(tmp_path)))}
    assert {key for key, reason in rejected.items() if reason is None} == set(pictures) - {"d.dng", "e.jxl"}
    assert (rejected["d.dng"], rejected["e.jxl"]) == (Reason.RAW, Reason.JPEG_XL)


def test_the_folder_of_a_run_among_the_images_is_left_out(tmp_path: Path) -> None:
    write_images(tmp_path, ["1.jpg", "cpp/2.jpg"])
    write_run(tmp_path / "cpp")
    write(tmp_path / "out/images/1.jpg", JPEG)
    write(tmp_path / "out/export.json", json.dumps({"state": "done", "format": "imagefolder"}))
    write(tmp_path / "mine/export.json", "{}")
    write(tmp_path / "mine/3.jpg", JPEG)
    counts = FileCounts()
    assert names(tmp_path, counts) == ["1.jpg", "cpp/2.jpg", "mine/3.jpg"]
    assert counts.ignored[reasons.RESULT] == 4  # cache, plots and export of the run, and the export


def test_a_run_in_the_folder_of_the_images_itself_adds_no_input(tmp_path: Path) -> None:
    write_images(tmp_path, ["1.jpg", "train/2.jpg"])
    write_run(tmp_path)
    assert names(tmp_path) == ["1.jpg", "train/2.jpg"]


def test_results_of_a_run_match_no_glob_that_leads_through_folders(tmp_path: Path) -> None:
    write_tar(tmp_path / "train/0.tar", [("x.jpg", JPEG)])
    write_run(tmp_path / "train/run")
    write_tar(tmp_path / "train/run/export/webdataset/1.tar", [("x.jpg", JPEG)])
    counts = FileCounts()
    assert [name for name, _ in iter_shards(Images("webdataset", (f"{tmp_path}/**/*.tar",)), counts)] == ["0"]
    assert counts.ignored == {reasons.RESULT: 1}
    named = Images("webdataset", (f"{tmp_path}/train/run/export/webdataset/*.tar",))
    assert list(sources.shards(named)) == ["1"]


def test_a_folder_in_an_object_store_is_listed_by_the_same_rules() -> None:
    store = fsspec.filesystem("memory")
    contents = ["1.jpg", "a/2", "a/notes.md", "a/.3.jpg", "cpp/run.json", "cpp/events.jsonl", "cpp/cache/plots/4.png"]
    for name in [*contents, "cpp/plots/5.png", "cpp/6.jpg"]:
        store.pipe(f"/listing/{name}", JPEG)
    counts = FileCounts()
    assert names("memory://listing", counts) == ["1.jpg", "a/2", "cpp/6.jpg"]
    assert counts.ignored[reasons.RESULT] == 2
    assert counts.ignored[reasons.HIDDEN] == 1


def shard_files(folder: Path, size: int = 20) -> dict[str, ImageShard]:
    return sources.shards(Images("folder", (str(folder),), shard_size=size))


def test_a_renamed_or_new_file_changes_its_own_shard_alone(tmp_path: Path) -> None:
    generator = random.Random(0)  # noqa: S311 - names of files
    write_images(tmp_path, [f"{generator.randrange(10**9):09d}.jpg" for _ in range(200)])
    before = shard_files(tmp_path)
    victim = sorted(path.name for path in tmp_path.iterdir())[101]
    (tmp_path / victim).rename(tmp_path / f"{victim[:-4]}b.jpg")
    renamed = shard_files(tmp_path)
    assert len(before) > 9
    assert sum(before.get(name) != shard for name, shard in renamed.items()) == 1
    write_images(tmp_path, ["0.jpg"])
    assert sum(renamed.get(name) != shard for name, shard in shard_files(tmp_path).items()) == 1


def test_shards_of_a_folder_are_at_most_as_large_as_set() -> None:
    many = [f"{i:06d}.jpg" for i in range(5000)]
    sizes = [stop - start for _, start, stop in cut(many, 300)]
    assert sum(sizes) == 5000
    assert max(sizes) <= 300
    assert min(sizes[:-1]) >= 150
    assert [name for name, _, _ in cut(many[:300], 300)] == ["00000"]
    assert len({name for name, _, _ in cut(many, 1)}) == 5000
