"""Pages of curation: everything that is said is there, escaped, and nothing is fetched."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cpp.report import html
from cpp.report.section_pages import PAGES, SCORE_BINS, outliers
from tests.support.browser import PHONE, opened


def webp() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((160, 120), 60).convert("RGB").save(buffer, "WEBP")
    return buffer.getvalue()


def page(**change: object) -> str:
    counts = np.ones(SCORE_BINS, np.int64)
    row = {"kind": "outlier", "key": "k<1>", "image_shard": "s", "large": webp(), "title": "<b>cat</b> & more",
           "outlier": 0.9995, "margin": 0.2, "density": 0.999, "residual": 0.95, "caption": None}  # fmt: skip
    return outliers("A <run>", counts, None, [{**row, **change}], PAGES)


def test_titles_keys_and_texts_are_on_the_page_and_escaped() -> None:
    shown = page()
    for text in ("A &lt;run&gt;", "1,000", 'alt="k&lt;1&gt;"', "&lt;b&gt;cat&lt;/b&gt; &amp; more: 1.000"):
        assert text in shown
    assert "<b>cat" not in shown
    assert "The most unusual images" in shown
    assert 'href="balance_page.html"' in shown
    assert "data:image/webp;base64,UklG" in shown


def test_cells_are_counts_shares_or_a_dash() -> None:
    rows = re.findall(r'<th scope="row"[^>]*>(.*?)</th><td[^>]*>(.*?)</td><td[^>]*>(.*?)</td>', page())
    assert rows[0] == ("0.5", "500", "50\u202f%")
    cell = html._environment().get_template("macros.html").module.cell
    assert [str(cell(value)).strip() for value in ("<b>", 1234, 0.5, None)] == ["&lt;b&gt;", "1,234", "50\u202f%", "–"]


def test_a_picture_that_is_missing_is_its_key() -> None:
    text = page(key="gone", large=None)
    assert "base64,UklG" not in text
    assert '<span dir="auto">gone</span>' in text


@pytest.mark.browser
def test_the_page_fits_a_phone_and_asks_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page(), encoding="utf-8")
    with opened(tmp_path / "page.html", PHONE) as tab:
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        tab.page.click("#theme")
        tab.shot("curation-phone")
    assert (tab.said, tab.asked) == ([], [])
