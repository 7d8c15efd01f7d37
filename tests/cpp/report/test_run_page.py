"""The page in a real browser: accessibility, hostile text, search and filters, links, layers and the map."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image

from cpp.report import html as report
from cpp.report.heat_maps import overlay, row
from cpp.report.run_page import PAGED
from tests.support.browser import LAPTOP, PHONE, Tab, opened
from tests.support.pages import HOSTILE, made, webp, written

RECT = """(name) => {
    const { x, y, width, height } = document.querySelector(name).getBoundingClientRect();
    return [x, y, width, height];
}"""


def faults(tab: Tab) -> list[str]:
    """What axe finds wrong, with where."""
    tab.page.evaluate("document.querySelectorAll('.card').forEach((card) => card.style.contentVisibility = 'visible')")
    found = Axe().run(tab.page).response["violations"]
    return [f"{v['id']}: {v['nodes'][0]['html'][:200]} {v['nodes'][0]['failureSummary'][:300]}" for v in found]


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "phone"])
def test_nothing_is_wrong_for_axe_and_nothing_is_wider_than_the_screen(
    tmp_path: Path, scheme: str, size: dict[str, int]
) -> None:
    with opened(written(made(24), tmp_path), size, color_scheme=scheme) as tab:
        assert faults(tab) == []
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    assert tab.said == tab.asked == []


def with_attention(n: int) -> dict[str, Any]:
    """A page of `n` clusters with heat maps over all pictures, from a model of hostile name."""
    heat = np.random.default_rng(0).random((14, 14), np.float32)
    drawn = overlay(row(webp(160, 0, (160, 120)), heat, (1 / 8, 0.0, 7 / 8, 1.0)))
    page = made(n)
    for card in page["cards"]:
        card["members"] = [{**member, "attention": drawn} for member in card["members"]]
    return page | {"attention": {"model": HOSTILE, "query": "class token"}}


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("n", [24, PAGED + 40])
def test_one_box_shows_attention_over_all_pictures(tmp_path: Path, n: int) -> None:
    file = written(with_attention(n), tmp_path)
    for path in [file, tmp_path / "pages" / "clusters-00000.html"]:
        with opened(path) as tab:
            box, heat = tab.page.locator("#attention"), tab.page.locator(".card .heat-map").first
            assert heat.is_hidden()
            tab.page.keyboard.press("a")
            heat.wait_for(state="visible")  # cards come into the list when the browser has laid it out
            assert box.is_checked()
            assert faults(tab) == []
            over, under = (tab.page.evaluate(RECT, f".card .mosaic {name}") for name in (".heat-map", "img"))
            assert over == pytest.approx(under, abs=0.5)
            tab.page.locator("#clusters").scroll_into_view_if_needed()
            tab.shot(f"attention-{n}")
            box.focus()
            tab.page.keyboard.press("Space")
            assert heat.is_hidden()
        assert tab.said == tab.asked == []


@pytest.mark.browser
@pytest.mark.parametrize("n", [24, PAGED + 40])
def test_hostile_text_is_shown_as_text(tmp_path: Path, n: int) -> None:
    file = written(made(n, HOSTILE), tmp_path)
    with opened(file, PHONE) as tab:
        assert tab.page.title().startswith("<script>")
        assert tab.page.locator("h1").inner_text() == HOSTILE
        assert tab.page.locator("script").count() == 3
        assert HOSTILE[:40] in (tab.page.locator(".card h3").first.text_content() or "")
        assert tab.page.locator("img").first.get_attribute("alt") == HOSTILE
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        assert tab.page.evaluate("JSON.parse(document.getElementById('points').textContent).key[0]").startswith(
            "<script>"
        )
        tab.shot(f"hostile-{n}")
    assert tab.said == tab.asked == []
    if n > PAGED:
        with opened(tmp_path / "pages" / "clusters-00000.html") as tab:
            assert tab.page.locator("h1").inner_text() == HOSTILE
            assert tab.page.locator("script").count() == 2
        assert tab.said == tab.asked == []


@pytest.mark.browser
def test_search_sort_and_filters(tmp_path: Path) -> None:
    with opened(written(made(40), tmp_path)) as tab:
        page = tab.page

        def shown() -> list[int]:
            return [int(c.split("-")[1]) for c in page.eval_on_selector_all(".card", "cards => cards.map(c => c.id)")]

        assert shown() == list(range(40))
        page.fill("#search", "THING 17")
        assert shown() == [17]
        assert page.locator("#found").inner_text() == "1 of 40 clusters"
        page.fill("#search", "#3")
        assert shown() == [3, *range(30, 40)]
        page.fill("#search", "nothing like it")
        assert shown() == []
        page.click("#reset")
        assert len(shown()) == 40
        page.click("text=Filters")
        for status, rest in (("general", 5), ("unsure", 3)):
            page.select_option("#status", status)
            assert shown() == [k for k in range(40) if k % 7 == rest]
        page.check("#wary")
        assert shown() == [k for k in range(40) if k % 7 == 3 and k % 5 == 2]
        page.select_option("#status", "named")
        assert shown() == [k for k in range(40) if k % 7 not in (3, 5) and k % 5 == 2]
        page.select_option("#status", "")
        page.uncheck("#wary")
        page.fill("#least", "40")
        assert shown() == list(range(6))
        page.fill("#least", "")
        page.fill("#most", "10")
        assert shown() == [k for k in range(40) if k % 10 <= 1]
        page.fill("#most", "")
        for order, first in (("small", 39), ("sure", 9), ("doubt", 0), ("number", 0), ("size", 0)):
            page.select_option("#sort", order)
            assert shown()[0] == first
        page.select_option("#sort", "name")
        names = page.eval_on_selector_all(".card h3", "names => names.map(n => n.textContent)")
        assert names == sorted(names)
    assert tab.said == tab.asked == []


@pytest.mark.browser
def test_a_link_to_a_cluster_shows_it_whatever_is_filtered(tmp_path: Path) -> None:
    file = written(made(40), tmp_path)
    with opened(file) as tab:
        tab.page.goto(f"{file.as_uri()}#cluster-17")
        tab.page.reload()
        for filtered in ("", "thing 5"):
            tab.page.fill("#search", filtered)
            tab.page.evaluate("location.hash = 'cluster-18'")
            tab.until("document.querySelector('.card.here')?.id === 'cluster-18'")
            tab.page.evaluate("location.hash = 'cluster-17'")
            tab.until("document.querySelector('.card.here')?.id === 'cluster-17'")
            top = tab.page.evaluate("document.getElementById('cluster-17').getBoundingClientRect().top")
            assert 40 <= top <= 140
        tab.page.keyboard.press("j")
        assert tab.page.evaluate("document.querySelector('.card.here').id") == "cluster-18"
        tab.page.keyboard.press("k")
        tab.page.keyboard.press("/")
        tab.page.keyboard.type("5")
        assert tab.page.input_value("#search") == "5"
    assert tab.said == tab.asked == []


@pytest.mark.browser
def test_a_link_leads_to_the_top_of_a_cluster_that_is_not_in_the_list_yet_and_does_so_again(tmp_path: Path) -> None:
    with opened(written(made(300), tmp_path)) as tab:
        top = "document.getElementById('cluster-250')?.getBoundingClientRect().top"
        link = tab.page.locator(".tree a[href='#cluster-250']")
        link.evaluate("link => link.closest('details').open = true")
        for _ in "ab":
            assert tab.page.locator("#cluster-250").count() == 0
            link.click()
            tab.until(f"{top} > 0")
            tab.page.wait_for_timeout(300)  # in which those above it would push it away
            tab.until(f"Math.abs({top} - 72) < 2")
            tab.page.fill("#search", "thing 17")
    assert tab.said == tab.asked == []


@pytest.mark.browser
def test_layers_fold_and_colours_change_and_are_remembered(tmp_path: Path) -> None:
    with opened(written(made(40), tmp_path), color_scheme="light") as tab:
        page = tab.page
        inner = page.locator(".tree details li")
        page.click('text="Fold all"')
        assert not inner.first.is_visible()
        page.click("text=Unfold all")
        assert inner.first.is_visible()
        ground = "getComputedStyle(document.body).backgroundColor"
        light = page.evaluate(ground)
        page.click("#theme")
        dark = page.evaluate(ground)
        assert dark != light
        page.reload()
        assert page.evaluate(ground) == dark
        page.click("#theme")
        assert page.evaluate(ground) == light
    assert tab.said == tab.asked == []


@pytest.mark.browser
def test_the_map_shows_pictures_and_leads_to_clusters(tmp_path: Path) -> None:
    with opened(written(made(12), tmp_path)) as tab:
        page = tab.page
        page.evaluate("document.getElementById('map').scrollIntoView()")
        drawn = "document.getElementById('canvas').toDataURL()"
        tab.until(f"{drawn}.length > 10000")
        whole = page.evaluate(drawn)
        x, y = page.evaluate("""() => {
            const { left, top, width, height } = document.getElementById("canvas").getBoundingClientRect();
            const { x, y, picture } = JSON.parse(document.getElementById("points").textContent);
            const i = picture.findIndex(Boolean);
            return [left + width / 2 + (x[i] - 500) * width / 1100, top + height / 2 + (y[i] - 500) * height / 1080];
        }""")
        page.mouse.move(x, y)
        tab.until("document.querySelector('#hover img')?.naturalWidth === 72")
        said = page.locator("#hover").inner_text()
        assert re.match(r"(thing|guess\?)", said)
        tab.shot("map-hover")
        page.mouse.down()
        page.mouse.up()
        page.wait_for_url(re.compile(r"#cluster-\d+$"))
        tab.until("document.querySelector('.card.here') !== null")  # it takes the focus
        page.focus("canvas")
        page.mouse.move(5, 5)
        tab.until(f"whole => {drawn} === whole", whole)  # nothing is pointed at
        page.keyboard.press("+")
        tab.until(f"whole => {drawn} !== whole", whole)
        page.keyboard.press("0")
        tab.until(f"whole => {drawn} === whole", whole)
    assert tab.said == tab.asked == []


@pytest.mark.browser
def test_the_viewer_loads_the_larger_picture_where_it_lies_beside_the_page(tmp_path: Path) -> None:
    run = made(3)
    for card in run["cards"]:
        card["members"] = [{**member, "file": f"{card['cluster']:05d}.jpg"} for member in card["members"]]
    file = written(run, tmp_path)
    (tmp_path / "enlarged").mkdir()
    Image.new("RGB", (480, 320)).save(tmp_path / "enlarged" / "00000.jpg")
    width = "document.querySelector('#viewer img').naturalWidth"
    for path in (file, tmp_path / "pages" / "clusters-00000.html"):
        with opened(path) as tab:
            tab.page.evaluate("cpp.view(document.querySelector('#cluster-0 [data-key]'))")
            tab.until(f"{width} === 480")
            tab.shot(f"viewer-{path.parent.name}")
            failed = []
            tab.page.on("requestfailed", lambda request, failed=failed: failed.append(request.url))
            tab.page.evaluate("cpp.view(document.querySelector('#cluster-1 [data-key]'))")
            while not failed:
                tab.page.wait_for_timeout(20)
            assert tab.page.evaluate(width) == 160
        assert tab.asked == [(tmp_path / "enlarged" / f"0000{k}.jpg").as_uri()[:80] for k in (0, 1)]


@pytest.mark.browser
def test_nothing_moves_on_a_page_of_five_hundred_clusters(tmp_path: Path) -> None:
    file = written(made(PAGED, side=112), tmp_path)
    watch = "addEventListener('load', () => 0); window.moved = 0; new PerformanceObserver((list) => list.getEntries()" \
            ".forEach((e) => window.moved += e.value)).observe({type: 'layout-shift', buffered: true})"  # fmt: skip
    with opened(file) as tab:
        tab.page.add_init_script(watch)
        tab.page.reload()
        tab.page.wait_for_load_state("load")
        for _ in range(20):
            tab.page.mouse.wheel(0, 900)
            tab.page.wait_for_timeout(20)
        assert tab.page.evaluate("window.moved") < 0.01
    assert tab.said == tab.asked == []


@pytest.mark.slow
@pytest.mark.browser
def test_five_thousand_clusters_stay_usable(tmp_path: Path) -> None:
    file = written(made(5000), tmp_path, beside=made(PAGED + 1))
    with opened(file) as tab:
        page = tab.page
        for text in ("x", "thing 1", "thing", "", "guess", ""):
            page.fill("#search", text)
        for n in (61, 121, 181):  # whoever comes to the end finds more
            page.evaluate("document.getElementById('end').scrollIntoView(false)")
            page.wait_for_selector(f".card:nth-child({n})", state="attached")
        tab.shot("five-thousand")
        assert page.evaluate("document.querySelectorAll('.card').length") < 1000  # none that nobody has come to
        tops = page.eval_on_selector_all(".card", "cards => cards.slice(0, 3).map(c => c.getBoundingClientRect().top)")
        assert tops[0] == tops[1] == tops[2]  # side by side
        page.evaluate("location.hash = 'cluster-123'")
        page.click("#cluster-123 .all a")
        page.wait_for_url("**/pages/clusters-00002.html#cluster-123")
        assert page.locator("#cluster-123 .everything img").count() == 16
        tab.shot("five-thousand-page")
        assert faults(tab) == []


@pytest.mark.slow
@pytest.mark.browser
def test_what_comes_after_five_thousand_clusters_stays_where_it_is_when_a_link_leads_to_it(tmp_path: Path) -> None:
    with opened(written(made(5000), tmp_path)) as tab:
        page = tab.page
        page.click("nav a[href='#layers']")
        page.wait_for_timeout(500)  # in which the list would grow above it
        assert page.locator(".card").count() == 120
        assert 0 < page.evaluate("document.getElementById('layers').getBoundingClientRect().top") < LAPTOP["height"] / 2
        page.evaluate("document.getElementById('end').scrollIntoView(false)")
        page.wait_for_selector(".card:nth-child(121)", state="attached")


@pytest.mark.browser
def test_a_link_to_a_cluster_that_is_not_on_the_page_leads_to_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "LISTED", 100)
    file = written(made(PAGED + 100), tmp_path)
    with opened(file) as tab:
        assert tab.page.locator(".card").count() == 100
        tab.page.evaluate("""new Promise((done) => {
            addEventListener("hashchange", () => setTimeout(done));
            location.hash = "cluster-600"; // which does not exist
        })""")
        assert tab.page.url.endswith("/report.html#cluster-600")
        tab.page.evaluate("location.hash = 'cluster-599'")
        tab.page.wait_for_url("**/pages/clusters-00011.html#cluster-599")
