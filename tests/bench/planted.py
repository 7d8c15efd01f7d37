"""Duplicates planted among drawings and among photographs: which are found at each threshold, and what else goes.

Of pictures some have a copy of a kind: the same bytes, encoded again, cropped, or made smaller. The vectors are of the
demonstration's small CLIP, the clusters of k-means. `python -m tests.bench.planted`; photographs need CPP_TEST_DATA.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cpp.curation.duplicate_groups import Groups, Linked, group
from cpp.curation.duplicate_pairs import Rows, duplicate_forest
from cpp.curation.spanning_forest import Pairs
from cpp.demo import dataset
from cpp.demo.drawing import KINDS, draw
from cpp.encoding import encoder, images, pretrained
from cpp.nearest import Nearest, kmeans
from cpp.sources.samples import Sample
from cpp.sources.tar import TarShard
from tests.bench import heading

CHANGES = ("copied", "encoded again", "cropped", "resized")


def changed(data: bytes, change: str, rng: np.random.Generator) -> bytes:
    """Another file of the same picture: cropped by 2 to 5 percent at each side, or to 50 to 80 percent of its size."""
    if change == "copied":
        return data
    with Image.open(io.BytesIO(data)) as picture:
        image = picture.convert("RGB")
    if change == "encoded again":
        return dataset.jpeg(image, int(rng.integers(40, 75)))
    if change == "cropped":
        left, top, right, bottom = rng.uniform(0.02, 0.05, 4) * (image.size * 2)
        return dataset.jpeg(image.crop((int(left), int(top), int(image.width - right), int(image.height - bottom))), 85)
    scale = rng.uniform(0.5, 0.8)
    return dataset.jpeg(image.resize((round(image.width * scale), round(image.height * scale))), 85)


@dataclass(frozen=True)
class Planted:
    """Pictures as files, the original of each by number, and how it was changed, "" for an original."""

    files: list[bytes]
    original: np.ndarray
    change: np.ndarray


def plant(files: list[bytes], share: int, seed: int) -> Planted:
    """One picture of `share` has a copy of each kind in turn."""
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(files))[: len(files) // share]
    changes = [CHANGES[i % len(CHANGES)] for i in range(len(chosen))]
    more = [changed(files[i], change, rng) for i, change in zip(chosen, changes, strict=True)]
    return Planted(
        [*files, *more],
        np.concatenate([np.arange(len(files)), chosen]),
        np.array([""] * len(files) + changes),
    )


def vectors(files: Iterable[bytes], threads: int = 1) -> np.ndarray:
    """Unit vectors of the demonstration's CLIP, float16."""
    pretrained.register(str(dataset.ASSETS / f"{dataset.MODEL}.json"))
    model = encoder.Encoder(dataset.MODEL, str(dataset.ASSETS / f"{dataset.MODEL}.safetensors"), "cpu", "fp32")
    samples = (Sample(str(i), data) for i, data in enumerate(files))
    prepared = images.prepare(samples, [model.preprocess], images.Limits(1 << 26, 1 << 27, 100.0), threads, 128)
    pixels = (item.pixels for item in prepared if item.pixels is not None)
    return np.concatenate([part for (part,) in encoder.encode([model], pixels, 64)])


@dataclass(frozen=True)
class Found:
    """`recall` of each kind of copy: it is in the group of its original. `goes` rows go, and in place of `right` of
    them a row of the same original is kept."""

    recall: dict[str, float]
    goes: int
    right: int


def found(planted: Planted, links: Pairs, threshold: float) -> Found:
    """What the pairs give at a threshold."""
    n = len(planted.files)
    unknown = np.full(n, np.nan)
    grouped: Groups = group(Linked(np.arange(n), unknown, unknown, unknown), links, threshold, "first")
    of = np.full(n, -1)
    of[grouped.row] = grouped.group
    copy = planted.change != ""
    together = copy & (of >= 0) & (of == of[planted.original])
    recall = {kind: float(together[planted.change == kind].mean()) for kind in CHANGES}
    pairs = {*zip(grouped.group[grouped.kept], planted.original[grouped.row[grouped.kept]], strict=True)}
    gone = grouped.row[~grouped.kept]
    right = sum((of[row], planted.original[row]) in pairs for row in gone)
    return Found(recall, len(gone), right)


def pairs(planted: Planted, X: np.ndarray, n_clusters: int, lowest: float) -> Pairs:
    """The pairs within clusters of k-means."""
    rows = X.astype(np.float32)
    cluster = Nearest(kmeans(rows, n_clusters, 0))(rows, 8192).cluster
    digests = [int.from_bytes(hashlib.blake2b(data, digest_size=8).digest()) for data in planted.files]
    known = np.array(digests, np.uint64)
    vector_id = np.unique(X.view(np.uint16), axis=0, return_inverse=True)[1]
    return duplicate_forest(Rows(cluster, np.zeros(len(X), bool), vector_id, known, X), lowest)


def drawings(n: int, seed: int) -> list[bytes]:
    rng = np.random.default_rng(seed)
    return [dataset.jpeg(draw(kind, rng)[0], 90) for _, kind in zip(range(n), list(KINDS) * n, strict=False)]


def photographs(data: Path, n: int) -> list[bytes]:
    """Photographs of Caltech-101, one file of equal ones."""
    tars = (TarShard(str(path), "") for path in sorted((data / "caltech101-clip-b32/images").glob("*.tar")))
    read = (sample.image for tar in tars for sample in tar.read(1 << 26) if sample.image is not None)
    return list(islice(dict.fromkeys(read), n))


def main() -> None:
    torch.set_num_threads(2)
    print(f"{heading()}; recall by kind of copy, precision of what goes\n")
    print(f"| pictures | threshold | {' | '.join(CHANGES)} | rows that go | precision |\n|{'---|' * 8}")
    sets = {"drawings": drawings(2000, 3)}
    if data := os.environ.get("CPP_TEST_DATA"):
        sets["photographs"] = photographs(Path(data), 2000)
    for name, files in sets.items():
        planted = plant(files, 5, 0)
        X = vectors(planted.files, 2)
        for n_clusters in (1, 20):
            links = pairs(planted, X, n_clusters, 0.9)
            for threshold in (0.95, 0.97, 0.98, 0.99, 0.995, 0.999, 1.0):
                at = found(planted, links, threshold)
                cells = [f"{at.recall[kind]:.2f}" for kind in CHANGES]
                precision = f"{at.right / at.goes:.2f}" if at.goes else ""
                row = [
                    f"{len(files):,} {name}, {n_clusters} clusters",
                    f"{threshold:g}",
                    *cells,
                    str(at.goes),
                    precision,
                ]
                print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
