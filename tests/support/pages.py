"""Pages of made-up runs."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from cpp.report.cards import Card, Neighbour, Picture, Share
from cpp.report.charts import coding_length
from cpp.report.confusion import confusion
from cpp.report.layer_tree import layer_tree
from cpp.report.run_page import Page, Rejected, Step, pages, render
from cpp.report.tsne_map import plane

HOSTILE = "<script>document.title='gone'</script>\"'&\u202e" + "long" * 60 + "</style></title>"


def webp(side: int, seed: int, size: tuple[int, int] | None = None) -> bytes:
    """A picture of blots that takes as many bytes as a photograph, or more."""
    noise = np.random.default_rng(seed).integers(0, 255, (side // 4 + 1, side // 4 + 1, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).resize(size or (side, side)).save(out, "WEBP", quality=72)
    return out.getvalue()


def made(n: int, text: str = "thing", side: int = 160) -> Page:
    """A page of `n` clusters with every part."""
    rng = np.random.default_rng(0)
    large, small = [webp(side, i) for i in range(5)], [webp(72, i) for i in range(5)]
    kinds = {"typical": 8, "borderline": 4, "odd": 4}

    def card(k: int) -> Card:
        def picture(kind: str, i: int) -> Picture:
            key = f"{text} {k}-{kind}-{i}"
            return Picture(key, "s", text, 0.5, 0.1, large[(k + i) % 5], small[(k + i) % 5])

        return Card(
            cluster=k,
            size=n - k + 5,
            part=1 / n,
            name=None if k % 7 == 3 else f"{text} {k}",
            guess="guess" if k % 7 == 3 else None,
            unsure=k % 7 == 3,
            sure=(k % 10) / 10,
            evidence=[Share(text, 0.5), Share("other", 0.25)],
            captions=[text],
            classes=[Share(text, 1.0)],
            neighbour=Neighbour((k + 1) % n, f"{text} {(k + 1) % n}", 0.5),
            warnings=["The cluster has only 3 images."] if k % 5 == 2 else [],
            row={"coding_rate": 10.0, "agree": 0.5},
            members={kind: [picture(kind, i) for i in range(m)] for kind, m in kinds.items()},
        )

    rows = [{"layer": n, "main": True, "cluster": k, "parent": k // 4, "size": n - k + 5, "name": text, "top": []}
            for k in range(n)]  # fmt: skip
    above = [{"layer": n // 4 + 1, "main": False, "cluster": k, "parent": None, "size": 9, "name": text, "top": []}
             for k in range(n // 4 + 1)]  # fmt: skip
    bits = np.concatenate([np.linspace(900, 0, n), np.linspace(5, 50, 6)])
    cluster = np.arange(300) % n
    return Page(
        title=text,
        k={"low": 1, "high": n, "sentence": text},
        partition={"method": "kmeans", "candidates": {}},
        encoders={"embedding": {"model": text, "pretrained": text, "sha256": text}},
        cards=[card(k) for k in range(n)],
        rejected=[Rejected("no bytes", 3, [Picture(text), Picture(text, data=large[0])])],
        warnings=[text],
        coding_length=coding_length(bits, np.stack([bits, bits * 1.1]), n),
        tree=layer_tree([*rows, *above]),
        plane=plane(rng.random((300, 2)) * 1000, cluster.tolist(), [("s", f"{text} {i}") for i in range(300)]),
        small={("s", f"{text} {i}"): small[i % 5] for i in range(300)},
        scores={
            "label": text, "rows": 5, "classes": 2,
            "methods": [{"method": text, "clusters": n, "acc": 0.5, "nmi": 0.25, "ari": 0.125}],
        },
        confusion=confusion([{"cluster": k, "class": f"{text} {c}", "images": 5 - c} for k in range(min(n, 20))
                             for c in range(3)]),
        loss={name: [1.0, 3.0, 2.0] * 5 for name in ("loss", "R", "R_c", "pi_norm2")}
        | {"warmup": [True] + [False] * 14},
        steps=[Step("encode", 100.0, 12_345, 3)],
        settings=text,
        versions={"torch": text},
    )  # fmt: skip


def written(page: Page, folder: Path, beside: Page | None = None) -> Path:
    """The page and its pages (or those of another) as a run writes them."""
    folder.mkdir(exist_ok=True)
    (folder / "report.html").write_text(render(page), encoding="utf-8")
    (folder / "pages").mkdir(exist_ok=True)
    for name, html in pages(beside or page):
        (folder / "pages" / name).write_text(html, encoding="utf-8")
    return folder / "report.html"
