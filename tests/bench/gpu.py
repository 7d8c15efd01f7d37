"""The first hour with a GPU: equality with the CPU, then speed beside named baselines. `make bench-gpu OUT=folder`.

Needs no Ray and no data: torch, open_clip_torch, faiss-gpu, pyarrow, scikit-learn, webdataset. Weights are random,
pictures are made here. Writes `gpu.json` and `gpu.md` into the folder after every row, so that what was measured before
an interruption is kept. With `--small`, on a CPU, it checks the script itself.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import faiss
import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils.flop_counter import FlopCounterMode

from cpp.curation.duplicate_pairs import Rows, similar_pairs
from cpp.encoding import images
from cpp.encoding.encoder import Encoder
from cpp.naming.vocabulary import Vocabulary
from cpp.naming.votes import TEMPERATURE, vote
from cpp.nearest import Nearest, nearest_rows
from cpp.rate_reduction.coding_rate import coding_rate, compressed_rate
from cpp.rate_reduction.fit import fit, objective
from cpp.rate_reduction.head import Codes
from cpp.rate_reduction.recipes import Discriminant, Paper
from cpp.rate_reduction.sinkhorn import membership
from cpp.sources import shards as sources
from cpp.sources.shards import Images
from cpp.store.local import Store
from pipelines.engine.executor import OpenStage
from pipelines.engine.plan import Task
from pipelines.engine.stage import Context
from pipelines.stages.artifacts import Model
from pipelines.stages.encode import Encode
from tests.bench import gpu_forward, heading
from tests.support.published import published_compressed_rate, published_sinkhorn

BATCH = 256
SHARDS = 4
SOME = 16  # columns of the published R_c that are computed; its time is multiplied, because it holds m matrices at once


class Row(NamedTuple):
    """A measured value, and the baseline or the bound it is compared with."""

    what: str
    value: float
    baseline: str
    compared: float
    unit: str


class Sizes(NamedTuple):
    """How much is measured."""

    models: tuple[str, ...]
    pictures: int
    fit: tuple[int, int, int]  # rows, dimension, planted subspaces
    steps: tuple[int, ...]
    step_dim: int
    assign: tuple[int, int, tuple[int, ...]]  # rows, dimension, numbers of centroids
    names: tuple[int, int, int]  # rows, clusters, words
    duplicates: tuple[int, int]  # rows, cells


FULL = Sizes(
    ("ViT-B-32", "ViT-L-14"),
    20_000,
    (1_280_000, 768, 1000),
    (1024, 4096, 16_384),
    1024,
    (10_000_000, 128, (10_000, 100_000)),
    (200_000, 10_000, 20_000),
    (1_000_000, 1000),
)
SMALL = Sizes(("ViT-S-32-alt",), 8, (2000, 16, 4), (64,), 16, (2000, 16, (20, 50)), (200, 10, 30), (300, 3))


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Least seconds of a call, after one that warms up; the device is waited for."""
    taken = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return min(taken[1:])


def equality(device: str) -> Iterator[Row]:
    """The device against the CPU in float32, on small inputs; `compared` is the bound."""
    g = torch.Generator().manual_seed(0)
    Z = normalize(torch.randn(512, 64, generator=g), dim=1)
    Pi = membership(Z, 0.175, 5)[0]
    on = Z.to(device)
    rate = coding_rate(Z, 0.1), compressed_rate(Z, Pi, 0.1)
    there = coding_rate(on, 0.1).cpu(), compressed_rate(on, Pi.to(device), 0.1).cpu()
    worst = max(abs(float(b / a) - 1) for a, b in zip(rate, there, strict=True))
    yield Row("rates R and R_c, relative difference", worst, "at most", 1e-4, "")
    difference = float((membership(on, 0.175, 5)[0].cpu() - Pi).abs().max() / Pi.max())
    yield Row("membership, largest difference, relative", difference, "at most", 1e-4, "")
    X = planted(4000, 64, 10)
    here, away = (fit(X, Discriminant(), 10, 0, where)[0].project(X, 4096).Z[:500] for where in ("cpu", device))
    yield Row(
        "cosines of discriminant codes, difference",
        float((here @ here.T - away @ away.T).abs().max()),
        "at most",
        1e-2,
        "",
    )
    rows, centroids = X.numpy(), normalize(torch.randn(200, 64, generator=g), dim=1).numpy()
    same = Nearest(centroids)(rows, 4096).cluster == Nearest(centroids, device == "cuda")(rows, 4096).cluster
    yield Row("rows with another nearest centroid by FAISS, share", float(1 - same.mean()), "at most", 1e-3, "")


def encoder_rows(model: str, n: int, device: str, folder: Path) -> Iterator[Row]:
    """The forward pass on pixels that are ready, other ways to run it, and the stage `encode` beside it."""
    torch.manual_seed(0)
    weights = folder / f"{model}.safetensors"
    save_file({k: v.contiguous() for k, v in open_clip.create_model(model).state_dict().items()}, weights)
    precision: Literal["bf16", "fp32"] = "bf16" if device == "cuda" else "fp32"
    encoder = Encoder(model, str(weights), device, precision)
    height, width = encoder.preprocess.size
    pixels = list(np.random.default_rng(0).integers(0, 256, (min(n, BATCH), height, width, 3), np.uint8))
    cosine = (encoder.begin(pixels[:32])() * Encoder(model, str(weights), "cpu", "fp32").begin(pixels[:32])()).sum(1)
    yield Row(f"{model}: 1 - cosine with the CPU in fp32, worst", float(1 - cosine.min()), "at most", 1e-3, "")
    ready = encoder.normalised(pixels)
    with torch.inference_mode():
        bare = seconds(lambda: encoder.model.encode_image(ready)) / len(pixels)
        with FlopCounterMode(display=False) as counted:
            encoder.model.encode_image(ready)
    yield Row(
        f"{model}: TFLOP/s of the forward pass; product of 8192",
        counted.get_total_flops() / len(pixels) / bare / 1e12,
        "matrix product",
        peak(device),
        "TFLOP/s",
    )
    yield from ways(model, gpu_forward.forward_ways(encoder, ready, seconds))
    settings = Model(model=model, pretrained=str(weights), precision=precision, weights="random")
    yield from stage_rows(settings, encoder, n, bare, folder)


def stage_rows(settings: Model, encoder: Encoder, n: int, bare: float, folder: Path) -> Iterator[Row]:
    """The stage `encode` on tars of n JPEGs in all, two in flight as in a worker, beside `bare` seconds an image."""
    model, limits = settings.model, images.Limits()
    stage = Encode(
        encoders={"embedding": settings},
        max_bytes=limits.max_bytes,
        max_pixels=limits.max_pixels,
        max_aspect=limits.max_aspect,
    )
    threads, device = torch.get_num_threads(), encoder.device.type
    context = Context({}, threads=threads, device=device, batch=8192, image_batch=BATCH, prefetch=4)
    (shard,) = sources.shards(Images("webdataset", (pictures(n // SHARDS, folder),))).values()
    some = [sample.image or b"" for sample in islice(sources.read_samples(shard), BATCH)]
    yield from ways(model, gpu_forward.decode_ways(encoder, some, threads, seconds))
    store, products = Store(folder / "run"), Encode.products
    opened = OpenStage(stage, context, store)
    tasks = [
        Task("encode", str(i), "k", {"images": shard}, {p.name: store.path(p, str(i), "k") for p in products})
        for i in range(SHARDS)
    ]

    def encode() -> None:
        with ThreadPoolExecutor(2) as pool:
            if errors := [result.error for result in pool.map(opened.run, tasks) if result.error]:
                raise RuntimeError(errors[0])

    taken = seconds(encode, 1) / n
    yield Row(
        f"{model}: images per second from {SHARDS} tars of JPEGs to FEATURES",
        1 / taken,
        "forward pass alone",
        1 / bare,
        "images/s",
    )
    yield Row(f"{model}: share of the time that the device waits", max(0.0, 1 - bare / taken), "aim", 0.05, "")


def ways(model: str, measured: Iterable[gpu_forward.Way]) -> Iterator[Row]:
    """The rows of other ways to encode: seconds, and how much the results differ from those in use.

    A way that does not work on this machine, such as torch.compile without a compiler, is named and ends them.
    """
    try:
        for way in measured:
            yield Row(f"{model}: {way.what}", way.seconds, way.baseline, way.compared, "s")
            if way.difference is not None:
                yield Row(f"{model}: {way.what}, 1 - cosine, worst", way.difference, "at most", 1e-3, "")
    except RuntimeError as error:
        print(f"{model}: the next way to encode cannot be measured here: {error}")


def fit_rows(sizes: tuple[int, int, int], device: str) -> Iterator[Row]:
    n, d, K = sizes
    X = planted(n, d, K)
    taken = seconds(lambda: fit(X, Discriminant(), K, 0, device), 1)
    search = seconds(lambda: nearest_rows(X.numpy(), 10, device == "cuda"), 1)
    yield Row(f"discriminant, {n:,} x {d}, K {K:,}; one exact search of 10 neighbours", taken, "search", search, "s")


def step_rows(m: int, d: int, device: str) -> Iterator[Row]:
    """A step of the paper's training after the codes, ours with 32 drawn columns and the published form with all."""
    g = torch.Generator().manual_seed(0)
    Z, C = (normalize(torch.randn(m, d, generator=g), dim=1).to(device).requires_grad_() for _ in "ZC")
    settings = Paper(eta=0.12, columns=min(32, m))
    ours = seconds(lambda: torch.autograd.grad(objective(Codes(Z, C), settings, 0, False, g)[0], (Z, C)))
    Pi = membership(C.detach(), 0.12, 5)[0].requires_grad_()
    with torch.device(device):
        some = seconds(lambda: torch.autograd.grad(published_compressed_rate(Z, Pi[:, :SOME], 0.1), (Z, Pi)))
        scaling = seconds(lambda: torch.autograd.grad(published_sinkhorn((C / 0.12) @ C.mT, 5)[1], C))
    yield Row(
        f"a step of the paper's training, m {m:,}, d {d:,}", ours, "published form", some * m / SOME + scaling, "s"
    )


def assign_rows(n: int, d: int, K: int, device: str) -> Iterator[Row]:
    rng = np.random.default_rng(0)
    Z, centroids = (rng.standard_normal((rows, d), np.float32) for rows in (n, K))
    gpu = device == "cuda"
    flat = faiss.IndexFlatIP(d)
    index = faiss.index_cpu_to_all_gpus(flat) if gpu else flat
    index.add(centroids)
    nearest = Nearest(centroids, gpu)
    bare = seconds(lambda: [index.search(Z[i : i + 65_536], 2) for i in range(0, n, 65_536)], 1)
    yield Row(f"assign {n:,} x {d} to {K:,}", seconds(lambda: nearest(Z, 65_536), 1), "bare faiss search", bare, "s")


def name_rows(sizes: tuple[int, int, int], device: str) -> Iterator[Row]:
    n, K, n_words = sizes
    X = normalize(torch.randn(n, 512, generator=torch.Generator().manual_seed(0)), dim=1)
    vectors = np.random.default_rng(0).standard_normal((n_words, 512), np.float32)
    vocabulary = Vocabulary.of([f"word{i}" for i in range(n_words)], vectors)
    cluster = (np.arange(n) % K).astype(np.int32)
    ours = seconds(lambda: vote(X, cluster, vocabulary, X.mean(0), 5, 8192, device), 1)
    words = vocabulary.centred.to(device)

    def bare() -> None:
        for part in X.split(2**25 // n_words):
            (TEMPERATURE * (part.to(device) @ words.T)).softmax(1).topk(min(5, n_words), dim=1)

    yield Row(
        f"votes of {n:,} images of {K:,} clusters for {n_words:,} words",
        ours,
        "product and topk",
        seconds(bare, 1),
        "s",
    )


def duplicate_rows(n: int, cells: int) -> Iterator[Row]:
    """On the CPU, as everywhere: range search has no GPU form in use here."""
    X = planted(n, 128, cells).half().numpy()
    cell = (np.arange(n) % cells).astype(np.int32)
    rows = Rows(cell, np.zeros(n, bool), np.arange(n), np.zeros(n, np.uint64), X)
    ours = seconds(lambda: similar_pairs(rows, 0.95), 1)

    def bare() -> None:
        for k in range(cells):
            members = X[cell == k].astype(np.float32)
            (members @ members.T >= 0.95).nonzero()

    yield Row(
        f"duplicates among {n:,} vectors in {cells:,} cells, on the CPU",
        ours,
        "product of every cell",
        seconds(bare, 1),
        "s",
    )


def planted(n: int, d: int, K: int) -> Tensor:
    """Unit rows around K random directions, float32."""
    g = torch.Generator().manual_seed(0)
    centres = normalize(torch.randn(K, d, generator=g), dim=1)
    return normalize(centres[torch.arange(n) % K] + 0.5 / d**0.5 * torch.randn(n, d, generator=g), dim=1)


def pictures(n: int, folder: Path) -> str:
    """A tar of n JPEGs of 256 x 256 pixels; 64 different ones in turn."""
    rng, files = np.random.default_rng(0), []
    for _ in range(min(n, 64)):
        small = Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8))
        small.resize((256, 256), Image.Resampling.BICUBIC).save(buffer := io.BytesIO(), "JPEG", quality=90)
        files.append(buffer.getvalue())
    with tarfile.open(folder / "pictures.tar", "w") as tar:
        for i in range(n):
            member = tarfile.TarInfo(f"{i:06d}.jpg")
            member.size = len(files[i % len(files)])
            tar.addfile(member, io.BytesIO(files[i % len(files)]))
    return str(folder / "pictures.tar")


def peak(device: str) -> float:
    """TFLOP/s of a product of square bfloat16 matrices, 8192 on a GPU."""
    side = 8192 if device == "cuda" else 512
    A = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    return 2 * side**3 / seconds(lambda: A @ A) / 1e12


def measurements(sizes: Sizes, device: str, folder: Path) -> Iterator[Row]:
    """Equality first, then the short measurements, then the long ones."""
    yield from equality(device)
    for m in sizes.steps:
        yield from step_rows(m, sizes.step_dim, device)
    for model in sizes.models:
        yield from encoder_rows(model, sizes.pictures, device, folder)
    yield from name_rows(sizes.names, device)
    n, d, numbers = sizes.assign
    for K in numbers:
        yield from assign_rows(n, d, K, device)
    yield from duplicate_rows(*sizes.duplicates)
    yield from fit_rows(sizes.fit, device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--small", action="store_true", help="tiny sizes, for a CPU")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    card = torch.cuda.get_device_name() if device == "cuda" else "no GPU"
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    lines = [f"{heading()}, {card}", "", "| what | ours | compared with | its value | unit |", "|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        for row in measurements(SMALL if options.small else FULL, device, Path(folder)):
            rows.append(row)
            lines.append(f"| {row.what} | {row.value:.4g} | {row.baseline} | {row.compared:.4g} | {row.unit} |")
            print(lines[-1], flush=True)
            (options.out / "gpu.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
            record = {"heading": lines[0], "rows": [each._asdict() for each in rows]}
            (options.out / "gpu.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
