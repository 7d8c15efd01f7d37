"""Files for papers and READMEs: the charts of a run as SVG, and a contact sheet of its largest clusters as PNG.

This module knows no run and no folder.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont, ImageOps

from cpp.report import charts
from cpp.report.charts import Chart
from cpp.report.html import is_long

LARGEST = 20  # clusters on the contact sheet
ACROSS, PICTURES = 4, 6  # its columns, and pictures of a cluster, in two rows
TILE, GAP, MARGIN, TEXT = 80, 4, 20, 44  # pixels


def draw(
    title: str,
    cards: Sequence[Mapping[str, Any]],
    k_curve: Chart | None,
    plane: Mapping[str, Any],
    others: Mapping[str, Chart],
) -> dict[str, bytes]:
    """The files by name. The contact sheet needs a cluster with a picture, the curve an estimate of K."""
    drawn = {
        "sizes.svg": charts.cluster_sizes([card["size"] for card in cards]),
        "map.svg": charts.scatter(plane, {card["cluster"]: card["title"] for card in cards}),
        "curve.svg": k_curve,
        **others,
    }
    files = {name: chart.svg.encode() for name, chart in drawn.items() if chart is not None}
    largest = sorted(cards, key=lambda card: (-card["size"], card["cluster"]))[:LARGEST]
    pictures = [[member.get("large") for member in card["members"] if member["kind"] == "typical"] for card in largest]
    if any(data for of_card in pictures for data in of_card):
        files["contact-sheet.png"] = contact_sheet(title, largest, pictures)
    return files


def contact_sheet(title: str, cards: Sequence[Mapping[str, Any]], pictures: Sequence[Sequence[bytes | None]]) -> bytes:
    """A PNG with the title, the size and the first pictures of each cluster."""
    across = PICTURES // 2
    width = across * (TILE + GAP)
    height = TEXT + 2 * (TILE + GAP)
    rows = -(-len(cards) // ACROSS)
    columns = min(ACROSS, len(cards))
    sheet = Image.new("RGB", (2 * MARGIN + columns * (width + MARGIN) - MARGIN, rows * (height + MARGIN) + 64), "white")
    pen = ImageDraw.Draw(sheet)
    _write(pen, (MARGIN, 18), title, 24, sheet.width - 2 * MARGIN)
    for i, card in enumerate(cards):
        left, top = MARGIN + i % ACROSS * (width + MARGIN), 64 + i // ACROSS * (height + MARGIN)
        _write(pen, (left, top), card["title"], 17, width)
        _write(pen, (left, top + 21), f"{card['size']:,} images", 13, width, "#566170")
        for j, data in enumerate(pictures[i][:PICTURES]):
            if data is not None:
                sheet.paste(_square(data), (left + j % across * (TILE + GAP), top + TEXT + j // across * (TILE + GAP)))
    out = io.BytesIO()
    sheet.save(out, "PNG", optimize=True)
    return out.getvalue()


def _square(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=["WEBP"]).convert("RGBA")
    fit = ImageOps.pad if is_long(data) else ImageOps.fit
    ground = Image.new("RGBA", (TILE, TILE), "white")
    return Image.alpha_composite(ground, fit(image, (TILE, TILE), Image.Resampling.LANCZOS)).convert("RGB")


def _write(
    pen: ImageDraw.ImageDraw, place: tuple[int, int], text: str, size: int, width: int, ink: str = "#1c232d"
) -> None:
    """Write text on one line, cut to `width` pixels."""
    font = ImageFont.load_default(size)
    text = " ".join(text.split())[:200]
    while len(text) > 1 and pen.textlength(text, font) > width:
        text = text[:-2].rstrip() + "…"
    pen.text(place, text, ink, font)
