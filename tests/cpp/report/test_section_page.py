"""Pages of curation: everything that is said is there, escaped, and nothing is fetched."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from cpp.report import html as report
from cpp.report.cards import Picture
from cpp.report.charts import Series, chart
from cpp.report.section_page import PAGES, Group, Part, SectionPage, Shown, Table, render
from tests.support.browser import PHONE, opened


def webp() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((160, 120), 60).convert("RGB").save(buffer, "WEBP")
    return buffer.getvalue()


def page(picture: Picture | None = None) -> SectionPage:
    series = [Series([0, 1, 2], [4.0, 2.0, 0.0])]
    curve = chart(series, x_name="threshold", y_name="images", description="From 4 images to none.", marks=[1])
    shown = Shown(picture or Picture("k<1>", large=webp()), "cosine 0.99 & more")
    part = Part("Groups", ["A sentence."], [curve], [Table(["kind", "n"], [["<b>", 3]])], [Group("One", [shown])])
    return SectionPage("Outliers", "A <run>", ["First.", "Second."], [part], {"images": 1234}, PAGES)


def test_what_is_said_is_there_and_escaped() -> None:
    html = render(page())
    for said in ("A &lt;run&gt;", "First. Second.", "1,234", "&lt;b&gt;", "k&lt;1&gt;", "cosine 0.99 &amp; more"):
        assert said in html
    assert "<b>&" not in html
    assert "From 4 images to none." in html
    assert 'href="balance_page.html"' in html
    assert "data:image/webp;base64,UklG" in html


def test_a_picture_that_is_not_there_is_its_key() -> None:
    html = render(page(Picture("gone")))
    assert "base64,UklG" not in html
    assert '<span dir="auto">gone</span>' in html


def test_pictures_beyond_the_limit_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "BYTES", 1_000_000 + 400)
    assert "base64,UklG" not in render(page())


def test_a_page_without_parts_is_a_page() -> None:
    assert "First." in render(replace(page(), parts=[]))


@pytest.mark.browser
def test_the_page_fits_a_phone_and_asks_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(render(page()), encoding="utf-8")
    with opened(tmp_path / "page.html", PHONE) as tab:
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        tab.page.click("#theme")
        tab.shot("curation-phone")
    assert (tab.said, tab.asked) == ([], [])
