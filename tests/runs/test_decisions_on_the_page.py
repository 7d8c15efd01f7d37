"""From the page to the tables and back: decisions are saved in a browser, applied by the command, and undone."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from pipelines.config.load import load
from pipelines.run import Run
from tests.support.browser import opened
from tests.support.datasets import Dataset
from tests.support.runs import call

pytestmark = [pytest.mark.slow, pytest.mark.browser]


def titles(root: Path) -> list[str]:
    """The names that the page shows, in the order of the clusters' numbers."""
    with opened(root / "report.html") as tab:
        tab.page.select_option("#sort", "number")
        names: list[str] = tab.page.eval_on_selector_all(".card h3", "names => names.map(name => name.textContent)")
    assert tab.said == []
    return names


def test_what_is_decided_on_the_page_is_applied_shown_and_undone(dataset: Dataset, tmp_path: Path) -> None:
    root = dataset.root
    assert Run(load(dataset.config, []), local=True).go()
    before, bytes_before = titles(root), (root / "clusters.parquet").read_bytes()
    with opened(root / "report.html") as tab:
        page = tab.page
        page.select_option("#sort", "number")
        for cluster, name in ((0, 'a "new" name: # 🐆'), (1, "another")):
            page.check(f"#cluster-{cluster} .pick")
            page.keyboard.press("e")
            page.wait_for_selector("#ask[open]")
            page.fill("#ask-text", name)
            page.keyboard.press("Enter")
            page.wait_for_selector("#ask", state="hidden")
            page.keyboard.press("Escape")
        page.check("#cluster-2 .pick")
        page.keyboard.press("d")
        with page.expect_download() as download:
            page.keyboard.press("Shift+S")
        file = tmp_path / "decisions.yaml"
        download.value.save_as(file)
    assert tab.said == []

    status, output = call("decide", dataset.config, file, "--local")
    assert status == 0, output
    clusters = pd.read_parquet(root / "clusters.parquet").query("main").set_index("cluster")
    assert clusters.loc[[0, 1], "title"].tolist() == ['a "new" name: # 🐆', "another"]
    assert clusters.loc[2, "dropped"] is not None
    assert titles(root) == clusters["title"].tolist()
    with opened(root / "report.html") as tab:
        assert "dropped" in (tab.page.locator("#cluster-2 .applied").text_content() or "")
        assert tab.page.locator("#sum").text_content() == "No decisions yet"  # the page is of another state

    status, output = call("decide", dataset.config, "--undo", "--local")
    assert status == 0, output
    assert (root / "clusters.parquet").read_bytes() == bytes_before
    assert titles(root) == before
