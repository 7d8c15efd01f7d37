"""Decisions on the page, in a real browser: what is saved, undone, refused and remembered."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe

from tests.support.browser import Tab, opened
from tests.support.pages import made, written

pytestmark = pytest.mark.browser

NAMES = [
    'a "quoted" name: # no comment',
    "'single'\nlines\\and\ttabs",
    "emoji 🐆 and \x7f\x85\u2028\u2029\ufeff control",
    "- [x]: {y} & *z !tag %",
    "yes",
]


def select(tab: Tab, *clusters: int) -> None:
    """Select these clusters and no others."""
    tab.page.evaluate("document.activeElement.blur()")
    tab.page.keyboard.press("Escape")
    for cluster in clusters:
        tab.page.check(f"#cluster-{cluster} .pick")


def answer(tab: Tab, text: str, reason: str = "") -> None:
    """Fill in the dialog; a script sets what no keyboard can type."""
    tab.page.wait_for_selector("#ask[open]")
    tab.page.evaluate("(text) => { document.getElementById('ask-text').value = text; }", text)
    tab.page.fill("#ask-reason", reason)
    tab.page.click("#ask button[value=yes]")
    tab.page.wait_for_selector("#ask", state="hidden")


def saved(tab: Tab) -> dict[str, Any]:
    """The content of the file that the page downloads."""
    with tab.page.expect_download() as download:
        tab.page.click("[data-act=save]")
    assert download.value.suggested_filename == "decisions.yaml"
    content: dict[str, Any] = yaml.safe_load(Path(download.value.path()).read_text(encoding="utf-8"))
    return content


def entry(cluster: int, title: str | None = None) -> dict[str, Any]:
    members = [f"thing {cluster}-typical-{i}" for i in range(3)]
    return {"cluster": cluster, "members": members, "title": title or f"thing {cluster}"}


def test_decisions_are_saved_as_a_file_that_says_exactly_what_was_decided(tmp_path: Path) -> None:
    with opened(written(made(12), tmp_path)) as tab:
        page = tab.page
        for cluster, name in ((0, "snow leopard"), (1, NAMES[0])):
            select(tab, cluster)
            page.click("[data-act=rename]")
            answer(tab, name, "a reason: here" if cluster else "")
        select(tab, 2, 4)
        page.click("[data-act=merge]")
        answer(tab, "")
        select(tab, 6)
        page.click("[data-act=split]")
        select(tab, 7, 8)
        page.click("[data-act=drop]")
        select(tab, 9)
        page.click("[data-act=tag]")
        answer(tab, "look again")
        select(tab)
        page.click("#cluster-11 [data-key]")
        page.locator("#cluster-11 .typical img").nth(1).click()
        page.keyboard.press("n")
        page.keyboard.press("Escape")
        assert page.locator("#sum").inner_text() == (
            "Decided: 2 renamed, 1 merged, 1 to be split, 2 dropped, 1 tagged, 1 picture removed"
            " (not saved as a file yet)"
        )
        assert page.locator("#cluster-0 .decided").inner_text() == "now snow leopard"
        assert page.locator("#cluster-2 .decided").inner_text() == "merged with thing 4"
        assert page.locator("#cluster-7.dropped").count() == 1
        content = saved(tab)
        assert "(not saved" not in page.locator("#sum").inner_text()
        dates = [decision.pop("date") for decision in content["decisions"]]
        assert all(date.endswith("Z") and len(date) == 20 for date in dates)
        assert content == {
            "run": "thing",
            "state": "0123456789abcdef",
            "decisions": [
                {"action": "rename", "clusters": [entry(0)], "name": "snow leopard"},
                {"action": "rename", "clusters": [entry(1)], "name": NAMES[0], "reason": "a reason: here"},
                {"action": "merge", "clusters": [entry(2), entry(4)]},
                {"action": "split", "clusters": [entry(6)]},
                {"action": "drop", "clusters": [entry(7)]},
                {"action": "drop", "clusters": [entry(8)]},
                {"action": "tag", "clusters": [entry(9)], "tag": "look again"},
                {"action": "not_member", "clusters": [entry(11)], "images": ["thing 11-typical-1"]},
            ],
        }
    assert tab.said == tab.asked == []


def test_hostile_names_come_back_from_the_file(tmp_path: Path) -> None:
    with opened(written(made(6), tmp_path)) as tab:
        for name in NAMES:
            tab.page.evaluate("(tag) => cpp.decide([{ action: 'tag', clusters: [0], tag }])", name)
        assert [decision["tag"] for decision in saved(tab)["decisions"]] == NAMES
        assert tab.page.locator("#cluster-0 .decided").text_content() == " · ".join(f"tag: {name}" for name in NAMES)
    assert tab.said == tab.asked == []


def test_undo_redo_and_a_reload_keep_the_decisions_apart(tmp_path: Path) -> None:
    with opened(written(made(6), tmp_path)) as tab:
        page = tab.page
        page.on("dialog", lambda dialog: dialog.accept())
        select(tab, 0, 1)
        page.keyboard.press("d")
        select(tab, 2)
        page.keyboard.press("s")
        page.keyboard.press("u")
        assert page.locator("#sum").inner_text().startswith("Decided: 2 dropped")
        page.keyboard.press("Shift+U")
        page.reload()
        assert page.locator("#sum").inner_text().startswith("Decided: 1 to be split, 2 dropped")
        assert page.locator(".card.dropped").count() == 2
        page.click("#sum")
        page.fill("#log li:first-child input", "two species")
        page.locator("#log li:first-child input").blur()
        assert [d.get("reason") for d in saved(tab)["decisions"]] == [None, None, "two species"]
        page.locator("#log button").first.click()
        page.click("#undo")
        assert page.locator("#sum").inner_text().startswith("Decided: 1 to be split, 2 dropped")
        for _ in range(3):
            page.click("#undo")
        assert page.locator(".card.dropped").count() == 0
    assert tab.said == tab.asked == []


def test_decisions_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    with opened(written(made(8), tmp_path)) as tab:
        decide = "([action, clusters]) => cpp.decide([{ action, clusters }])"
        steps: list[tuple[str, list[int], str]] = [
            ("split", [0], ""),
            ("merge", [0, 1], "A cluster that is marked for splitting cannot be merged"),
            ("drop", [0], "A cluster that is marked for splitting cannot be dropped"),
            ("drop", [2], ""),
            ("merge", [2, 4], "A dropped cluster cannot be merged"),
            ("split", [2], "A dropped cluster cannot be split"),
            ("merge", [4, 6], ""),
            ("split", [6], "A merged cluster cannot be split"),
            ("drop", [6], ""),
        ]
        for action, clusters, refusal in steps:
            objection = tab.page.evaluate(decide, [action, clusters])
            assert objection.startswith(refusal)
            assert bool(objection) == bool(refusal)
        assert tab.page.locator(".card.dropped").count() == 3  # both of the merged clusters
    assert tab.said == tab.asked == []


def test_clicks_and_keys_alone_select_and_decide(tmp_path: Path) -> None:
    with opened(written(made(12), tmp_path)) as tab:
        page = tab.page
        page.click("#cluster-2 header", position={"x": 60, "y": 60})
        page.click("#cluster-6 header", position={"x": 60, "y": 60}, modifiers=["Shift"])
        assert page.locator("#chosen").inner_text() == "5 clusters selected"
        page.keyboard.press("Escape")
        assert page.locator(".card.selected").count() == 0
        for key in "jjxjjX":
            page.keyboard.press("Shift+X" if key == "X" else key)
        assert page.locator("#chosen").inner_text() == "3 clusters selected"
        page.keyboard.press("m")
        page.wait_for_selector("#ask[open]")
        page.keyboard.type("together")
        page.keyboard.press("Enter")
        page.wait_for_selector("#ask", state="hidden")
        assert page.locator("#cluster-1 .decided").inner_text() == "now together · merged with thing 2, guess?"
        page.keyboard.press("?")
        assert page.locator("#help").is_visible()
        assert [v["id"] for v in Axe().run(page).response["violations"]] == []
        page.keyboard.press("Escape")
        page.keyboard.press("o")
        assert page.locator(".card.open").count() == 1
        page.keyboard.press("v")
        first = page.locator("#viewer dd").first.inner_text()
        page.keyboard.press("ArrowRight")
        assert page.locator("#viewer dd").first.inner_text() != first
        assert [v["id"] for v in Axe().run(page).response["violations"]] == []
    assert tab.said == tab.asked == []


def test_filters_by_tag_margin_and_caption_and_keys_of_a_selection_as_csv(tmp_path: Path) -> None:
    run = made(10)
    run["cards"][3] = {**run["cards"][3], "tags": ['of the "run"']}
    member = run["cards"][5]["members"][0]
    run["cards"][5] = {**run["cards"][5], "members": [{**member, "caption": "A Red, Fox", "key": 'k,"5"'}]}
    with opened(written(run, tmp_path)) as tab:
        page = tab.page
        select(tab, 1, 2)
        page.keyboard.press("t")
        answer(tab, "blue")
        page.click("text=Filters")
        numbers = "cards => cards.map(card => Number(card.id.split('-')[1]))"
        for tag, expected in (("blue", [1, 2]), ('of the "run"', [3]), ("", list(range(10)))):
            page.select_option("#tag", tag)
            assert page.eval_on_selector_all(".card", numbers) == expected
        page.fill("#margin", "15")
        assert page.eval_on_selector_all(".card", numbers) == [4, 9]
        page.fill("#margin", "")
        page.fill("#caption", "red, fox")
        assert page.eval_on_selector_all(".card", numbers) == [5]
        select(tab, 5)
        with page.expect_download() as download:
            page.keyboard.press("c")
        rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
        assert rows == [{"cluster": "5", "title": "thing 5", "key": 'k,"5"', "score": "0.500", "margin": "0.100",
                         "image_shard": "s"}]  # fmt: skip
    assert tab.said == tab.asked == []


def test_the_page_of_members_shares_the_decisions_of_the_main_page(tmp_path: Path) -> None:
    file = written(made(6), tmp_path)
    with opened(file) as tab:
        select(tab, 3)
        tab.page.keyboard.press("d")
        tab.page.click("#cluster-3 [data-key]")
        tab.page.click("#cluster-3 .all a")  # without a question: the decisions are stored
        tab.page.wait_for_url("**/pages/clusters-00000.html#cluster-3")
        assert tab.page.locator("#cluster-3.dropped").count() == 1
        assert tab.page.locator("#sum").inner_text().startswith("Decided: 1 dropped")
    assert tab.said == []


LEAVES = "dispatchEvent(new Event('beforeunload', { cancelable: true }))"  # false if the page asks first


def test_a_reader_who_leaves_with_unsaved_decisions_is_asked_first_but_not_between_pages(tmp_path: Path) -> None:
    with opened(written(made(6), tmp_path)) as tab:
        assert tab.page.evaluate(LEAVES)
        select(tab, 3)
        tab.page.keyboard.press("d")
        tab.page.click("#cluster-3 h3 a")  # which stays on the page
        assert not tab.page.evaluate(LEAVES)
        tab.page.evaluate("document.dispatchEvent(new Event('leaving'))")
        assert tab.page.evaluate(LEAVES)
        tab.page.click("h1")
        assert not tab.page.evaluate(LEAVES)
        saved(tab)
        assert tab.page.evaluate(LEAVES)
    assert tab.said == tab.asked == []


def test_a_page_that_the_reader_comes_back_to_has_the_decisions_of_the_other_page(tmp_path: Path) -> None:
    with opened(written(made(6), tmp_path)) as tab:
        tab.page.evaluate("cpp.decide([{ action: 'drop', clusters: [1] }]); cpp.decisions.store()")
        tab.page.evaluate("""() => {
            const key = Object.keys(localStorage).find((name) => name.startsWith("cpp-decisions"));
            const content = JSON.parse(localStorage.getItem(key));
            content.steps.push([{ action: "tag", clusters: [1], tag: "of the map" }]);
            localStorage.setItem(key, JSON.stringify(content));
            dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }));
        }""")
        assert tab.page.locator("#cluster-1 .decided").inner_text() == "dropped · tag: of the map"
    assert tab.said == tab.asked == []
