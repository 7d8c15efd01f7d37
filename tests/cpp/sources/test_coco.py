"""Annotations of COCO files reach the image that they belong to, in all the forms that such files have."""

import json
from pathlib import Path
from typing import Any

import pytest

from cpp.sources import shards as sources
from cpp.sources.samples import Reason, Sample
from cpp.sources.shards import Images, read_samples
from tests.support.tars import write_images


def rows(folder: Path, *files: str, shard_size: int = 100) -> dict[str, Sample]:
    """The samples by key of the images below `folder/im` with these annotation files; no key repeats."""
    annotations = tuple(f"{folder}/{file}" for file in files)
    images = Images("coco", (f"{folder}/im",), shard_size=shard_size, annotations=annotations)
    samples = [sample for shard in sources.shards(images).values() for sample in read_samples(shard)]
    assert len({sample.key for sample in samples}) == len(samples)
    return {sample.key: sample for sample in samples}


def write(path: Path, names: list[Any], caption: str = "", **more: Any) -> None:
    """An annotation file whose image i has the file name `names[i]`, the id i and the caption `caption i`."""
    images = [{"id": i, "file_name": name} for i, name in enumerate(names)]
    annotations = [{"image_id": i, "caption": f"{caption} {i}"} for i in range(len(names))]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations, **more}))


def captions(samples: dict[str, Sample]) -> dict[str, Any]:
    return {key: sample.metadata.get("captions") for key, sample in samples.items() if sample.reason is None}


def test_ids_belong_to_their_file(tmp_path: Path) -> None:
    write_images(tmp_path / "im", ["train/a.jpg", "val/a.jpg"])
    for split, name in (("train", "cat"), ("val", "dog")):
        category = {"categories": [{"id": 1, "name": name}]}
        write(tmp_path / f"{split}.json", [f"{split}/a.jpg"], split, **category)
        content = json.loads((tmp_path / f"{split}.json").read_text())
        content["annotations"].append({"image_id": 0, "category_id": 1})
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
    samples = rows(tmp_path, "train.json", "val.json")
    assert captions(samples) == {"train/a.jpg": ["train 0"], "val/a.jpg": ["val 0"]}
    assert [sample.metadata["categories"] for sample in samples.values()] == [["cat"], ["dog"]]


@pytest.mark.parametrize(
    "name",
    [
        "val2017/1.jpg",
        "./val2017//1.jpg",
        "val2017\\1.jpg",
        "im/val2017/1.jpg",
        "/home/anna/im/val2017/1.jpg",
        "http://images.cocodataset.org/val2017/1.jpg?size=full",
        "DIR/im/val2017/1.jpg",
        "1.jpg",
    ],
)
def test_file_names_may_start_from_another_folder(tmp_path: Path, name: str) -> None:
    write_images(tmp_path / "im", ["val2017/1.jpg", "val2017/2.jpg", "train2017/1.jpg"])
    write(tmp_path / "instances_val2017.json", [name.replace("DIR", str(tmp_path))], "caption")
    expected = {"val2017/1.jpg": ["caption 0"], "val2017/2.jpg": None, "train2017/1.jpg": None}
    assert captions(rows(tmp_path, "instances_val2017.json", shard_size=1)) == expected


def test_file_names_beside_the_annotation_file(tmp_path: Path) -> None:
    write_images(tmp_path / "im", ["a/1.jpg", "b/1.jpg"])
    for folder in "ab":
        write(tmp_path / f"im/{folder}/annotations.json", ["1.jpg"], folder)
    samples = rows(tmp_path, "im/a/annotations.json", "im/b/annotations.json")
    assert captions(samples) == {"a/1.jpg": ["a 0"], "b/1.jpg": ["b 0"]}


def test_an_image_in_another_shard_that_takes_the_annotations_changes_the_fingerprint(tmp_path: Path) -> None:
    write_images(tmp_path / "im", ["val/1.jpg", "x.jpg"])
    write(tmp_path / "val.json", ["1.jpg"])
    images = Images("coco", (f"{tmp_path}/im",), shard_size=1, annotations=(f"{tmp_path}/val.json",))

    def shard_of(key: str) -> tuple[str, tuple[str, ...], Any]:
        """The fingerprint and the images of the shard with this image, and the captions of the image."""
        for shard in sources.shards(images).values():
            samples = {sample.key: sample for sample in read_samples(shard)}
            if key in samples:
                return shard.fingerprint, tuple(samples), samples[key].metadata.get("captions")
        raise AssertionError(key)

    before = shard_of("val/1.jpg")
    write_images(tmp_path / "im", ["1.jpg"])
    after = shard_of("val/1.jpg")
    assert before[1] == after[1]
    assert (before[2], after[2]) == (["0"], None)
    assert before[0] != after[0]


def test_names_that_would_share_an_image_are_rejected(tmp_path: Path) -> None:
    write_images(tmp_path / "im", ["1.jpg"])
    write(tmp_path / "all.json", ["/data/train/1.jpg", "/data/val/1.jpg"], "caption")
    samples = rows(tmp_path, "all.json")
    assert captions(samples) == {"1.jpg": None}
    assert {key for key, s in samples.items() if s.reason is Reason.MISSING} == {"data/train/1.jpg", "data/val/1.jpg"}


def test_lvis_has_urls_in_place_of_file_names(tmp_path: Path) -> None:
    write_images(tmp_path / "im", ["1.jpg"])
    image = {"id": 5, "coco_url": "http://images.cocodataset.org/val2017/1.jpg"}
    (tmp_path / "lvis.json").write_text(json.dumps({"images": [image]}))
    assert rows(tmp_path, "lvis.json")["1.jpg"].metadata == {"image_id": 5, "coco_url": image["coco_url"]}


def test_several_entries_of_one_image_are_one_row(tmp_path: Path) -> None:
    write_images(tmp_path / "im", ["1.jpg"])
    write(tmp_path / "a.json", ["1.jpg", "./1.jpg"], "caption")
    metadata = {"image_id": 0, "source_image_id": 1, "caption": "caption 0", "captions": ["caption 0", "caption 1"]}
    assert rows(tmp_path, "a.json")["1.jpg"].metadata == metadata


def test_own_fields_of_an_image_with_names_of_annotations_are_kept(tmp_path: Path) -> None:
    write_images(tmp_path / "im", ["1.jpg"])
    images = [{"id": 0.0, "file_name": "1.jpg", "categories": "mine", "caption": "own"}]
    annotations = [{"image_id": 0, "category_id": 1.0, "caption": "its"}]
    write(tmp_path / "a.json", [], images=images, annotations=annotations, categories=[{"id": 1, "name": "cat"}])
    metadata = {"image_id": 0.0, "categories": "mine", "caption": "own"}
    metadata |= {"source_caption": "its", "captions": ["its"], "source_categories": ["cat"]}
    assert rows(tmp_path, "a.json")["1.jpg"].metadata == metadata


def test_ids_that_the_file_does_not_define_are_left_out_and_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "im", ["1.jpg", "2.jpg"])
    boxes = [
        {"image_id": 0, "category_id": 0},
        {"image_id": 777, "category_id": 1},
        {"image_id": "1", "category_id": 1},
    ]
    panoptic = {"image_id": 0, "segments_info": [{"category_id": 1}, {"category_id": 2}]}
    categories = [{"id": 1, "name": "cat"}, {"id": 2}]
    content = {"annotations": [*boxes, panoptic, {"image_id": 0, "caption": None}, {}], "categories": categories}
    write(tmp_path / "a.json", ["1.jpg", "2.jpg"], **content)
    samples = rows(tmp_path, "a.json")
    assert samples["1.jpg"].metadata == {"image_id": 0, "categories": ["cat", "2"]}
    assert samples["2.jpg"].metadata == {"image_id": 1, "categories": ["cat"]}
    lines = capsys.readouterr().out.replace(f"{tmp_path}/", "").splitlines()
    assert lines == [
        "a.json: 1 annotations with an unknown category_id, such as 0, are left out",
        "a.json: 2 annotations with an unknown image_id, such as 777, are left out",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"a\.json is not a JSON file \("),
        ("[]", r"a\.json is not a COCO annotation file, it has no list `images`"),
        ('{"annotations": []}', "it has no list `images`: correct images.annotations"),
        ('{"images": [], "annotations": {}}', "it has no list `annotations`"),
        ('{"images": ["1.jpg"]}', r"a\.json: images\[0\] is '1\.jpg', not an object"),
        ('{"images": [{"id": 3}]}', r"images\[0\] with the id 3 has neither `file_name` nor `coco_url`"),
        (
            '{"images": [{"id": 3, "file_name": "1.jpg"}, {"id": 3, "file_name": "2.jpg"}]}',
            r"a\.json: images\[1\] has the id 3 of another image",
        ),
        (
            '{"images": [], "categories": [{"id": 3, "name": "a"}, {"id": 3.0, "name": "b"}]}',
            r"a\.json: categories\[1\] has the id 3\.0 of another category",
        ),
        (
            '{"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [{"image_id": 1, "segments_info": [5]}]}',
            r"annotations\[0\]\.segments_info\[0\] is 5, not an object",
        ),
        ('{"images": [{"file_name": "\\ud800.jpg"}]}', r"a\.json: '\\ud800\.jpg' is half of a surrogate pair"),
        (
            '{"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [{"image_id": 1, "caption": "\\udfff"}]}',
            r"a\.json: '\\udfff' is half of a surrogate pair",
        ),
    ],
)
def test_errors_name_file_and_entry(tmp_path: Path, content: str, message: str) -> None:
    write_images(tmp_path / "im", ["1.jpg"])
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        rows(tmp_path, "a.json")
