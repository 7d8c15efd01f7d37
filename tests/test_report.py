"""The page: the right pictures, hostile text as text, and a real browser."""

import base64
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

from cpp.report import Curve, Member, Members, Page, how_partitioned, members, render
from cpp.tables import Least
from pipelines.config import load
from pipelines.run import Run
from tests.conftest import COLOURS, WORDS, Dataset

HOSTILE = "<script>alert(1)</script>\"'&\u202e"


def page(**values: object) -> Page:
    cluster = {
        "cluster": 0,
        "size": 2,
        "name": HOSTILE,
        "share": 1.0,
        "runner_up": None,
        "margin": 1.0,
        "coding_rate": 2.5,
        "effective_rank": 3.5,
        "rate_share": 0.25,
        "nearest": 1,
        "overlap": 0.5,
        "small_margin": 0.125,
        "layer": 3,
    }
    given = {
        "title": HOSTILE,
        "rejected": {HOSTILE: 1},
        "clusters": [{**cluster, "top": [{"word": HOSTILE, "votes": 1.0, "share": 1.0}]}],
        "members": {0: Members([Member(HOSTILE, 0.5, 0.1, "a.tar"), Member("k", 0.5, 0.1, None, b"\xff\xd8")], [])},
        "curves": [Curve("R", "nats", [1.0, 2.0])],
        "warmup_steps": 1,
        "seconds": {"fit": 1.0},
        "settings": HOSTILE,
        "versions": {"torch": HOSTILE},
        "scores": None,
    }
    return Page(**{**given, **values})  # type: ignore[arg-type]


def test_hostile_text_is_shown_as_text() -> None:
    html = render(page())
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 7
    assert "1 pictures were not found" in html


def test_warnings_stand_on_the_page_and_only_there() -> None:
    assert "Three &lt; four" in render(page(warnings=["Three < four"]))
    assert 'role="alert"' not in render(page())


def test_the_page_says_how_the_sample_was_partitioned() -> None:
    said = how_partitioned({"method": "spectral", "silhouettes": {"kmeans": 0.25, "spectral": 0.5}})
    assert said == "Partition by spectral clustering; the silhouettes were k-means 0.250 and spectral clustering 0.500."
    assert how_partitioned({"method": "kmeans", "silhouettes": {}}) == "Partition by k-means."
    assert said in render(page(partition=said))


def test_a_curve_fills_its_frame_and_skips_what_is_missing() -> None:
    assert Curve("x", "", [float("nan"), 1.0, 3.0]).points(100, 10) == "50.0,10.0 100.0,0.0"
    assert Curve("x", "", [2.0]).points(100, 10) == "0.0,10.0"
    assert Curve("x", "", [float("nan")]).points(100, 10) == ""


def test_least_keeps_the_least_of_each_cluster_over_batches() -> None:
    rng = np.random.default_rng(0)
    value, cluster = rng.permutation(200).astype(float), rng.integers(0, 5, 200)
    least = Least(3)
    for part in np.array_split(np.arange(200), 7):
        least.add(value[part], pa.record_batch({"cluster": cluster[part], "row": part}))
    for k in range(5):
        mine = np.flatnonzero(cluster == k)
        expected = mine[np.argsort(value[mine])][:3].tolist()
        assert [row["row"] for row in least.rows() if row["cluster"] == k] == expected


@pytest.fixture
def finished(dataset: Dataset) -> Dataset:
    assert Run(load(dataset.config), local=True).go()
    return dataset


def test_every_cluster_shows_pictures_of_its_own(finished: Dataset) -> None:
    html = (finished.root / "report.html").read_text()
    sections = re.findall(r'<section class="cluster".*?</section>', html, re.DOTALL)
    assert len(sections) == 4
    for section in sections:
        name = re.search(r"<h3>(.*?)</h3>", section)
        assert name is not None
        expected = COLOURS[WORDS.index(name[1])]
        pictures = re.findall(r"base64,([^\"]+)", section)
        assert len(pictures) == 18
        for picture in pictures:
            pixel = Image.open(io.BytesIO(base64.b64decode(picture))).resize((1, 1)).getpixel((0, 0))
            assert np.abs(np.subtract(pixel, expected)).max() < 12


def test_typical_members_are_the_nearest_and_borderline_ones_the_least_decided(finished: Dataset) -> None:
    paths = [str(path) for path in sorted((finished.root / "assignments").iterdir())]
    rows = pd.concat([pd.read_parquet(path) for path in paths])
    for cluster, found in members(paths, prefetch=2, n_clusters=4).items():
        mine = rows[rows["cluster"] == cluster]
        assert sorted(m.score for m in found.typical) == sorted(mine["score"].nlargest(12))
        assert sorted(m.margin for m in found.borderline) == sorted(mine["margin"].nsmallest(6))


def test_a_real_browser_shows_it_without_errors_or_requests(finished: Dataset, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    said, asked = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1200, "height": 900})
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto((finished.root / "report.html").as_uri())
        for image in tab.locator("img").all():
            image.scroll_into_view_if_needed()
        tab.wait_for_function("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        assert tab.locator("img").count() == 4 * 18
        tab.locator("table a").first.click()
        assert "#cluster-" in tab.url
        narrow = browser.new_page(viewport={"width": 400, "height": 800})
        narrow.goto((finished.root / "report.html").as_uri())
        assert narrow.evaluate("document.documentElement.scrollWidth") <= 400
        browser.close()
    assert said == []
    assert [url[:60] for url in asked if not url.startswith(("file:", "data:"))] == []
