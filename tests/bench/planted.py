"""Duplicates planted among drawings and photographs: which are found at each threshold, and what else is dropped.

Some pictures have a copy: the same bytes, encoded again, cropped, made smaller, or mirrored. Vectors are those of the
demonstration's small CLIP. By vectors alone, by vectors and signatures, and by signatures alone (with a threshold of
-1). `python -m tests.bench.planted`; photographs need CPP_TEST_DATA.
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
from PIL import Image, ImageOps

from cpp.curation.duplicate_groups import Groups, Linked, group
from cpp.curation.duplicate_pairs import Rows, similar_pairs
from cpp.curation.strongest_pairs import Pairs
from cpp.demo import dataset
from cpp.demo.drawing import KINDS, draw
from cpp.encoding import encoder, images, pretrained
from cpp.encoding.signature import same_picture, signature
from cpp.sources.samples import Sample
from cpp.sources.tar import TarShard
from tests.bench import heading

CHANGES = ("copied", "encoded again", "cropped", "cropped more", "resized", "mirrored")
MARGINS = {"cropped": (0.02, 0.05), "cropped more": (0.05, 0.1)}


def changed(data: bytes, change: str, rng: np.random.Generator) -> bytes:
    """Another file of the same picture: cropped by `MARGINS` at each side, or to 50 to 80 percent of its size."""
    if change == "copied":
        return data
    with Image.open(io.BytesIO(data)) as picture:
        image = picture.convert("RGB")
    if change == "encoded again":
        return dataset.jpeg(image, int(rng.integers(40, 75)))
    if change == "mirrored":
        return dataset.jpeg(ImageOps.mirror(image), 85)
    if change in MARGINS:
        left, top, right, bottom = rng.uniform(*MARGINS[change], 4) * (image.size * 2)
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


def pairs(planted: Planted, X: np.ndarray, lowest: float, signatures: np.ndarray | None = None) -> Pairs:
    """The pairs of all vectors, of which those with other signatures are left out."""
    digests = [int.from_bytes(hashlib.blake2b(data, digest_size=8).digest()) for data in planted.files]
    vector_id = np.unique(X.view(np.uint16), axis=0, return_inverse=True)[1]
    n, bytes_hash = len(X), np.array(digests, np.uint64)
    rows = Rows(np.zeros(n, np.int32), np.zeros(n, bool), vector_id, bytes_hash, X)
    S = signatures
    return similar_pairs(rows, lowest, None if S is None else lambda a, b: same_picture(S[a], S[b]))


def signatures(files: Iterable[bytes]) -> np.ndarray:
    limits = images.Limits()
    return np.stack([signature(images.decode(data, limits)) for data in files])


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
    print(f"{heading()}; recall by kind of copy, precision of what is dropped\n")
    print(f"| pictures | by | {' | '.join(CHANGES)} | dropped | precision |\n|{'---|' * 10}")
    sets = {"drawings": drawings(2000, 3)}
    if data := os.environ.get("CPP_TEST_DATA"):
        sets["photographs"] = photographs(Path(data), 2000)
    for name, files in sets.items():
        planted = plant(files, 5, 0)
        X, S = vectors(planted.files, 2), signatures(planted.files)
        by_vector, by_both = pairs(planted, X, 0.9), pairs(planted, X, 0.9, S)
        by_signature = pairs(planted, X, -1, S)
        ways = {f"vectors, {t:g}": (by_vector, t) for t in (0.95, 0.98, 0.99, 0.995)}
        ways |= {f"vectors, {t:g}, and signatures": (by_both, t) for t in (0.9, 0.95, 0.98)}
        ways["signatures"] = (by_signature, -1)
        for way, (links, threshold) in ways.items():
            at = found(planted, links, threshold)
            cells = [f"{at.recall[kind]:.2f}" for kind in CHANGES]
            precision = f"{at.right / at.goes:.3f}" if at.goes else ""
            print(f"| {' | '.join([f'{len(files):,} {name}', way, *cells, str(at.goes), precision])} |", flush=True)


if __name__ == "__main__":
    main()
