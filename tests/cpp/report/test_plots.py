"""Pictures for papers: whole files that open, with the names in them as text."""

import io
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from cpp.report.plots import ACROSS, draw
from tests.support.pages import HOSTILE, bare, made

SVG = "{http://www.w3.org/2000/svg}"


def files(n: int = 24, text: str = "thing") -> dict[str, bytes]:
    page = made(n, text)
    return draw(page["title"], page["cards"], page["k_curve"], page["map"], {})


def test_every_drawing_is_well_formed_and_says_what_it_shows() -> None:
    for text in ("thing", HOSTILE):
        drawn = files(text=text)
        assert sorted(drawn) == ["contact-sheet.png", "curve.svg", "map.svg", "sizes.svg"]
        for name in ("curve.svg", "map.svg", "sizes.svg"):
            root = ElementTree.fromstring(drawn[name].decode())  # noqa: S314 (our own)
            assert root.tag == f"{SVG}svg"
            assert root.findtext(f"{SVG}title")
            assert root.find(f".//{SVG}script") is None
    root = ElementTree.fromstring(files()["map.svg"].decode())  # noqa: S314
    assert len(root.findall(f".//{SVG}use")) == 300
    assert "thing 5" in {text.text for text in root.findall(f".//{SVG}text")}


def test_the_contact_sheet_shows_the_twenty_largest() -> None:
    def rows(n: int) -> tuple[int, int]:
        return Image.open(io.BytesIO(files(n)["contact-sheet.png"])).size

    assert rows(24) == rows(20) == rows(17)
    assert rows(8)[1] < rows(9)[1] < rows(17)[1]
    assert rows(ACROSS - 1)[0] < rows(ACROSS)[0] == rows(24)[0]
    sheet = np.asarray(Image.open(io.BytesIO(files(1)["contact-sheet.png"])))
    assert sheet[120:180, 30:80].std() > 10  # pictures
    assert (sheet[-10:] == 255).all()


def test_without_pictures_and_with_one_cluster_there_is_less() -> None:
    drawn = draw("t", [bare(key="k")], None, made(1)["map"], {})
    assert sorted(drawn) == ["map.svg", "sizes.svg"]
