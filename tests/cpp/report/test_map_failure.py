"""The page of the map in a real browser when it cannot show the map: it says in one sentence why, and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from cpp.report.map_page import render
from tests.support.browser import Tab, opened

pytestmark = pytest.mark.browser

DAMAGED = "The map cannot be shown because map_page.html is incomplete or damaged ("


@pytest.fixture(scope="module")
def html() -> str:
    """A page of 40 images in two clusters."""
    points = pa.table(
        {
            "x": [float(i) for i in range(40)],
            "y": [float(i % 7) for i in range(40)],
            "cluster": pa.array([i % 2 for i in range(40)], pa.int32()),
            "key": [f"{i:032x}" for i in range(40)],
            "image_shard": ["0.tar"] * 40,
        }
    )
    clusters = [{"cluster": k, "size": 20, "title": f"thing {k}", "examples": [f"e{k}"]} for k in range(2)]
    return render("run", "0" * 16, points, clusters, {})


def block(html: str, name: str) -> re.Match[str]:
    """The element of a block of data; its first group is the content."""
    element = re.search(rf'<script type="application/[a-z-]+" id="{name}">(.*?)</script>', html, re.DOTALL)
    assert element
    return element


def without(html: str, name: str) -> str:
    element = block(html, name)
    return html[: element.start()] + html[element.end() :]


def shortened(html: str, name: str) -> str:
    element = block(html, name)
    return html[: sum(element.span(1)) // 2] + html[element.end(1) :]


def cut_off(html: str, name: str) -> str:
    """The page as a copy leaves it that broke off in the middle of a block."""
    return html[: sum(block(html, name).span(1)) // 2]


def altered(html: str, name: str) -> str:
    """The page with one other letter in a block, which is still base64."""
    middle = sum(block(html, name).span(1)) // 2
    return html[:middle] + ("B" if html[middle] == "A" else "A") + html[middle + 1 :]


def alert(tab: Tab) -> str:
    """The sentence in place of the map, as soon as the page shows it."""
    sentence = tab.page.locator("main [role=alert]")
    sentence.wait_for()
    assert tab.page.inner_text("main") == sentence.inner_text()  # no control that does nothing
    return sentence.inner_text()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("content", without),
        ("content", cut_off),
        ("keys", altered),
        ("places", shortened),
        ("clusters", cut_off),
        ("shards", without),
    ],
)
def test_a_damaged_block_is_named_with_what_to_do(
    html: str, tmp_path: Path, name: str, damage: Callable[[str, str], str]
) -> None:
    (tmp_path / "map_page.html").write_text(damage(html, f"data-{name}"), encoding="utf-8")
    with opened(tmp_path / "map_page.html") as tab:
        sentence = alert(tab)
        assert sentence.startswith(f"{DAMAGED}block “{name}”): copy the file again")
        assert "delete the folder cache/map_page there and run “cpp-at-scale run CONFIG”" in sentence
        tab.shot("map-failure")


@pytest.mark.parametrize("damage", [without, shortened])
def test_damaged_data_of_the_decisions_are_no_endless_loading(
    html: str, tmp_path: Path, damage: Callable[[str, str], str]
) -> None:
    (tmp_path / "map_page.html").write_text(damage(html, "workbench-data"), encoding="utf-8")
    with opened(tmp_path / "map_page.html") as tab:
        assert alert(tab).startswith(DAMAGED)


def test_a_file_cut_off_before_its_script_says_how_to_tell(html: str, tmp_path: Path) -> None:
    (tmp_path / "map_page.html").write_text(cut_off(html, "workbench-data"), encoding="utf-8")
    with opened(tmp_path / "map_page.html") as tab:
        assert "the file is incomplete (copy it again)" in tab.page.inner_text("#found")


@pytest.mark.parametrize(
    ("script", "reason", "remedy"),
    [
        (
            "HTMLCanvasElement.prototype.getContext = () => null",
            "this browser does not offer WebGL",
            "graphics acceleration",
        ),
        ("delete window.DecompressionStream", "this browser is too old", "update it, or use another browser"),
    ],
    ids=["no WebGL", "no decompression"],
)
def test_a_browser_that_lacks_something_is_no_damaged_file(
    html: str, tmp_path: Path, script: str, reason: str, remedy: str
) -> None:
    (tmp_path / "map_page.html").write_text(html, encoding="utf-8")
    with opened(tmp_path / "map_page.html") as tab:
        tab.page.add_init_script(script)
        tab.page.reload()
        sentence = alert(tab)
        assert sentence.startswith(f"The map cannot be shown because {reason}")
        assert remedy in sentence


def test_an_error_on_a_map_that_is_drawn_leaves_the_map(html: str, tmp_path: Path) -> None:
    (tmp_path / "map_page.html").write_text(html, encoding="utf-8")
    with opened(tmp_path / "map_page.html") as tab:
        tab.until("document.documentElement.dataset.ready === ''")
        tab.page.evaluate("dispatchEvent(new ErrorEvent('error', { error: new Error('later') }))")
        assert tab.page.locator("[role=alert]").count() == 0
        assert tab.page.locator("#points").is_visible()
