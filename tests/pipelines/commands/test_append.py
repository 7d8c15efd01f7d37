"""An append: as the whole run would assign, nothing of it computed again, nothing lost, whatever comes after."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from cpp.clustering.drift import Profile
from cpp.export.dataset import Format
from cpp.sources.ignored import FileCounts
from cpp.store.lease import LockedError
from cpp.store.local import Store
from cpp.store.results import File
from pipelines.commands import append as appending
from pipelines.commands import export, parts
from pipelines.commands.export_plan import Wanted
from pipelines.config.errors import RunStateError, UsageError
from pipelines.config.load import load
from pipelines.engine.stage import Context
from pipelines.graph import fitted as fitted_part
from pipelines.run import Run
from pipelines.stages.artifacts import read_groups, read_tree
from pipelines.stages.drift import Growth
from tests.support.appending import STEPS, append, new_vectors, rows
from tests.support.datasets import Dataset
from tests.support.runs import call

STOPPING = """
import sys, time
from cpp.store.local import Store
from pipelines.__main__ import app

appear, made = Store._move, [0]

def late(store, written):
    made[0] += any(f"/cache/{sys.argv[1]}/" in target for target in written)
    if made[0] == 5:
        print("NOW", flush=True)
        time.sleep(600)
    appear(store, written)

Store._move = late
app(sys.argv[2:])
"""  # the program with the fifth file of a product, finished and not there yet, at which it is stopped


def files(folder: Path) -> list[Path]:
    """Every file of a run but its logs."""
    logs = {"run.json", "run.log", "events.jsonl", "lock"}
    return [path for path in folder.rglob("*") if path.is_file() and path.name not in logs]


def times(folder: Path) -> dict[Path, int]:
    """When every file of a run but its logs was changed, without what was appended."""
    return {path: path.stat().st_mtime_ns for path in files(folder) if "appended" not in path.parts}


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in files(folder)}


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


def test_the_report_says_how_well_they_fit(dataset: Dataset) -> None:
    new = new_vectors(dataset, "new", 2)
    label = pq.read_table(new / "metadata")["label"].to_numpy()
    for path, n_bad in ((dataset.folder / "data/img_emb/img_emb_0.npy", 1), (new / "img_emb/img_emb_0.npy", 2)):
        X = np.load(path)
        if n_bad == 2:
            one, other = X[label == 0][-1], X[label == 1][-1]
            X[label == 3], X[5] = one, one + other  # nothing of one kind, and an image between two clusters
            X[6] = -one - other  # which is far from all
        X[:n_bad] = np.nan
        np.save(path, X)
    how = ("--set", "label.min_confidence=1", "--set", "partition={n_clusters: 4, fine: 12, layers: [9]}")
    call("run", dataset.config, *STEPS, "--local", *how)
    append(dataset, new, more=how)
    said = json.loads((dataset.root / "appended/growth.json").read_text())
    assert [said["fitted"][what] for what in ("images", "rejected")] == [119, 1]
    assert [said["appended"][what] for what in ("images", "rejected")] == [38, 2]
    assert said["refit_due"] is False
    by_cluster = pq.read_table(dataset.root / "appended/growth_by_cluster.parquet").to_pylist()
    guesses = pq.read_table(dataset.root / "clusters.parquet", filters=[("main", "=", True)]).to_pylist()
    assert [row["guess"] for row in by_cluster] == [row["guess"] for row in guesses]
    for kind, score, small, root in (
        ("fitted", "fitted_score", "fitted_small_margin", dataset.root),
        ("appended", "score", "small_margin", dataset.root / "appended"),
    ):
        there = np.array(list(rows(root / "assignments").values()))  # cluster, score, margin
        for row in by_cluster:
            own = there[there[:, 0] == row["cluster"]]
            assert row[kind] == len(own)
            assert row[score] == (pytest.approx(own[:, 1].mean()) if len(own) else None)
            assert row[small] == ((own[:, 2] < 0.05).mean() if len(own) else None)
    assert (
        {bool(row["small_margin"]) for row in by_cluster}
        == {row["score"] is None for row in by_cluster}
        == {False, True}
    )
    whole = {kind: [f"{dataset.root}/{kind}.safetensors"] for kind in ("groups", "tree")}
    whole |= {kind: [str(*(dataset.root / "appended" / kind).iterdir())] for kind in ("codes", "assignments")}
    context = Context(whole, 1, "cpu", 8, 8, 1)
    close = there[
        there[:, 1] >= read_groups(context).reach
    ]  # of the appended ones; the others are no measure of clusters
    came = Growth(title="")._appended_moments(context, read_tree(context), Profile.empty(4))
    assert 0 < len(close) < len(there)
    assert came.count_K.tolist() == np.bincount(close[:, 0].astype(int), minlength=4).tolist()
    page = (dataset.root / "appended/report.html").read_text()
    assert "The clusters still fit" in page
    assert "Coloured things" in page
    assert all(row["name"] is None and f"{row['cluster']} {row['guess']}?<" in page for row in by_cluster)


def test_images_unlike_the_fitted_ones_make_a_refit_due(dataset: Dataset) -> None:
    new = new_vectors(dataset, "new", 2)
    call("run", dataset.config, *STEPS, "--local")
    strange = np.random.default_rng(3).standard_normal((40, 16)).astype(np.float16)
    np.save(new / "img_emb/img_emb_0.npy", strange)
    code, said = append(dataset, new)
    assert code == 0
    assert "refit is due: The clusters save" in said
    growth = dataset.root / "appended/growth.json"
    found = json.loads(growth.read_text())
    growth.chmod(0o644)
    growth.write_bytes(growth.read_bytes()[:9])  # cut off: nothing is said of it
    assert "refit" not in (told := call("status", dataset.config, *STEPS))[1]
    assert told[0] == 0
    assert found["bits"]["appended_saved"] < found["bits"]["fitted_saved"]
    assert found["appended"]["low_score"] > 0.5 > found["fitted"]["low_score"]


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


def test_an_earlier_append_that_does_not_fit_any_more_is_an_error(dataset: Dataset) -> None:
    first, second = new_vectors(dataset, "first", 2), new_vectors(dataset, "second", 1)
    without = ("--set", "import.images=null")
    assert call("run", dataset.config, *STEPS, "--local", *without)[0] == 0
    assert call("append", dataset.config, "--shards", first, "--local", *without)[0] == 0
    assert call("run", dataset.config, *STEPS, "--local")[0] == 0  # the run has images now
    code, said = append(dataset, second)
    assert code == 2
    assert f"append 1, {first}: was appended with images null, and import.images of the run is data/images:" in said
    assert len(rows(dataset.root / "appended/assignments")) == 40
    for kind, name in (("img_emb", "img_emb_3.npy"), ("metadata", "metadata_3.parquet")):
        shutil.copy(next((first / kind).iterdir()), first / kind / name)
    assert call("append", dataset.config, "--shards", first, "--local", *without)[0] == 0  # a file more is appended
    for path in (first / "img_emb/img_emb_3.npy", first / "metadata/metadata_3.parquet"):
        path.unlink()
    code, said = call("append", dataset.config, "--shards", second, "--local", *without)
    assert code == 2
    assert f"append 1, {first}: has 2 files, and had 4 when it was appended" in said


def test_replaced_files_of_an_earlier_append_are_named(dataset: Dataset) -> None:
    new = new_vectors(dataset, "new", 2)
    assert call("run", dataset.config, *STEPS, "--local")[0] == 0
    assert append(dataset, new)[0] == 0
    vectors, metadata = new / "img_emb/img_emb_0.npy", new / "metadata/metadata_0.parquet"
    np.save(vectors, np.load(vectors)[::-1])
    code, output = call("append", dataset.config, "--local")
    assert code == 0
    assert f"append 1, {new}: 1 inputs changed since it was appended, and are read again: {vectors}" in output
    assert "inputs changed" not in call("append", dataset.config, "--local")[1]
    metadata.rename(metadata.with_name("another_0.parquet"))
    code, output = call("append", dataset.config, "--local")
    assert code == 2
    assert f"append 1, {new}: had {metadata} when it was appended; rows would be lost: put it back, or change" in output


def test_replaced_inputs_of_the_run_are_named(dataset: Dataset) -> None:
    new = new_vectors(dataset, "new", 2)
    assert call("run", dataset.config, *STEPS, "--local")[0] == 0
    metadata = dataset.folder / "data/metadata/metadata_1.parquet"
    pq.write_table(pq.read_table(metadata), metadata)
    code, output = append(dataset, new)
    assert code == 2
    output = " ".join(output.split())
    assert "step import has 1 of 2 shards done; new, changed or failed is 00001 (" in output
    assert str(metadata) in output


@pytest.mark.parametrize("option", ["--images", "--shards"])
def test_an_empty_path_is_not_appended(dataset: Dataset, option: str) -> None:
    other = "--shards" if option == "--images" else "--images"
    code, said = call("append", dataset.config, other, "new", option, "")
    assert code == 2
    assert f"{option} is an empty text" in said
    code, said = call("append", dataset.config, f"{option}=")
    assert code == 2
    assert f"{option} is an empty text" in said


def test_a_shard_of_the_run_is_not_appended_and_wrong_use_changes_nothing(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    new = new_vectors(dataset, "new", 2)
    code, said = append(dataset, new)
    assert code == 2
    assert "is not a finished run" in said
    with pytest.raises(RunStateError, match="What makes it: python -m pipelines run 'my run.yaml'\n"):
        appending.append(load(shutil.copy(dataset.config, "my run.yaml")), [str(new)], None)
    call("run", dataset.config, *STEPS, "--local")
    for args, expected in (
        ((dataset.folder / "data",), "there is nothing to append (2 shards, 00000, 00001, are appended already or"),
        ((new, new), "--shards names 2 folders; a run that starts from `import` takes one at a time"),
        ((dataset.folder / "gone",), f"append 1, {dataset.folder}/gone: the folder"),
        ((), "there is nothing to append: name new shards"),
    ):
        code, said = append(dataset, *args)
        assert code == 2, said
        assert expected in said
    code, said = call("append", dataset.config, "--shards", new, "--local")
    assert code == 2
    assert "with --images" in said
    assert not (dataset.root / "appended").exists()
    (dataset.root / "appended").mkdir()
    (dataset.root / "appended/appended.json").write_text("[{}]")
    code, said = call("append", dataset.config, "--local")
    assert code == 2
    assert "appended.json cannot be read" in said


def test_a_changed_appended_input_is_noticed_and_a_failed_one_is_set_aside(dataset: Dataset) -> None:
    new = new_vectors(dataset, "new", 2)
    call("run", dataset.config, *STEPS, "--local")
    whole = (new / "img_emb/img_emb_0.npy").read_bytes()
    (new / "img_emb/img_emb_0.npy").write_bytes(b"broken")
    code, said = append(dataset, new)
    assert code == 1
    assert "failed: import append-001-00000: ValueError" in said
    code, said = call("export", dataset.config, "--format", "csv", "--local")
    assert code == 2
    assert "is not up to date" in said
    new.rename(new.with_name("gone"))
    code, said = call("append", dataset.config, "--local")
    assert code == 2
    assert f"({dataset.root}/appended/appended.json lists the earlier appends: remove an entry" in said
    new.with_name("gone").rename(new)
    (new / "img_emb/img_emb_0.npy").write_bytes(whole)
    assert call("append", dataset.config, "--local")[0] == 0


def test_run_afterwards_keeps_what_was_appended_and_says_when_it_is_stale(dataset: Dataset) -> None:
    new = new_vectors(dataset, "new", 2)
    call("run", dataset.config, *STEPS, "--local")
    append(dataset, new)
    here = rows(dataset.root / "appended/assignments")
    code, said = call("run", dataset.config, *STEPS, "--local")
    assert code == 0
    assert "not up to date" not in said
    code, said = call("run", dataset.config, *STEPS, "--local", "--set", "label.top=3")
    assert code == 0
    assert "1 appended shards in" in said
    assert rows(dataset.root / "appended/assignments") == here
    assert append(dataset, more=("--set", "label.top=3"))[0] == 0
    assert "not up to date" not in call("run", dataset.config, *STEPS, "--local", "--set", "label.top=3")[1]
    shutil.rmtree(new)
    (said,) = parts.stale(load(dataset.config, ["label.top=3"]))
    assert "append 1, " in said


def test_export_search_and_status_see_appended_images(dataset: Dataset) -> None:
    new = new_vectors(dataset, "new", 2)
    call("run", dataset.config, *STEPS, "--local")
    append(dataset, new)
    code, said = call("export", dataset.config, "--format", "imagefolder", "--local")
    assert code == 0
    assert "160 of 160 images" in said
    table = pq.read_table(dataset.root / "export/imagefolder/images.parquet").to_pylist()
    assert {row["image_shard"] for row in table} > {str(new / "images/00000.tar")}
    wanted = Wanted(Format.CSV)
    assert export.go(load(dataset.config), wanted, True).images == 160
    code, said = call("search", dataset.config, "red thing", "-n", 160)
    assert code == 0
    assert "20000" in said
    said = call("status", dataset.config)[1]
    assert "Coloured things, appended: done" in said
    assert "refit is not due" in said


def test_a_curated_export_counts_appended_images_as_left_out(dataset: Dataset) -> None:
    new = new_vectors(dataset, "new", 2)
    curate = ("--set", "curate={duplicates: null, outliers: null, size: 100}")
    assert call("run", dataset.config, "labels", "curate", "--local", *curate)[0] == 0
    assert append(dataset, new, more=curate)[0] == 0
    code, said = call("export", dataset.config, "--format", "csv", "--curated", "--local", *curate)
    assert code == 0, said
    assert "100 of 160 images" in said
    assert "left out: 40 appended, which curation does not cover" in said
    record = json.loads((dataset.root / "export/csv/export.json").read_text())
    assert record["images"] + sum(record["left_out"].values()) == 160
    assert "160 of 160 images" in call("export", dataset.config, "--format", "parquet", "--local", *curate)[1]


@pytest.mark.slow
def test_an_append_that_is_stopped_and_killed_goes_on_to_the_same_bytes(dataset: Dataset) -> None:
    new = new_vectors(dataset, "new", 2)
    for number in range(1, 8):  # enough of them to be stopped within a step
        for name in ("img_emb/img_emb_{}.npy", "metadata/metadata_{}.parquet", "images/{:05d}.tar"):
            shutil.copy(new / name.format(0), new / name.format(number))  # a link would not be taken twice
    call("run", dataset.config, *STEPS, "--local")
    undisturbed = shutil.copytree(dataset.root, dataset.folder / "undisturbed")
    assert append(dataset, new, more=("--set", f"root={undisturbed}"))[0] == 0
    here, named = dataset.root / "appended", ["--shards", new, "--images", new / "images"]
    command = ["append", dataset.config, "--local", *named]
    for made, number, code in (("codes", signal.SIGINT, 130), ("votes", signal.SIGKILL, -9)):
        program = [sys.executable, "-c", STOPPING, made, *command]
        with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            assert process.stdout is not None
            next(line for line in process.stdout if "NOW" in line)
            process.send_signal(number)
            rest = process.stdout.read()
        assert process.returncode == code, rest
        assert len(list((here / "cache" / made).iterdir())) == 4
    assert "appended: stopped; run the same command again" in call("status", dataset.config)[1]
    code, said = append(dataset, new)
    assert code == 0, said
    assert "appended already, as append 1" in said
    assert contents(here) == contents(undisturbed / "appended")


def test_two_appends_at_once_are_refused(dataset: Dataset) -> None:
    new = new_vectors(dataset, "new", 2)
    call("run", dataset.config, *STEPS, "--local")
    with Store(dataset.root / "appended").lock():
        code, said = append(dataset, new)
    assert code == 2
    assert "another run is writing to" in said
    assert parts.recorded(load(dataset.config)) == []
    one, other = parts.Batch(shards=["one"]), parts.Batch(shards=["other"])
    parts.save_record(load(dataset.config), [], [one])
    with pytest.raises(LockedError, match="something else was appended to .* just now: run the same command again"):
        parts.save_record(load(dataset.config), [], [other])
    assert parts.recorded(load(dataset.config)) == [one]


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
    fitted = parts.finished(config, parts.LABELLED)
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
