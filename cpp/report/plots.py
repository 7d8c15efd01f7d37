"""The curve, the sizes and the map of a run as SVG, and a contact sheet of its largest clusters as PNG.

For papers and READMEs: light, without a script, in files of their own. Knows no run and no folder.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

from markupsafe import escape
from PIL import Image, ImageDraw, ImageFont, ImageOps

from cpp.report import charts, html
from cpp.report.cards import LONG, Card
from cpp.report.length_curve import LengthCurve
from cpp.report.tsne_map import SIDE, Plane

LARGEST = 20  # clusters of the contact sheet
ACROSS, PICTURES = 4, 6  # its columns, and pictures of a cluster, in two rows
TILE, GAP, MARGIN, TEXT = 80, 4, 20, 44  # pixels
NAMES, LETTERS = 40, 40  # on the map, and of a name
HUES = ("#3b6fd4", "#d1495b", "#3a9a5b", "#b8862b", "#8a5cc9", "#1f9aa6", "#d0507f", "#6a8f2a", "#7d6fd6", "#c4632d",
        "#2f87c0", "#b04fa6")  # fmt: skip


def draw(title: str, cards: Sequence[Card], length: LengthCurve, plane: Plane) -> dict[str, bytes]:
    """The files by name; without a contact sheet where no cluster has a picture, without a curve where K is 1."""
    largest = sorted(cards, key=lambda card: (-card.size, card.cluster))
    found = {
        "sizes.svg": html.drawing("sizes", charts.sizes([card.size for card in cards]), len(cards)),
        "map.svg": mapped(plane, {card.cluster: card.title for card in cards}),
    }
    if length.line:
        found["curve.svg"] = html.drawing("length", length)
    files = {name: text.encode() for name, text in found.items()}
    if any(picture.large for card in largest[:LARGEST] for picture in card.members.get("typical", ())):
        files["contact-sheet.png"] = contact_sheet(title, largest[:LARGEST])
    return files


def mapped(plane: Plane, titles: dict[int, str]) -> str:
    """The map as SVG: a point for each image, names of the clusters with most of them."""
    colours = {centre.cluster: HUES[centre.colour % len(HUES)] for centre in plane.centres}
    dots = "".join(
        f'<circle cx="{x:.0f}" cy="{y:.0f}" r="3.5" fill="{colours[k]}"/>'
        for x, y, k in zip(plane.x, plane.y, plane.cluster, strict=True)
    )
    names = "".join(
        f'<text x="{c.x:.0f}" y="{c.y:.0f}">{escape(titles.get(c.cluster, "")[:LETTERS])}</text>'
        for c in plane.centres[:NAMES]
    )
    box = f"-30 -30 {SIDE + 60} {SIDE + 60}"
    style = (
        "text{font:600 15px system-ui,sans-serif;text-anchor:middle;fill:#1c232d;stroke:#fff;"
        "stroke-width:4px;paint-order:stroke;stroke-linejoin:round}circle{opacity:.7}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}"><style>{style}</style>'
        f'<rect x="-30" y="-30" width="100%" height="100%" fill="#fff"/>{dots}{names}</svg>'
    )


def contact_sheet(title: str, cards: Sequence[Card]) -> bytes:
    """PNG: of every cluster name, size and its most typical pictures, as squares but for long ones."""
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
        _write(pen, (left, top), card.title, 17, width)
        _write(pen, (left, top + 21), f"{card.size:,} images", 13, width, "#566170")
        for j, picture in enumerate(card.members.get("typical", ())[:PICTURES]):
            if picture.large is not None:
                place = left + j % across * (TILE + GAP), top + TEXT + j // across * (TILE + GAP)
                sheet.paste(_square(picture.large), place)
    out = io.BytesIO()
    sheet.save(out, "PNG", optimize=True)
    return out.getvalue()


def _square(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=["WEBP"]).convert("RGBA")
    fit = ImageOps.pad if max(image.size) > LONG * min(image.size) else ImageOps.fit
    ground = Image.new("RGBA", (TILE, TILE), "white")
    return Image.alpha_composite(ground, fit(image, (TILE, TILE), Image.Resampling.LANCZOS)).convert("RGB")


def _write(
    pen: ImageDraw.ImageDraw, place: tuple[int, int], text: str, size: int, width: int, ink: str = "#1c232d"
) -> None:
    """Text on one line, cut so that it fits in `width` pixels."""
    font = ImageFont.load_default(size)
    text = " ".join(text.split())[:200]
    while len(text) > 1 and pen.textlength(text, font) > width:
        text = text[:-2].rstrip() + "…"
    pen.text(place, text, ink, font)
