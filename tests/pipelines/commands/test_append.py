"""An append gives new shards what the whole run would give them, and computes nothing of the run again."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from cpp.sources.ignored import FileCounts
from cpp.store.results import File
from pipelines.commands import append as appending
from pipelines.commands import parts
from pipelines.config.errors import RunStateError, UsageError
from pipelines.config.load import load
from pipelines.graph import fitted as fitted_part
from pipelines.run import Run
from tests.support.appending import STEPS, append, new_vectors, result_files, rows
from tests.support.datasets import Dataset
from tests.support.runs import call


def times(folder: Path) -> dict[Path, int]:
    """When every file of a run but its logs was changed, without what was appended."""
    return {path: path.stat().st_mtime_ns for path in result_files(folder) if "appended" not in path.parts}


def events(root: Path) -> list[tuple[str, str]]:
    found = [json.loads(line) for line in (root / "events.jsonl").read_text().splitlines()]
    return [(event["step"], event["shard"]) for event in found if event["event"] == "shard"]


def test_appended_shards_get_what_the_run_would_say_and_nothing_old_is_touched(dataset: Dataset) -> None:
    new = new_vectors(dataset, "new", 2)
    assert call("run", dataset.config, *STEPS, "--local")[0] == 0
    before, old = times(dataset.root), rows(dataset.root / "assignments")
    code, said = append(dataset, new)
    assert code == 0, said
    assert "40 images appended to 120" in said
    assert times(dataset.root) == before
    here = dataset.root / "appended"
    assert [path.name for path in (here / "assignments").iterdir()] == ["append-001-00000.parquet"]
    later = rows(here / "assignments")
    assert len(later) == 40
    labels = pq.read_table(here / "labels").to_pylist()
    assert {row["key"] for row in labels} == set(later)
    # the images of the appended shard through the head of the run: those of the four centres are told apart
    truth = dict(zip(*pq.read_table(new / "metadata", columns=["key", "label"]).to_pydict().values(), strict=True))
    of = {key: row[0] for key, row in later.items()}
    assert len({(truth[key], of[key]) for key in of}) == 4
    # the same vectors in the run and appended get the same row
    (dataset.folder / "copy").mkdir()
    for kind in ("img_emb", "metadata", "images"):
        shutil.copytree(dataset.folder / "data" / kind, dataset.folder / "copy" / kind)
    assert append(dataset, dataset.folder / "copy")[0] == 0
    assert {key: row for key, row in rows(here / "assignments").items() if key in old} == old


def test_appended_twice_stopped_between_and_clashing_names(dataset: Dataset) -> None:
    first, second = new_vectors(dataset, "first", 2), new_vectors(dataset, "second", 1)
    call("run", dataset.config, *STEPS, "--local")
    assert append(dataset, first)[0] == 0
    assert append(dataset, second)[0] == 0
    here = dataset.root / "appended"
    assert sorted(path.stem for path in (here / "labels").iterdir()) == ["append-001-00000", "append-002-00000"]
    done = events(here)
    assert sum(step == "import" for step, _ in done) == 2  # the first was not imported again
    code, said = append(dataset, second)
    assert code == 0
    assert "appended already, as append 2" in said
    assert len(parts.recorded(load(dataset.config))) == 2
    assert events(here) == done
    next((here / "cache/codes").glob("append-002*")).unlink()
    assert "project         1 of 2 shards done" in call("status", dataset.config)[1]
    assert call("append", dataset.config, "--local")[0] == 0
    assert events(here)[len(done) :][0] == ("project", "append-002-00000")


def test_every_append_carries_all_earlier_ones(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    parts_of_it = [new_vectors(dataset, "second", 1), new_vectors(dataset, "third", 2)]
    monkeypatch.chdir(tmp_path)
    root = ("--set", "root=a run")  # relative, and the earlier appends stay if it is named in full
    assert call("run", dataset.config, *STEPS, "--local", *root)[0] == 0
    expected = 0
    for folder, size, more in zip(parts_of_it, (60, 40), (root, ("--set", f"root={tmp_path}/a run")), strict=True):
        assert append(dataset, folder, more=more)[0] == 0
        expected += size
        assert len(rows(tmp_path / "a run/appended/assignments")) == expected
    shutil.copytree(dataset.folder / "second", dataset.folder / "fourth")
    assert append(dataset, dataset.folder / "fourth", more=root)[0] == 0
    assert pq.read_table(tmp_path / "a run/appended/assignments").num_rows == 160
    assert [batch.files for batch in parts.recorded(load(dataset.config, root[1:]))] == [3, 3, 3]


def test_images_are_appended_as_they_came(pictures: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    config = yaml.safe_load(pictures.config.read_text())
    config["images"]["path"] = ["data/images/{00000..00001}.tar"]
    pictures.config.write_text(yaml.safe_dump(config))
    assert call("run", pictures.config, *STEPS, "--local")[0] == 0
    code, said = call("append", pictures.config, "--shards", pictures.folder / "data/images/*.tar", "--local")
    assert code == 0
    assert "not taken twice (2 shards, 00000, 00001," in said
    here = pictures.root / "appended"
    assert [path.stem for path in (here / "labels").iterdir()] == ["append-001-00002"]
    assert pq.read_table(here / "features").num_rows == 40
    config = load(pictures.config)
    with pytest.raises(UsageError, match="--images is for runs that start from"):
        appending.append(config, ["x"], "y")
    # named in another way it is not taken twice either, and paths start from where the command is given
    monkeypatch.chdir(pictures.folder / "data")
    again, said = appending.append(config, ["images/00002.tar"], None)
    assert "00002, are appended already or are inputs of the run)" in said[0]
    assert list(again.files["images"]) == ["append-001-00002"]
    (pictures.folder / "link").symlink_to("data/images")
    assert "00002, are appended already" in appending.append(config, ["../link/00002.tar"], None)[1][0]
    batches = parts.recorded(config)
    assert len(batches) == 1
    named = appending._batch(config, ["new.tar", "@list.txt", "s3://bucket/new.tar"], None)
    assert named.shards == [f"{Path.cwd()}/new.tar", f"@{Path.cwd()}/list.txt", "s3://bucket/new.tar"]
    fitted = parts.finished(config, parts.NEEDED)
    clash = fitted._replace(files={**fitted.files, "assignments": {"append-001-00002": File("", "")}})
    with pytest.raises(RunStateError, match="the run has a shard append-001-00002, .* rename it"):
        parts.describe(clash, batches)
    # images of COCO's layout have no annotations yet
    coco = load(pictures.config, ["images={format: coco, path: [of], annotations: [captions.json]}"])
    (pictures.folder / "more").mkdir()
    (pictures.folder / "more/a.jpg").touch()
    found = parts._inputs(coco, parts.Batch(shards=[str(pictures.folder / "more")]), 1, FileCounts())
    assert found["images"]["00000"].path.names == ("a.jpg",)
    # named in the configuration as well they are fitted, and no longer appended
    config = load(pictures.config, ["images.path=[data/images/*.tar]"])
    assert Run(config, STEPS, True).go()
    assert parts.appended(fitted_part(config).plan()[1]) is None
    assert parts.together(config, ["labels"])[1] == {}
