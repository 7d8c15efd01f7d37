"""A small CRATE, trained on half of CIFAR-10's test set and measured on the rest: `python -m tests.bench.crate OUT`.

The recipe is that of arXiv 2306.01129 at small scale: Lion, label smoothing, random crops and mirrored images. Writes
`trained.safetensors` and `random.safetensors` into OUT, which must not be in the repository, and prints what the blocks
do to the tokens. Then the pipeline clusters the other half by the features of each. Labels train the encoder on the
first half, and score the clusters of the second.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from timm.optim.lion import Lion
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cpp.demo.clip import augment
from cpp.encoding.crate import FIRST, Crate, Shape
from cpp.encoding.crate_models import MEAN, STD
from cpp.sources.shards import Images, iter_shards, read_samples
from pipelines.stages.white_box import measure
from tests.bench import heading

SHAPE = Shape(FIRST, dim=96, depth=12, heads=3, patch=4, side=32)
EPOCHS, WARM, BATCH, RATE, DECAY, SMOOTHING = 20, 2, 100, 5e-4, 0.05, 0.1
HALVES = "0000{0..1}.tar", "0000{2..3}.tar"


def read(folder: Path, tars: str) -> tuple[Tensor, Tensor]:
    """Pixels uint8 `[m, 3, 32, 32]` and classes `[m]`."""
    shards = iter_shards(Images("webdataset", (str(folder / tars),)))
    samples = [sample for _, shard in shards for sample in read_samples(shard)]
    pixels = [np.asarray(Image.open(io.BytesIO(sample.image or b"")).convert("RGB")) for sample in samples]
    classes = [int(sample.metadata["label"]) for sample in samples]
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous(), torch.tensor(classes)


def normalise(pixels: Tensor) -> Tensor:
    """Pixels from 0 to 255 as the encoder takes them."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (pixels.float() / 255 - mean) / std


def train(model: Crate, head: nn.Linear, pixels: Tensor, classes: Tensor, epochs: int) -> None:
    """Train the model and its classifier in place: the rate rises for `WARM` epochs, then falls as a cosine."""
    generator = torch.Generator().manual_seed(0)
    parameters = [*model.parameters(), *head.parameters()]
    optimizer = Lion(parameters, lr=RATE, weight_decay=DECAY)
    steps = len(pixels) // BATCH
    warm = WARM * steps
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda i: (i + 1) / warm if i < warm else (1 + math.cos(math.pi * (i - warm) / (epochs * steps - warm))) / 2,
    )
    for epoch in range(epochs):
        total, start = 0.0, time.process_time()
        for rows in torch.randperm(len(pixels), generator=generator).split(BATCH)[:steps]:
            logits = head(model(normalise(augment(pixels[rows], generator))))
            loss = cross_entropy(logits, classes[rows], label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        seconds = time.process_time() - start
        print(f"epoch {epoch + 1} of {epochs}: loss {total / steps:.3f}, {seconds:.0f} s of the CPU", flush=True)


@torch.inference_mode()
def report(name: str, model: Crate, head: nn.Linear, pixels: Tensor, classes: Tensor) -> None:
    """Print the accuracy of the classifier, and what the blocks do to the tokens of the first 500 images."""
    right = [(head(model(normalise(p))).argmax(1) == y).float().mean() for p, y in
             zip(pixels.split(500), classes.split(500), strict=True)]  # fmt: skip
    print(f"\n{name}: accuracy of the classifier {100 * float(torch.stack(right).mean()):.1f} %\n")
    print("| block | R^c before MSSA, nats | R^c after, nats | non-zero, % |\n|---|---|---|---|")
    for row in measure(model, map(normalise, pixels[:500].split(50))):
        print(f"| {row['block']} | {row['rate_before']:.1f} | {row['rate']:.1f} | {100 * row['nonzero']:.1f} |")


def cluster(weights: Path, images: Path) -> None:
    """Run the pipeline on the half that was not trained on, with its true number of classes, and print its scores."""
    values = {
        "name": weights.stem, "root": str(weights.with_suffix("")),
        "images": {"format": "webdataset", "path": [str(images.resolve() / HALVES[1])]},
        "encode": {"model": f"crate/{SHAPE.dim}x{SHAPE.depth}x{SHAPE.heads}", "pretrained": str(weights.resolve())},
        "partition": {"n_clusters": 10}, "evaluate": {"label": "label"},
    }  # fmt: skip
    config = weights.with_suffix(".yaml")
    config.write_text(yaml.safe_dump(values))
    subprocess.run([sys.executable, "-m", "pipelines", "run", str(config), "--local"], check=True)
    for row in json.loads((weights.with_suffix("") / "scores.json").read_text())["methods"]:
        print(f"{weights.stem}, {row['method']}: ACC {100 * row['acc']:.1f}, NMI {100 * row['nmi']:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for weights and runs, outside the repository")
    parser.add_argument("--images", type=Path, required=True, help="folder with the tars of CIFAR-10's test set")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model, head = Crate(SHAPE), nn.Linear(SHAPE.dim, 10)
    save_file(model.state_dict(), args.out / "random.safetensors")
    first, second = (read(args.images, half) for half in HALVES)
    print(heading())
    print(f"{len(first[0])} images to train on, {len(second[0])} to measure on", flush=True)
    report("Random weights", model, head, *second)
    train(model, head, *first, args.epochs)
    save_file(model.state_dict(), args.out / "trained.safetensors")
    report("Trained weights", model, head, *second)
    for name in ("random", "trained"):
        cluster(args.out / f"{name}.safetensors", args.images)


if __name__ == "__main__":
    main()
