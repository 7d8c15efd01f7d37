"""Pages of outliers and of the balance: their numbers, their pictures, hostile names, a phone."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from cpp.report.section_pages import PAGES, SCORE_BINS, balance, outliers
from pipelines.config.load import load
from pipelines.run import Run
from tests.support.browser import PHONE, opened
from tests.support.datasets import Dataset


def webp() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30)).save(buffer, "WEBP")
    return buffer.getvalue()


def cells(html: str) -> list[tuple[str, ...]]:
    """The first two cells of each row of the tables."""
    return re.findall(r'<th scope="row"[^>]*>(.*?)</th><td[^>]*>(.*?)</td>', html)


def test_the_page_of_outliers_says_what_each_threshold_takes_out() -> None:
    counts = np.zeros(SCORE_BINS, np.int64)
    counts[[100, 850, 985, 999]] = [90, 5, 3, 2]
    parts = {"outlier": 0.9995, "margin": 0.2, "density": 0.999, "residual": 0.95, "caption": None}
    odd = {"kind": "outlier", "key": "<k>", "image_shard": "s", "title": "<b>cat</b>", "large": webp(), **parts}
    html = outliers("Run", counts, 0.999, [odd, {**odd, "kind": "density", "large": None}], PAGES)
    assert cells(html) == [
        ("0.5", "10"), ("0.8", "10"), ("0.9", "5"), ("0.95", "5"), ("0.98", "5"), ("0.99", "2"), ("0.995", "2"),
        ("0.999", "2"),
    ]  # fmt: skip
    assert "&lt;b&gt;cat&lt;/b&gt;: 1.000 · residual 95\u202f%" in html
    assert "<b>cat" not in html
    assert "margin 20" not in html  # only what is odd is said
    assert "Images that score above 0.999 are dropped." in html
    assert "No outlier is dropped" in outliers("Run", counts, None, [], {})


def test_the_page_of_the_balance_has_sizes_reasons_and_examples() -> None:
    summary = {"images": 100, "kept": 20, "asked": 30, "dropped": {"outlier": 80}}
    before, after = np.array([90, 10, 0]), np.array([10, 10, 0])
    row = {"cluster": 0, "key": "k", "image_shard": None, "large": None}
    examples = [{**row, "reason": "outlier"}, {**row, "reason": None}]
    html = balance("Run", summary, "How.", ["a", "b", "c"], before, after, examples, {})
    assert re.findall(r"<h3[^>]*>(.*?)</h3>", html) == ["a: kept", "a: dropped"]
    assert cells(html) == [("outlier", "80"), ("a", "90"), ("b", "10")]
    assert "The configuration asks for 30, but no more are left." in html
    assert "with the kept images only, as 2.0." in html


@pytest.mark.browser
def test_a_run_that_curates_has_the_pages_and_links_to_them(dataset: Dataset, tmp_path: Path) -> None:
    config = yaml.safe_load(dataset.config.read_text())
    config |= {"fit": {"recipe": "discriminant"}, "evaluate": None}
    config["curate"] = {"duplicates": None, "size": 40, "by": "random"}
    dataset.config.write_text(yaml.safe_dump(config))
    assert Run(load(dataset.config), local=True).go()
    main = (dataset.root / "report.html").read_text()
    for name in ("outliers_page.html", "balance_page.html"):
        assert f'href="{name}"' in main
        assert "base64,UklG" in (dataset.root / name).read_text()
        with opened(dataset.root / name, PHONE) as tab:
            assert tab.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        assert (tab.said, tab.asked) == ([], [])
    assert "duplicates_page.html" not in main
    again = Run(load(dataset.config, ["report.images=false"]), ["curation", "outliers_page"], local=True)
    assert again.go()
    assert "base64,UklG" not in (dataset.root / "outliers_page.html").read_text()
