"""Speed and memory of the step `encode` on real images: `python -m tests.bench.encode`, with CPP_TEST_DATA set.

Speed is a ratio against a named baseline in the same process, the two taking turns.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn.functional import normalize

from cpp.encoding import images, pretrained
from cpp.encoding.encoder import PRECISIONS
from cpp.sources import shards as sources
from cpp.sources.shards import Images
from pipelines.engine.executor import open_stage
from pipelines.engine.stage import Context, Work
from pipelines.stages.artifacts import Model
from pipelines.stages.encode import Encode
from tests.bench import heading
from tests.support.datasets import TINY

THREADS = len(os.sched_getaffinity(0))
BATCH = 64
Precision = Literal["fp32", "bf16"]
LIMITS = images.Limits()


def turns(
    ours: Callable[[], object], baseline: Callable[[], object], clock: Callable[[], float], repeats: int = 4
) -> tuple[float, float]:
    """Least seconds of two calls that take turns, after one of each that warms up.

    The least, since threads wait actively: beside another program a forward pass takes up to five times as long.
    """
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats + 1):
        for work, record in zip((ours, baseline), taken, strict=True):
            start = clock()
            work()
            record.append(clock() - start)
    return min(taken[0][1:]), min(taken[1][1:])


def encoding(tar: str, weights: Path, precision: Precision) -> tuple[str, float, float]:
    """A tar to FEATURES by the stage, against the forward pass alone on floats that are ready, in equal batches."""
    work, shard = opened_on(tar, "ViT-B-32", weights, precision)
    model, _, transform = open_clip.create_model_and_transforms(
        "ViT-B-32", pretrained=str(weights), precision=precision
    )
    model.eval()
    pixels = torch.stack([transform(picture) for picture in pictures(shard)]).to(PRECISIONS[precision])

    @torch.inference_mode()
    def bare() -> torch.Tensor:
        return torch.cat([normalize(model.encode_image(part)) for part in pixels.split(BATCH)])

    with tempfile.TemporaryDirectory() as folder:
        ours, baseline = turns(lambda: work({"images": shard}, products(folder)), bare, time.perf_counter)
    return f"{len(pixels)} images of cc3m to FEATURES, ViT-B-32 {precision}; forward pass alone", ours, baseline


def decoding(name: str, data: list[bytes]) -> tuple[str, float, float]:
    """CPU seconds to decode and resize, against Pillow with open_clip's own transform."""
    torch.set_num_threads(1)  # the baseline's second thread would wait actively, and count
    transform = open_clip.image_transform(224, is_train=False)
    preprocess = images.Preprocess((224, 224), open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)

    def ours() -> None:
        for one in data:
            preprocess(images.decode(one, LIMITS))

    def plain() -> None:
        for one in data:
            transform(Image.open(io.BytesIO(one)))

    found = turns(ours, plain, time.process_time)
    rates = " and ".join(f"{len(data) / taken:.0f}" for taken in found)
    return f"decode and resize {len(data)} images of {name}, {rates} per CPU second; Pillow and open_clip", *found


def memory(tar: str, shards: int = 12) -> tuple[str, float, float]:
    """Resident MiB of a worker after its second shard and after its last."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "cpp-bench.json").write_text(json.dumps(TINY))
        pretrained.register(folder)
        work, shard = opened_on(tar, "cpp-bench", random_weights("cpp-bench", Path(folder)), "fp32")
        resident = []
        for _ in range(shards):
            work({"images": shard}, products(folder))
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            resident.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
    return f"resident MiB of a worker after shard {shards}; after shard 2", resident[-1], resident[1]


def opened_on(tar: str, model: str, weights: Path, precision: Precision) -> tuple[Work, sources.ImageShard]:
    """The stage as a worker with all cores opens it, and its shard."""
    settings = Model(model=model, pretrained=str(weights), precision=precision, weights="random")
    stage = Encode(
        encoders={"embedding": settings},
        max_bytes=LIMITS.max_bytes,
        max_pixels=LIMITS.max_pixels,
        max_aspect=LIMITS.max_aspect,
    )
    context = Context({}, threads=THREADS, device="cpu", batch=8192, image_batch=BATCH, prefetch=4)
    (shard,) = sources.shards(Images("webdataset", (tar,))).values()
    return open_stage(stage, context), shard


def products(folder: str) -> dict[str, Path]:
    return {product.name: Path(folder, f"{product.name}.parquet") for product in Encode.products}


def random_weights(model: str, folder: Path) -> Path:
    torch.manual_seed(0)
    state = open_clip.create_model(model).state_dict()
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, folder / f"{model}.safetensors")
    return folder / f"{model}.safetensors"


def first(tar: Path, n: int, folder: Path) -> str:
    """A tar with the first `n` samples of another."""
    with tarfile.open(tar) as old, tarfile.open(folder / f"{n}.tar", "w") as new:
        keys = set[str]()
        for member in old:
            keys.add(member.name.partition(".")[0])
            if len(keys) > n:
                break
            new.addfile(member, old.extractfile(member))
    return str(folder / f"{n}.tar")


def pictures(shard: sources.ImageShard) -> Iterator[Image.Image]:
    return (Image.open(io.BytesIO(sample.image or b"")) for sample in sources.read_samples(shard))


def rows(data: Path) -> Iterator[tuple[str, float, float]]:
    """The table, a row at a time; memory first, while there is no large model in the process."""
    with tempfile.TemporaryDirectory() as folder:
        tar = first(data / "cc3m-img2dataset/00000.tar", 200, Path(folder))
        yield memory(tar)
        cc3m = first(data / "cc3m-img2dataset/00000.tar", 400, Path(folder))
        (shard,) = sources.shards(Images("webdataset", (cc3m,))).values()
        yield decoding("cc3m", [sample.image or b"" for sample in sources.read_samples(shard)])
        yield decoding("coco", [path.read_bytes() for path in sorted((data / "coco-mini/val2017").iterdir())])
        weights = random_weights("ViT-B-32", Path(folder))
        yield encoding(cc3m, weights, "fp32")
        many = first(data / "cc3m-img2dataset/00000.tar", 1600, Path(folder))
        yield encoding(many, weights, "bf16")  # several times as fast: more images for as many seconds


if __name__ == "__main__":
    if not (found := os.environ.get("CPP_TEST_DATA")):
        sys.exit("CPP_TEST_DATA is not set to the folder of real data: nothing to measure")
    print(f"{heading()}\n")
    print("| what; baseline | ours | baseline | baseline / ours |\n|---|---|---|---|")
    for name, ours, baseline in rows(Path(found)):
        print(f"| {name} | {ours:.3f} | {baseline:.3f} | {baseline / ours:.2f} |", flush=True)
