"""Keys and focus on the page in a real browser: one cluster is gone to, a key does one thing, no focus is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.browser import PHONE, Tab, opened
from tests.support.pages import made, written

pytestmark = pytest.mark.browser

IDS = "cards => cards.map(card => card.id)"
FOCUS = "document.activeElement.matches(%r)"


def search(tab: Tab, text: str) -> None:
    """Search, and take the focus out of the field so that keys are commands."""
    tab.page.fill("#search", text)
    tab.page.evaluate("document.activeElement.blur()")


def test_one_cluster_is_gone_to_and_open_even_if_a_search_hid_the_one_before(tmp_path: Path) -> None:
    with opened(written(made(12), tmp_path)) as tab:
        for text in ("#2", "#5"):
            search(tab, text)
            tab.page.keyboard.press("j")
            tab.page.keyboard.press("o")
        search(tab, "")
        for name in (".card.here", ".card.open"):
            assert tab.page.eval_on_selector_all(name, IDS) == ["cluster-5"]
        tab.page.keyboard.press("d")
        assert tab.page.locator("#sum").inner_text().startswith("Decided: 1 dropped")
        search(tab, "#2")
        for key in "vod":  # not about a cluster that is out of sight
            tab.page.keyboard.press(key)
        assert tab.page.locator("#viewer[open], .card.open").count() == 0
        assert tab.page.locator("#sum").inner_text().startswith("Decided: 1 dropped")
    assert tab.said == tab.asked == []


def test_escape_closes_a_cluster_before_it_clears_the_selection(tmp_path: Path) -> None:
    with opened(written(made(6), tmp_path)) as tab:
        tab.page.check("#cluster-3 .pick")
        tab.page.keyboard.press("j")  # a box takes no letters
        assert tab.page.eval_on_selector_all(".card.here", IDS) == ["cluster-0"]
        tab.page.keyboard.press("o")
        tab.page.keyboard.press("Escape")
        assert tab.page.locator(".card.open").count() == 0
        assert tab.page.locator("#chosen").inner_text() == "1 cluster selected"
        tab.page.keyboard.press("Escape")
        assert tab.page.locator("#chosen").inner_text() == "No cluster is selected"
    assert tab.said == tab.asked == []


def test_keys_without_a_cluster_or_a_picture_explain_or_do_nothing(tmp_path: Path) -> None:
    run = made(4)
    run["cards"][0] = {**run["cards"][0], "members": []}
    with opened(written(run, tmp_path)) as tab:
        tab.page.keyboard.press("e")
        assert tab.page.locator("#notice").inner_text() == "Select the one cluster to rename."
        tab.page.keyboard.press("j")
        tab.page.keyboard.press("v")
        assert tab.page.locator("#viewer[open]").count() == 0
    assert tab.said == tab.asked == []


def test_the_arrow_keys_work_after_clicks_in_the_viewer(tmp_path: Path) -> None:
    with opened(written(made(6), tmp_path)) as tab:
        page = tab.page
        page.keyboard.press("j")
        page.keyboard.press("v")
        page.keyboard.press("ArrowRight")  # to a picture that the closed card does not show
        assert page.locator("#viewer dd").first.inner_text() == "thing 0-typical-1"
        page.keyboard.press("Escape")
        page.click("#cluster-2 [data-key]")
        page.locator("#cluster-2 .typical img").first.click()
        keys = [page.locator("#viewer dd").first.inner_text()]
        for target in ("[data-outsider]", "[data-outsider]", ".enlarged img"):
            page.click(f"#viewer {target}")
            page.keyboard.press("ArrowRight")
            keys.append(page.locator("#viewer dd").first.inner_text())
        assert keys == [f"thing 2-typical-{i}" for i in range(4)]
        page.locator("[data-outsider]").focus()
        page.keyboard.press("Enter")
        assert page.evaluate(FOCUS % "[data-outsider]")
        assert page.locator("#sum").inner_text().startswith("Decided: 3 picture removed")
    assert tab.said == tab.asked == []


def test_reasons_are_typed_one_after_another_and_a_removed_decision_can_be_taken_back(tmp_path: Path) -> None:
    with opened(written(made(6), tmp_path)) as tab:
        page = tab.page
        for cluster in (1, 2):
            page.check(f"#cluster-{cluster} .pick")
        page.keyboard.press("d")
        page.keyboard.press("Escape")
        page.click("#sum")
        page.focus("#log li:first-child input")
        for text in ("first", "second"):
            page.keyboard.type(text)
            page.keyboard.press("Tab")
            assert page.evaluate(FOCUS % "#log button")
            page.keyboard.press("Tab")
        reasons = "cpp.decisions.all().map(({ reason }) => reason)"
        assert page.evaluate(reasons) == ["second", "first"]  # the list has the last decision first
        page.fill("#log li:first-child input", "other")
        page.click("#log li:last-child button")  # while a reason is typed
        assert page.evaluate(reasons) == ["other"]
        assert page.evaluate(FOCUS % "#sum")
        page.click("#log li button")
        page.click("#undo")
        assert page.evaluate(reasons) == ["other"]
    assert tab.said == tab.asked == []


def test_a_form_that_the_browser_kept_filters_the_list_and_no_box_is_ticked_without_a_selection(tmp_path: Path) -> None:
    with opened(written(made(12), tmp_path)) as tab:
        page = tab.page
        page.check("#cluster-3 .pick")
        page.click("text=Filters")
        page.fill("#least", "12")
        page.goto((tmp_path / "pages" / "clusters-00000.html").as_uri())
        page.go_back()
        assert page.input_value("#least") == "12"
        tab.until("document.querySelectorAll('.card').length === 6")
        assert page.locator(".pick:checked").count() == 0
    assert tab.said == []


def test_dialogs_begin_at_their_top_and_the_bar_is_low_on_a_phone(tmp_path: Path) -> None:
    with opened(written(made(6), tmp_path), PHONE) as tab:
        page = tab.page
        for key, dialog in (("jov", "viewer"), ("?", "help")):
            for letter in key:
                page.keyboard.press(letter)
            assert page.evaluate("(id) => document.getElementById(id).scrollTop", dialog) == 0
            page.keyboard.press("Escape")
        page.keyboard.press("x")
        bar = page.locator("#bar").bounding_box()
        assert bar
        assert bar["height"] < PHONE["height"] / 4
    assert tab.said == tab.asked == []
