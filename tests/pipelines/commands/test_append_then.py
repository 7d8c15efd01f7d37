"""Commands after an append: they take the appended images in, or say what is not up to date."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from cpp.curation import cells
from cpp.export.format import Format
from pipelines.commands import export, parts
from pipelines.commands.export_plan import Wanted
from pipelines.config.load import load
from pipelines.stages import duplicate_pairs
from tests.support.appending import STEPS, append, new_vectors, rows
from tests.support.datasets import Dataset
from tests.support.runs import call, files


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


def fitted_files(dataset: Dataset) -> dict[str, bytes]:
    """What a person opens of the run, but for what was appended."""
    return {name: data for name, data in files(dataset.root).items() if not name.startswith("appended/")}


DUPLICATES = ("--set", "curate={duplicates: {threshold: 0.99999, lowest: 0.999, pictures: false}}")


@pytest.mark.parametrize("members", [16_384, 20])
def test_appended_shards_are_curated_with_the_run(
    dataset: Dataset, members: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one cell, and in several that are searched one after another.

    Of the appended images, 10 are copies of images of the run, and 10 are copies of other appended ones.
    """
    monkeypatch.setattr(cells, "ROWS", members)
    monkeypatch.setattr(duplicate_pairs, "BUCKET", 4 * members)
    new, n = new_vectors(dataset, "new", 2), 10
    X = np.load(new / "img_emb/img_emb_0.npy")
    X[:n], X[n : 2 * n] = np.load(dataset.folder / "data/img_emb/img_emb_0.npy")[:n], X[2 * n : 3 * n]
    np.save(new / "img_emb/img_emb_0.npy", X)
    assert call("run", dataset.config, "--local", *DUPLICATES)[0] == 0
    before, appended = fitted_files(dataset), dataset.root / "appended"
    code, said = append(dataset, new, more=DUPLICATES)
    assert code == 0, said
    assert fitted_files(dataset) == before
    duplicates = pq.read_table(appended / "duplicates").to_pandas()
    kept = duplicates["kept"].to_numpy()
    assert not kept[:n].any()
    keys = pq.read_table(dataset.root / "features/00000.parquet")["key"].to_pylist()
    assert duplicates["kept_key"][:n].tolist() == keys[:n]
    assert (kept[n : 2 * n] != kept[2 * n : 3 * n]).all()
    assert pq.read_table(appended / "drop").num_rows == (~kept).sum()
    assert pq.read_table(appended / "keep").num_rows == kept.sum()
    assert np.isfinite(pq.read_table(appended / "outliers")["outlier"].to_numpy()).all()
    assert pq.read_table(appended / "quality").num_rows == len(X)
    assert json.loads((appended / "curation.json").read_text())["images"] == len(X)
    said = call("export", dataset.config, "--format", "csv", "--curated", "--local", *DUPLICATES)[1]
    n_kept = sum(pq.read_table(root / "keep").num_rows for root in (dataset.root, appended))
    assert f"{n_kept} of 160 images" in said


def test_a_later_append_drops_nothing_that_an_earlier_one_kept(dataset: Dataset) -> None:
    first, second = new_vectors(dataset, "first", 1), new_vectors(dataset, "second", 2)
    n = len(np.load(second / "img_emb/img_emb_0.npy"))
    np.save(second / "img_emb/img_emb_0.npy", np.load(first / "img_emb/img_emb_0.npy")[:n])
    assert call("run", dataset.config, "--local", *DUPLICATES)[0] == 0
    assert append(dataset, first, more=DUPLICATES)[0] == 0
    keep = dataset.root / "appended/keep"
    before = pq.read_table(keep)
    assert append(dataset, second, more=DUPLICATES)[0] == 0
    assert pq.read_table(keep / "append-001-00000.parquet").equals(before)
    assert pq.read_table(keep / "append-002-00000.parquet").num_rows == 0


def test_an_appended_image_joins_a_balanced_subset_only_if_its_group_has_room(dataset: Dataset) -> None:
    """The last digit of a key names its group, in the run and in the appended shard."""
    new = new_vectors(dataset, "new", 2)
    curate = "curate={duplicates: null, outliers: null, quality: null, size: 150}"
    settings = ("--set", curate, "--set", "import.group={pattern: '(.)$', keep: 13}")
    assert call("run", dataset.config, "labels", "curation", "--local", *settings)[0] == 0
    assert pq.read_table(dataset.root / "keep").num_rows == 120  # 12 of each group
    code, output = append(dataset, new, more=settings)
    assert code == 0, output
    keys = pq.read_table(dataset.root / "appended/keep")["key"].to_pylist()
    assert sorted(key[-1] for key in keys) == [*"0123456789"]
    assert pq.read_table(dataset.root / "appended/assignments").num_rows == 40


def test_appended_images_enter_a_balanced_subset_only_as_far_as_it_has_room(dataset: Dataset) -> None:
    new = new_vectors(dataset, "new", 2)
    for size, kept in ((100, 0), (130, 10)):
        curate = ("--set", f"curate={{duplicates: null, outliers: null, quality: null, size: {size}}}")
        assert call("run", dataset.config, "labels", "curation", "--local", *curate)[0] == 0
        code, said = append(dataset, *([new] if size == 100 else []), more=curate)
        assert code == 0, said
        assert pq.read_table(dataset.root / "appended/keep").num_rows == kept
        code, said = call("export", dataset.config, "--format", "csv", "--curated", "--local", *curate)
        assert code == 0, said
        assert f"{size} of 160 images" in said
    assert "160 of 160 images" in call("export", dataset.config, "--format", "parquet", "--local", *curate)[1]
