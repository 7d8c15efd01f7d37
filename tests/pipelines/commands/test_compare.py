"""The command `compare` on finished runs: the table, the page in a browser, buckets, and refusals by name."""

from pathlib import Path

import pandas as pd
import pytest

from cpp.files import filesystem
from tests.support.browser import PHONE, opened
from tests.support.datasets import Dataset
from tests.support.object_store import ObjectStore
from tests.support.runs import call


@pytest.fixture
def other(done: Dataset, tmp_path: Path) -> Path:
    """A second run of the same images, into two clusters."""
    root = tmp_path / "two"
    assert call("run", done.config, "--local", "--set", f"root={root}", "--set", "partition.n_clusters=2")[0] == 0
    return root


@pytest.mark.browser
def test_two_runs_beside_each_other(done: Dataset, other: Path) -> None:
    code, message = call("compare", done.root, other)
    assert code == 0, message
    folder = other / f"compared-with-{done.root.name}"
    assert f"{done.rows:,} images are in both runs, 0 only in A, 0 only in B" in message
    assert f"open {folder}/comparison.html" in message
    rows = pd.read_parquet(folder / "comparison.parquet")
    assert rows["images"].sum() == done.rows
    assert "merged" in set(rows["change"])
    for size in (None, PHONE):
        with opened(folder / "comparison.html", size) as tab:
            assert tab.page.locator(".compared").count() == rows["group"].nunique()
            assert tab.page.locator(".compared img").count() > 4
            assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            link = tab.page.locator("main a[href*='report.html']").first
            tab.shot(f"comparison-{'phone' if size else 'laptop'}")
            assert (folder / link.get_attribute("href").partition("#")[0]).exists()  # type: ignore[union-attr]
        assert (tab.said, tab.asked) == ([], [])


def test_a_run_agrees_with_itself_and_out_names_the_folder(done: Dataset, tmp_path: Path) -> None:
    code, message = call("compare", done.config, done.config, "--out", tmp_path / "same")
    assert code == 0, message
    assert "ARI 1.000, AMI 1.000" in message
    assert {path.name for path in (tmp_path / "same").iterdir()} == {"comparison.html", "comparison.parquet"}
    assert set(pd.read_parquet(tmp_path / "same" / "comparison.parquet")["change"]) == {"stayed"}


def test_what_cannot_be_compared_is_refused_by_name(done: Dataset, dataset: Dataset, tmp_path: Path) -> None:
    code, message = call("compare", done.root, dataset.config)
    assert code == 2
    assert f"cpp-at-scale run {dataset.config}" in message
    (tmp_path / "file").touch()
    code, message = call("compare", done.root, done.root, "--out", tmp_path / "file")
    assert (code, message) == (
        2,
        f"--out is {tmp_path / 'file'}, which is a file: name a folder, which need not exist\n",
    )


def test_runs_in_a_bucket_are_compared_there(done: Dataset, other: Path, s3: ObjectStore) -> None:
    for root in (done.root, other):
        filesystem.connect("s3://bucket")[0].put(f"{root}/", f"bucket/{root.name}/", recursive=True)
    code, message = call("compare", f"s3://bucket/{done.root.name}", f"s3://bucket/{other.name}")
    assert code == 0, message
    folder = f"s3://bucket/{other.name}/compared-with-{done.root.name}"
    with filesystem.open_file(f"{folder}/comparison.parquet") as file:
        there = pd.read_parquet(file)
    assert call("compare", done.root, other)[0] == 0
    pd.testing.assert_frame_equal(
        there, pd.read_parquet(other / f"compared-with-{done.root.name}" / "comparison.parquet")
    )
    with filesystem.open_file(f"{folder}/comparison.html") as file:
        assert b'href="../report.html#cluster-' in file.read()
