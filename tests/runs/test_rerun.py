"""A second run computes what is missing or changed and nothing else, and the stable names show one complete run."""

import re
from typing import NoReturn

import numpy as np
import pandas as pd
import pytest

from pipelines.commands import terminal
from pipelines.config.load import load
from pipelines.stages.name import Label
from tests.support.datasets import Dataset
from tests.support.runs import computed, files, go


def test_repeating_a_finished_run_computes_nothing(dataset: Dataset) -> None:
    go(dataset)
    before = files(dataset.root)
    again = go(dataset)
    assert again.ok
    assert computed(again) == {}
    assert files(dataset.root) == before


def test_a_changed_setting_recomputes_what_depends_on_it(dataset: Dataset) -> None:
    go(dataset)
    pages = {"report": 1, "plots": 1, "map_page": 1}
    assert computed(go(dataset, "label.top=2")) == {"vote": 3, "label": 1, "labels": 3, **pages}
    assert len(pd.read_parquet(dataset.root / "clusters.parquet")["top"][0]) <= 2
    assert computed(go(dataset)) == {}  # and back: the earlier results are still there
    assert computed(go(dataset, names=["project"])) == {}


def test_results_do_not_depend_on_resources(dataset: Dataset) -> None:
    go(dataset)
    go(dataset, f"root={dataset.folder / 'other'}", "resources={workers: 2, batch: 11, prefetch: 1}")
    one, other = files(dataset.root), files(dataset.folder / "other")
    assert one.keys() == other.keys()
    for name in ("clusters.parquet", "assignments/00000.parquet"):
        a, b = (pd.read_parquet(root / name) for root in (dataset.root, dataset.folder / "other"))
        pd.testing.assert_frame_equal(a, b, check_exact=False, atol=1e-3)
        assert a["cluster"].tolist() == b["cluster"].tolist()


def test_named_steps_run_with_their_upstream_steps(dataset: Dataset) -> None:
    run = go(dataset, names=["project"])
    assert list(run.outcomes) == ["import", "fit", "project"]
    assert (dataset.root / "codes" / "00002.parquet").exists()
    assert not (dataset.root / "clusters.parquet").exists()


def test_allow_failed_continues_and_a_repaired_input_is_added_later(dataset: Dataset) -> None:
    path = dataset.folder / "data/img_emb/img_emb_1.npy"
    good = path.read_bytes()
    path.write_bytes(b"broken")
    run = go(dataset, allow_failed=True)
    assert not run.ok
    assert run.outcomes["report"].ok
    assert pd.read_parquet(dataset.root / "clusters.parquet")["size"].sum() == 100
    path.write_bytes(good)
    assert (dataset.root / "failed/import-00001.txt").exists()
    repaired = go(dataset)
    assert repaired.ok
    assert not (dataset.root / "failed").exists()
    assert computed(repaired)["import"] == 1
    assert pd.read_parquet(dataset.root / "clusters.parquet")["size"].sum() == dataset.rows


def test_a_file_deleted_from_the_cache_is_recomputed(dataset: Dataset) -> None:
    go(dataset)
    before = files(dataset.root)
    next((dataset.root / "cache" / "assignments").glob("00001-*")).unlink()
    assert computed(go(dataset)) == {"assign": 1}
    assert files(dataset.root) == before


@pytest.mark.slow
def test_stable_names_show_one_complete_run(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    go(dataset)
    before, page = files(dataset.root), (dataset.root / "report.html").read_bytes()
    path = dataset.folder / "data/img_emb/img_emb_1.npy"
    good = path.read_bytes()
    np.save(path, -np.load(path))

    def broken(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Label, "open", broken)
        with pytest.raises(KeyboardInterrupt):
            go(dataset)
    path.write_bytes(b"broken")
    assert not go(dataset).ok
    seen = files(dataset.root)
    assert seen.pop("failed/import-00001.txt")
    assert (seen, (dataset.root / "report.html").read_bytes()) == (before, page)
    assert re.search(
        r"run shows the run of 20.* until one is complete$", "".join(terminal.failures(load(dataset.config)))
    )
    go(dataset, allow_failed=True)
    assert not any("00001" in name for name in files(dataset.root) if not name.startswith("failed/"))
    assert "shows the run" not in "".join(terminal.failures(load(dataset.config)))
    path.write_bytes(good)
    assert go(dataset).ok
    assert files(dataset.root) == before
