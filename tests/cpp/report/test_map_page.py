"""The map of all images in a real browser: hover, search, the lasso and its files, hostile texts; places by hand."""

import csv
import io
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe

from cpp.report.map_page import render
from cpp.report.tsne_map import place
from tests.support.browser import LAPTOP, PHONE, Tab, opened
from tests.support.pages import HOSTILE, made, webp, written


def test_a_code_of_the_sample_keeps_its_place_and_others_lie_between_the_nearest() -> None:
    angle = np.linspace(0, np.pi, 40)
    sample = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    points = np.stack([angle * 100, np.zeros(40)], axis=1)
    np.testing.assert_allclose(place(sample, sample, points), points, atol=1e-2)
    middle = (angle[10] + angle[11]) / 2
    x, y = place(np.array([[np.cos(middle), np.sin(middle)]], np.float32), sample, points)[0]
    assert 100 * angle[10] < x < 100 * angle[11]
    assert y == 0


def corners(last: str) -> pa.Table:
    """Points in the corners of the map, 50 of each of four clusters; the keys of the last begin with `last`."""
    rng = np.random.default_rng(0)
    corner = np.repeat(np.arange(4), 50)
    return pa.table(
        {
            "x": 200 + 600 * (corner % 2) + rng.uniform(-50, 50, 200),
            "y": 200 + 600 * (corner // 2) + rng.uniform(-50, 50, 200),
            "cluster": corner.astype(np.int32),
            "key": [f'{last if k == 3 else "key"},"{i}"' for i, k in enumerate(corner)],
            "image_shard": [f"{k}.tar" for k in corner],
        }
    )


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """Four clusters; the last has hostile texts."""
    titles = ["cat", "owl", "red fox", HOSTILE]
    clusters = [{"cluster": k, "size": 50, "title": titles[k], "examples": [f"e{k}"]} for k in range(4)]
    html = render("run", "0" * 16, corners(HOSTILE), clusters, {0: webp(72, 0)})
    (tmp_path / "map.html").write_text(html, encoding="utf-8")
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
        tab.page.click("#actions [type=submit]")
        assert tab.page.inner_text("#sum") == "Decided: 2 tagged (not saved as a file yet)"
        decisions = yaml.safe_load(saved(tab, "#save"))
        assert (decisions["run"], decisions["state"]) == ("run", "0" * 16)
        assert [(d["action"], d["clusters"][0]["cluster"], d["tag"]) for d in decisions["decisions"]] == [
            ("tag", k, 'look: "again"') for k in (0, 2)
        ]
        assert decisions["decisions"][0]["clusters"][0]["members"] == ["e0"]
        tab.shot("map-lasso")


@pytest.mark.browser
def test_a_tag_of_the_map_is_a_decision_of_the_main_page(tmp_path: Path) -> None:
    run = made(4)
    file = written(run, tmp_path)
    table = corners("key")
    (tmp_path / "map_page.html").write_text(render(run["title"], run["state"], table, run["cards"], {}))
    with opened(file) as tab:
        tab.page.goto((tmp_path / "map_page.html").as_uri())
        tab.until("document.documentElement.dataset.ready === ''")
        tab.page.fill("#search", "#2")
        tab.page.click("#select")
        tab.page.fill("#tag", "striped")
        tab.page.keyboard.press("Enter")
        tab.page.click("#selected-clusters a")
        tab.page.wait_for_url("**/report.html#cluster-2")
        assert tab.page.locator("#cluster-2 .decided").inner_text() == "tag: striped"
        assert tab.page.locator(".decided").count() == 1
        tab.page.click("#undo")
        assert tab.page.locator("#cluster-2 .decided").is_hidden()


@pytest.mark.browser
def test_buttons_and_keys_undo_and_redo_a_tag(page: Path) -> None:
    with opened(page) as tab:
        tab.until("document.documentElement.dataset.ready === ''")
        tab.page.click("#select")
        tab.page.fill("#tag", "look again")
        tab.page.keyboard.press("Enter")
        tab.page.keyboard.type("uU")  # into the field
        decided, undo, redo = (tab.page.locator(name) for name in ("#sum", "#undo", "#redo"))
        assert decided.inner_text().startswith("Decided: 4 tagged")
        assert (undo.inner_text(), redo.inner_text()) == ("Undo u", "Redo U")
        assert (undo.is_enabled(), redo.is_enabled()) == (True, False)
        undo.click()
        assert decided.inner_text() == "No decisions yet"
        assert (undo.is_enabled(), redo.is_enabled()) == (False, True)
        redo.click()
        assert decided.inner_text().startswith("Decided: 4 tagged")
        tab.page.keyboard.press("u")
        assert decided.inner_text() == "No decisions yet"
        tab.page.keyboard.press("Shift+U")
        assert decided.inner_text().startswith("Decided: 4 tagged")
        tab.shot("map-undo")


@pytest.mark.browser
def test_keys_alone_move_the_map_select_and_tag(page: Path) -> None:
    with opened(page) as tab:
        tab.until("document.documentElement.dataset.ready === ''")
        keys = tab.page.keyboard
        tab.page.locator("#points").focus()
        for key in ["+", "+", "+"]:
            keys.press(key)
        while tab.page.locator("#hover").is_hidden():
            keys.press("ArrowLeft")
            keys.press("ArrowUp")
        assert "cat #0" in tab.page.inner_text("#hover")
        keys.press("Enter")
        assert tab.page.inner_text("#selected") == "50 of 200 images in 1 cluster are selected."
        keys.press("Escape")
        assert tab.page.inner_text("#selected") == "No image is selected."
        tab.page.locator("#in-view").focus()
        keys.press("Enter")
        assert re.fullmatch(r"\d+ of 200 images in 1 cluster are selected.", tab.page.inner_text("#selected"))
        tab.page.locator("#points").focus()
        keys.press("0")
        tab.page.locator("#in-view").focus()
        keys.press("Enter")
        assert tab.page.inner_text("#selected") == "200 of 200 images in 4 clusters are selected."
        tab.page.locator("#tag").focus()
        keys.type("all")
        keys.press("Enter")
        assert tab.page.inner_text("#sum").startswith("Decided: 4 tagged")


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "phone"])
def test_axe_accepts_the_map_and_it_fits_the_screen(page: Path, scheme: str, size: dict[str, int]) -> None:
    with opened(page, size, color_scheme=scheme, has_touch=size == PHONE) as tab:
        tab.until("document.documentElement.dataset.ready === ''")
        tab.page.click("#select")
        tab.page.fill("#tag", "x")
        tab.page.keyboard.press("Enter")
        tab.page.locator("#points").focus()
        tab.page.keyboard.press("+")
        violations = Axe().run(tab.page).response["violations"]
        assert [(v["id"], v["nodes"][0]["html"][:200]) for v in violations] == []
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        tab.shot(f"map-page-{scheme}-{size['width']}")


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


@pytest.mark.browser
def test_only_the_main_button_that_went_down_on_the_map_selects(page: Path) -> None:
    with opened(page) as tab:
        tab.until("document.documentElement.dataset.ready === ''")
        tab.page.locator("#points").scroll_into_view_if_needed()
        box = tab.page.locator("#points").bounding_box()
        assert box
        side, mouse = 0.94 * min(box["width"], box["height"]), tab.page.mouse
        x, y = box["x"] + box["width"] / 2 - 0.3 * side, box["y"] + box["height"] / 2 - 0.3 * side
        mouse.click(x, y, button="right")
        mouse.move(box["x"] + 1, box["y"] - 20)
        mouse.down()
        mouse.move(x, y)
        mouse.up()
        assert tab.page.inner_text("#selected") == "No image is selected."
        mouse.click(x, y)
        assert tab.page.inner_text("#selected") == "50 of 200 images in 1 cluster are selected."
