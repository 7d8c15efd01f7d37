"""From the page to the tables and back: decisions are made by keys in a browser, applied by the command, and undone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pytest

from pipelines.config.load import load
from pipelines.run import Run
from tests.support.browser import Tab, opened
from tests.support.datasets import Dataset
from tests.support.runs import call

pytestmark = [pytest.mark.slow, pytest.mark.browser]

N_CLUSTERS = 7
NAMES = ['a "new" name: # 🐆', "another"]


def titles(root: Path) -> list[str]:
    """The names that the page shows, in the order of the clusters' numbers."""
    with opened(root / "report.html") as tab:
        tab.page.select_option("#sort", "number")
        names: list[str] = tab.page.eval_on_selector_all(".card h3", "names => names.map(name => name.textContent)")
    assert tab.said == []
    return names


def decide(tab: Tab, clusters: Iterable[int], key: str, text: str | None = None) -> None:
    """Select these clusters, decide about them by a key, and answer the question with `text`; by keys alone."""
    page = tab.page
    page.keyboard.press("Escape")
    for cluster in clusters:
        while page.locator(f"#cluster-{cluster}.here").count() == 0:
            page.keyboard.press("j")
        page.keyboard.press("x")
    for _ in range(N_CLUSTERS):
        page.keyboard.press("k")  # back to the first
    page.keyboard.press(key)
    if text is not None:
        page.wait_for_selector("#ask[open]")
        page.keyboard.type(text)
        page.keyboard.press("Enter")
        page.wait_for_selector("#ask", state="hidden")


def decided(root: Path, file: Path) -> None:
    """Rename two, merge two, split one and drop one on the page, and save the file."""
    with opened(root / "report.html") as tab:
        tab.page.select_option("#sort", "number")
        tab.page.evaluate("document.activeElement.blur()")
        for cluster, name in enumerate(NAMES):
            decide(tab, [cluster], "e", name)
        decide(tab, [2, 3], "m", "")
        decide(tab, [4], "s")
        decide(tab, [5], "d")
        with tab.page.expect_download() as download:
            tab.page.keyboard.press("Shift+S")
        download.value.save_as(file)
    assert tab.said == []


def test_what_is_decided_on_the_page_is_applied_shown_exported_and_undone(dataset: Dataset, tmp_path: Path) -> None:
    root, file, folder = dataset.root, tmp_path / "decisions.yaml", tmp_path / "export"
    assert Run(load(dataset.config, [f"partition.n_clusters={N_CLUSTERS}"]), local=True).go()
    before = titles(root)
    paths = [root / "clusters.parquet", *sorted((root / "assignments").iterdir()), *sorted((root / "labels").iterdir())]
    bytes_before = [path.read_bytes() for path in paths]
    cluster_before = pd.read_parquet(root / "assignments").set_index("key")["cluster"]
    decided(root, file)

    status, output = call("decide", root, file, "--local")
    assert status == 0, output
    clusters = pd.read_parquet(root / "clusters.parquet").query("main").set_index("cluster")
    images = pd.read_parquet(root / "assignments").set_index("key")
    assert len(clusters) == N_CLUSTERS
    assert clusters.loc[[0, 1], "title"].tolist() == NAMES
    assert clusters["dropped"].notna().sum() == 1
    assert images["cluster"].value_counts().to_dict() == clusters["size"].to_dict()
    merged = images["cluster"][cluster_before.isin([2, 3])]
    assert merged.value_counts(normalize=True).iloc[0] > 0.5  # the halves of the split attract some
    assert images["cluster"][cluster_before == 4].nunique() == 2
    assert titles(root) == clusters["title"].tolist()
    with opened(root / "report.html") as tab:
        assert tab.page.locator(".applied", has_text="dropped").count() == 1
        assert tab.page.locator("#sum").text_content() == "No decisions yet"  # the page is of another state

    assert call("export", root, "--format", "csv", "--to", folder)[0] == 0
    exported = pd.read_csv(folder / "images.csv", dtype={"key": str})
    kept = images[images["cluster"] != clusters.index[clusters["dropped"].notna()][0]]
    assert sorted(exported["key"]) == sorted(kept.index)
    assert set(NAMES) <= set(exported["class_name"])

    status, output = call("decide", root, "--undo", "--local")
    assert status == 0, output
    assert [path.read_bytes() for path in paths] == bytes_before
    assert titles(root) == before
