"""The map of all images in a real browser: hover, search, the lasso and its files, hostile texts; places by hand."""

import csv
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from cpp.report.map_page import render
from cpp.report.tsne_map import place
from tests.support.browser import Tab, opened
from tests.support.pages import HOSTILE, webp


def test_a_code_of_the_sample_keeps_its_place_and_others_lie_between_the_nearest() -> None:
    angle = np.linspace(0, np.pi, 40)
    sample = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    points = np.stack([angle * 100, np.zeros(40)], axis=1)
    np.testing.assert_allclose(place(sample, sample, points), points, atol=1e-2)
    middle = (angle[10] + angle[11]) / 2
    x, y = place(np.array([[np.cos(middle), np.sin(middle)]], np.float32), sample, points)[0]
    assert 100 * angle[10] < x < 100 * angle[11]
    assert y == 0


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """Four clusters in the corners of the map, 50 images each; the last has hostile texts."""
    rng = np.random.default_rng(0)
    corner = np.repeat(np.arange(4), 50)
    table = pa.table(
        {
            "x": 200 + 600 * (corner % 2) + rng.uniform(-50, 50, 200),
            "y": 200 + 600 * (corner // 2) + rng.uniform(-50, 50, 200),
            "cluster": corner.astype(np.int32),
            "key": [f'{HOSTILE if k == 3 else "key"},"{i}"' for i, k in enumerate(corner)],
            "image_shard": [f"{k}.tar" for k in corner],
        }
    )
    titles = ["cat", "owl", "red fox", HOSTILE]
    clusters = [{"cluster": k, "size": 50, "title": titles[k], "examples": [f"e{k}"]} for k in range(4)]
    (tmp_path / "map.html").write_text(render("run", "0" * 16, table, clusters, {0: webp(72, 0)}), encoding="utf-8")
    return tmp_path / "map.html"


def lasso(tab: Tab, *corners: tuple[float, float]) -> None:
    """Draw the lasso through corners in shares of the canvas."""
    tab.page.locator("#points").scroll_into_view_if_needed()
    box = tab.page.locator("#points").bounding_box()
    assert box
    for i, (x, y) in enumerate([*corners, corners[0]]):
        tab.page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
        if i == 0:
            tab.page.mouse.down()
    tab.page.mouse.up()


def saved(tab: Tab, button: str) -> str:
    with tab.page.expect_download() as download:
        tab.page.click(button)
    return Path(download.value.path()).read_text(encoding="utf-8")


@pytest.mark.browser
def test_the_lasso_selects_images_for_a_list_and_a_tag(page: Path) -> None:
    with opened(page) as tab:
        tab.until("document.documentElement.dataset.ready === ''")
        tab.page.check("#lasso")
        lasso(tab, (0.02, 0.02), (0.5, 0.02), (0.5, 0.98), (0.02, 0.98))
        assert tab.page.inner_text("#selected") == "100 of 200 images in 2 clusters are selected."
        rows = list(csv.DictReader(io.StringIO(saved(tab, "#csv"))))
        assert {row["cluster"] for row in rows} == {"0", "2"}
        assert {row["key"] for row in rows} == {f'key,"{i}"' for i in [*range(50), *range(100, 150)]}
        assert rows[0]["image_shard"] == "0.tar"
        tab.page.fill("#tag", 'look: "again"')
        decisions = yaml.safe_load(saved(tab, "#actions [type=submit]"))
        assert (decisions["run"], decisions["state"]) == ("run", "0" * 16)
        assert [(d["action"], d["clusters"][0]["cluster"], d["tag"]) for d in decisions["decisions"]] == [
            ("tag", k, 'look: "again"') for k in (0, 2)
        ]
        assert decisions["decisions"][0]["clusters"][0]["members"] == ["e0"]
        tab.shot("map-lasso")


@pytest.mark.browser
def test_search_hover_and_hostile_texts(page: Path) -> None:
    with opened(page) as tab:
        tab.until("document.documentElement.dataset.ready === ''")
        tab.page.fill("#search", "fox")
        assert tab.page.inner_text("#found") == "1 of 4 clusters"
        tab.page.click("#select")
        assert tab.page.inner_text("#selected") == "50 of 200 images in 1 cluster are selected."
        tab.page.fill("#search", "#3")
        tab.page.click("#select")
        assert tab.page.title() == "Map: run"
        box = tab.page.locator("#points").bounding_box()
        assert box
        side = 0.94 * min(box["width"], box["height"])
        tab.page.locator("#points").hover(
            position={"x": box["width"] / 2 + 0.3 * side, "y": box["height"] / 2 + 0.3 * side}
        )
        tab.until("!document.getElementById('hover').hidden")
        assert "<script>" in tab.page.inner_text("#hover")
    assert [text for text in tab.said if "GL Driver Message" not in text] == []
    assert tab.asked == []
