"""CLIP vectors of Caltech-101 joined with those of a second encoder, by weight: `python -m tests.bench.joined`.

No published weights of a second encoder are among the shared data, so the second vectors are descriptors without
training: histograms of colours and of the directions of edges, and timm's ResNet-18 with random weights. K is given;
labels score and decide nothing.
"""

from __future__ import annotations

import io
import os
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from cpp import CPP
from cpp.encoding import images
from cpp.encoding.encoder import Encoder, encode
from cpp.evaluation.metrics import scores
from cpp.sources.samples import Sample
from cpp.sources.tar import TarShard
from cpp.sources.vectors import read_vectors
from tests.bench import heading

SHARES = (0.1, 0.25, 0.5, 0.75)  # of the second encoder in the cosine
SEEDS = (0, 1)
MODEL = "resnet18"


def histograms(image: Image.Image) -> NDArray[np.float32]:
    """Histograms of colour, and of the directions of edges in a grid of 4 x 4 cells."""
    rgb = np.asarray(image.convert("RGB").resize((64, 64)), np.float32)
    colours = np.histogramdd(rgb.reshape(-1, 3), bins=4, range=[(0, 256)] * 3)[0].ravel()
    dy, dx = np.gradient(rgb.mean(2))
    direction, length = np.floor((np.arctan2(dy, dx) / np.pi % 1) * 9).astype(int) % 9, np.hypot(dy, dx)
    cell = np.add.outer(np.arange(64) // 16 * 4, np.arange(64) // 16)
    edges = np.bincount((cell * 9 + direction).ravel(), length.ravel(), 144)
    parts = (np.sqrt(part / max(part.sum(), 1)) for part in (colours, edges))
    return np.concatenate(list(parts)).astype(np.float32)


def random_network(samples: Iterator[Sample]) -> NDArray[np.float32]:
    """Vectors of a timm model with random weights."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/random.safetensors"
        save_file(timm.create_model(MODEL, num_classes=0).state_dict(), path)
        encoder = Encoder(f"timm/{MODEL}", path, "cpu", "fp32")
    prepared = images.prepare(samples, [encoder.preprocess], images.Limits(), 1, 64)
    parts = encode([encoder], (item.pixels for item in prepared if item.pixels is not None), 32)
    return np.concatenate([X for (X,) in parts]).astype(np.float32)


def samples(folder: Path) -> Iterator[Sample]:
    for path in sorted((folder / "images").glob("*.tar")):
        yield from TarShard(str(path), "").read(1 << 26)


def row(name: str, arrays: list[NDArray[np.float32]], weights: list[float], label: NDArray[np.int64]) -> str:
    K = len(np.unique(label))
    fits = [CPP(K, weights=weights, random_state=seed).fit(arrays).labels_ for seed in SEEDS]
    measured = [scores(label, labels) for labels in fits]
    cells = (f"{100 * statistics.mean(getattr(one, key) for one in measured):.1f}" for key in ("acc", "nmi", "ari"))
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    folder = Path(os.environ["CPP_TEST_DATA"]) / "caltech101-clip-b32"
    files = sorted((folder / "img_emb").glob("*.npy"), key=lambda path: int(path.stem.rpartition("_")[2]))
    clip = np.concatenate([read_vectors(str(path)) for path in files]).astype(np.float32)
    paths = [folder / f"metadata/{path.stem.replace('img_emb', 'metadata')}.parquet" for path in files]
    label = np.concatenate([pq.read_table(path)["label"].to_numpy() for path in paths])
    described = (histograms(Image.open(io.BytesIO(sample.image))) for sample in samples(folder) if sample.image)
    others = {"histograms": np.stack(list(described)), f"random {MODEL}": random_network(samples(folder))}
    print(f"{heading()}\n\n| vectors | ACC | NMI | ARI |\n|---|---|---|---|")
    print(row("CLIP", [clip], [1], label), flush=True)
    for name, X in others.items():
        centred = [part - part.mean(0) for part in (clip, X)]
        print(row(name, [X], [1], label), flush=True)
        for share in SHARES:
            print(row(f"CLIP and {name}, {share:.0%}", [clip, X], [1 - share, share], label), flush=True)
        print(row(f"CLIP and {name}, 50%, each without its mean", centred, [1, 1], label), flush=True)


if __name__ == "__main__":
    main()
