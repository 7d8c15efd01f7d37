"""Commands after an append: they take the appended images in, or say what is not up to date."""

import json
import shutil

import pyarrow.parquet as pq

from cpp.export.format import Format
from pipelines.commands import export, parts
from pipelines.commands.export_plan import Wanted
from pipelines.config.load import load
from tests.support.appending import STEPS, append, new_vectors, rows
from tests.support.datasets import Dataset
from tests.support.runs import call


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
