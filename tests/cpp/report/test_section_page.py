"""Pages of curation: everything that is said is there, escaped, and nothing is fetched."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cpp.report import html as report
from cpp.report import outliers_page
from cpp.report.cards import Picture
from cpp.report.section_page import PAGES, Group, render
from tests.support.browser import PHONE, opened


def webp() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((160, 120), 60).convert("RGB").save(buffer, "WEBP")
    return buffer.getvalue()


def page(picture: Picture | None = None) -> str:
    counts, row = (
        np.zeros(outliers_page.BINS, np.int64),
        (picture or Picture("k<1>", large=webp()), "cosine 0.99 & more"),
    )
    return render(
        "outliers.html",
        "A <run>",
        {"examples": [Group("<b>One", [row])]},
        others=PAGES,
        images=1234,
        threshold=None,
        above=None,
        parts=3,
        histogram=outliers_page._histogram(counts + 1, None),
        rows=[("<b>", 3, 0.5), ("none", None, 1.0)],
    )


def test_titles_cells_keys_and_texts_are_there_and_escaped() -> None:
    html = page()
    for text in ("A &lt;run&gt;", "1,234", "&lt;b&gt;", "k&lt;1&gt;", "cosine 0.99 &amp; more", "&lt;b&gt;One"):
        assert text in html
    assert "<b>&" not in html
    assert "1,000 images by score." in html
    assert 'href="balance_page.html"' in html
    assert "data:image/webp;base64,UklG" in html


def test_cells_are_counts_shares_or_a_dash() -> None:
    rows = re.findall(r'<th scope="row"[^>]*>(.*?)</th><td[^>]*>(.*?)</td><td[^>]*>(.*?)</td>', page())
    assert rows == [("&lt;b&gt;", "3", "50\u202f%"), ("none", "–", "100\u202f%")]


def test_a_picture_that_is_missing_is_its_key() -> None:
    html = page(Picture("gone"))
    assert "base64,UklG" not in html
    assert '<span dir="auto">gone</span>' in html


def test_pictures_beyond_the_limit_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "ROOM", 400)
    assert "base64,UklG" not in page()


@pytest.mark.browser
def test_the_page_fits_a_phone_and_asks_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page(), encoding="utf-8")
    with opened(tmp_path / "page.html", PHONE) as tab:
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        tab.page.click("#theme")
        tab.shot("curation-phone")
    assert (tab.said, tab.asked) == ([], [])
