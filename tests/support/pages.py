"""Pages of made-up runs."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from cpp.report.cards import cards, layer_tree
from cpp.report.charts import number_of_clusters, rates_by_block, sparsity_by_block
from cpp.report.confusion import confusion
from cpp.report.members import MEMBERS
from cpp.report.run_page import LOSSES, pages, render
from cpp.report.thumbnails import Place
from cpp.report.tsne_map import plane

HOSTILE = "<script>document.title='gone'</script>\"'&\u202e" + "long" * 60 + "</style></title>"


def webp(side: int, seed: int, size: tuple[int, int] | None = None) -> bytes:
    """A picture of blots that takes as many bytes as a photograph, or more."""
    noise = np.random.default_rng(seed).integers(0, 255, (side // 4 + 1, side // 4 + 1, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).resize(size or (side, side)).save(out, "WEBP", quality=72)
    return out.getvalue()


def made(n: int, text: str = "thing", side: int = 160) -> dict[str, Any]:
    """A page of `n` clusters with every part."""
    rng = np.random.default_rng(0)
    large, small = [webp(side, i) for i in range(5)], [webp(72, i) for i in range(5)]
    kinds = {"typical": 8, "borderline": 4, "odd": 4}

    def row(k: int) -> dict[str, Any]:
        status = {3: "unsure", 5: "general"}.get(k % 7, "named")
        word = "guess" if status == "unsure" else text
        return {
            "layer": n, "main": True, "parent": k // 4, "cluster": k, "size": n - k + 5,
            "title": "guess?" if status == "unsure" else f"{text} {k}",
            "name": None if status == "unsure" else f"{text} {k}", "status": status,
            "confidence": (k % 10) / 10, "guess": word, "guess_confidence": (k % 10) / 20,
            "agree": 0.5, "coding_rate": 10.0,
            "nearest": (k + 1) % n, "overlap": 0.95 if k % 5 == 2 else 0.5,
            "top": [{"word": word, "share": 0.5}, {"word": "other", "share": 0.25}], "captions": [{"word": text}],
            "examples": [f"{text} {k}-typical-{i}" for i in range(3)], "small_margin": (k % 5) / 25,
        }  # fmt: skip

    def member(k: int, kind: str, i: int) -> dict[str, Any]:
        return {
            "kind": kind, "rank": i, "key": f"{text} {k}-{kind}-{i}", "image_shard": "s", "caption": text,
            "score": 0.5, "margin": 0.1, "large": large[(k + i) % 5], "small": small[(k + i) % 5],
        }  # fmt: skip

    rows = [row(k) for k in range(n)]
    above: list[dict[str, Any]] = [
        {"layer": n // 4 + 1, "main": False, "cluster": k, "parent": None, "size": 9, "title": text, "name": text,
         "top": []}
        for k in range(n // 4 + 1)
    ]  # fmt: skip
    members = {k: [member(k, kind, i) for kind, m in kinds.items() for i in range(m)] for k in range(n)}
    bits = np.concatenate([np.linspace(900, 0, n), np.linspace(5, 50, 6)])
    points = plane(rng.random((300, 2)) * 1000, (np.arange(300) % n).tolist())
    rejected = {"key": text, "image_shard": None, "caption": None, "large": None}
    return {
        "title": text,
        "state": "0123456789abcdef",
        "k": {"best": n, "low": 1, "high": n, "sentence": text, "rounds": [n, n]},
        "uncertain": [[0, 1, 12.5]] if n > 1 else [],
        "copies": {"rows": 1375, "copies": 0},
        "partition": {"method": "kmeans", "candidates": {}},
        "encoders": {"embedding": {"model": text, "pretrained": text, "sha256": text}},
        "cards": cards(rows, members, {k: [(text, 1.0)] for k in range(n)}),
        "rejected": [{"reason": "no bytes", "images": 3, "examples": [rejected, {**rejected, "large": large[0]}]}],
        "warnings": [text],
        "k_curve": number_of_clusters(np.arange(1, n + 7), -np.stack([bits, bits * 1.1]), n),
        "tree": layer_tree([*rows, *above]),
        "map": {**points, "key": [f"{text} {i}" for i in range(300)], "small": [small[i % 5] for i in range(300)]},
        "scores": {
            "label": text, "rows": 5, "classes": 2,
            "methods": [{"method": text, "clusters": n, "acc": 0.5, "nmi": 0.25, "ari": 0.125}],
        },
        "name_scores": None,
        "white_box": [
            {
                "column": "embedding", "model": text, "images": 256,
                "rates": rates_by_block([9.0, 8.0], [8.5, 7.0]), "sparsity": sparsity_by_block([0.5, 0.25]),
            }
        ],
        "confusion": confusion([{"cluster": k, "class": f"{text} {c}", "images": 5 - c} for k in range(min(n, 20))
                                for c in range(3)]),
        "loss": [
            {"round": i // 15, "n_clusters": 7, "step": i % 15, "warmup": i == 15} | dict.fromkeys(LOSSES, 1.0 + i % 3)
            for i in range(13, 30)
        ],
        "steps": [{"name": "encode", "seconds": 100.0, "rows": 12_345, "shards": 3}],
        "settings": text,
        "versions": {"torch": text},
        "pictures_allowed": True,
        "attention": None,
        "curation_pages": {},
    }  # fmt: skip


def bare(cluster: int = 0, **member: Any) -> dict[str, Any]:
    """A card without a name, with one typical member."""
    row = {"kind": "typical", "rank": 0, "image_shard": "s", **member}
    return cards([{"cluster": cluster, "size": 1, "title": f"cluster {cluster}"}], {cluster: [row]}, {})[0]


def members_of(page: dict[str, Any]) -> tuple[pa.Table, dict[Place, dict[str, Any]]]:
    """MEMBERS of the page's clusters, which are the members on its cards, and their pictures."""
    rows = [{"cluster": card["cluster"], "picture": True, **m} for card in page["cards"] for m in card["members"]]
    table = pa.Table.from_pylist([{name: row.get(name) for name in MEMBERS.names} for row in rows], MEMBERS)
    return table, {(row["image_shard"], row["key"]): row for row in rows}


def written(page: dict[str, Any], folder: Path, beside: dict[str, Any] | None = None) -> Path:
    """The page and its pages (or those of another) as a run writes them."""
    folder.mkdir(exist_ok=True)
    (folder / "report.html").write_text(render(page), encoding="utf-8")
    (folder / "pages").mkdir(exist_ok=True)
    listed = members_of(beside or page)
    for name, html in pages(beside or page, *listed):
        (folder / "pages" / name).write_text(html, encoding="utf-8")
    return folder / "report.html"
